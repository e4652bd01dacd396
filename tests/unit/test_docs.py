"""The pages: those made from the code are what the code makes, links lead somewhere, blocks say what they are."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.docs.__main__ import PAGES
from tests.docs.blocks import MARKS, blocks, pages
from tests.sidecar import ROOT


@pytest.mark.parametrize("name", PAGES)
def test_made_pages_are_up_to_date(name: str) -> None:
    assert (ROOT / "docs" / name).read_text() == PAGES[name](), "make docs"


def test_every_variable_of_opentelemetry_is_told_of() -> None:
    read = set(re.findall(r'"(OTEL_\w+)"', (ROOT / "proxy/config/otel.py").read_text()))
    assert read == set(re.findall(r"`(OTEL_\w+)`", PAGES["configuration.md"]()))


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text()
    for place in re.findall(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"", text):
        target, _, anchor = "".join(place).partition("#")
        if "://" in target:
            continue
        file = (page.parent / target) if target else page
        assert file.exists(), f"{page.name}: {target}"
        if anchor and file.suffix == ".md":
            assert anchor in _anchors(file), f"{page.name}: {target}#{anchor}"


def _anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    prose = re.sub(r"(?ms)^```.*?^```", "", page.read_text())
    heads = re.findall(r"(?m)^#+ (.*)$", prose)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def test_every_page_is_linked_from_the_readme() -> None:
    text = (ROOT / "README.md").read_text()
    assert [page.name for page in pages()[1:] if f"(docs/{page.name}" not in text] == []


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.stem)
def test_commands_say_whether_they_are_run(page: Path) -> None:
    """And are fenced: what is only indented would be run by nobody."""
    known = (ROOT / ".ci/run").read_text() + (ROOT / "Makefile").read_text()
    for block in blocks(page):
        assert block.language not in ("bash", "shell", "console", "shell-session"), f"{page.name}:{block.line}: sh"
        if block.commands:
            assert block.mark in MARKS, f"{page.name}:{block.line}: {block.mark}"
        for line in block.text.splitlines() if block.commands and block.mark == "ci" else ():
            command = line.partition("#")[0].strip()
            target = re.fullmatch(r"make (\w+)", command)
            assert not command or (f"\n{target[1]}:" if target else command) in known, f"{page.name}: {command}"
        for module in re.findall(r"-m (tests[.\w]*)", block.text if block.mark == "long" else ""):
            assert find_spec(module), f"{page.name}: {module}"
    indented = re.findall(r"(?:^|\n)\n    (redspan|pip|make|curl|REDIS_URL)\b", page.read_text())
    assert indented == [], f"{page.name}: fence them"


def test_the_picture_is_one() -> None:
    root = ET.parse(ROOT / "docs/trace.svg").getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    text = " ".join(root.itertext())
    for word in ("queue.enqueue", "queue.dequeue", "job.process"):
        assert word in text
