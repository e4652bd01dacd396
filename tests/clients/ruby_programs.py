"""Ruby programs of the tests: the files in ``ruby/``, run with Debian's own packages of the gems."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from tests.clients.json_programs import JsonProgram

_HERE = Path(__file__).resolve().parent / "ruby"


class RubyProgram(JsonProgram):
    def __init__(self, program: str, log: Path, role: str, url: str, options: dict[str, Any]) -> None:
        ruby = shutil.which("ruby")
        assert ruby is not None, "these tests run with Ruby 3.1 and Debian's ruby-sidekiq, and there is no ruby"
        super().__init__([ruby, str(_HERE / program), role, url, json.dumps(options)], log)
