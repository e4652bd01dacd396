"""PHP programs of the tests: the files in ``php/``, run with Debian's own packages of Laravel's components."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from tests.clients.json_programs import JsonProgram

_HERE = Path(__file__).resolve().parent / "php"


class PhpProgram(JsonProgram):
    def __init__(self, program: str, log: Path, role: str, url: str, options: dict[str, Any]) -> None:
        php = shutil.which("php")
        assert php is not None, "these tests run with PHP 8.2 and Debian's php-illuminate-queue, and there is no PHP"
        super().__init__([php, str(_HERE / program), role, url, json.dumps(options)], log)
