"""Documents agree with the program and with each other: links lead somewhere, and commands have the flags that they are shown with."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from conftest import PIXELCNN, ROOT, needs_pixelcnn
from pytorch import TORCH

LOG = sorted((ROOT / "docs" / "log").glob("*.md"))  # of earlier versions, whose commands may differ
PAGES = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", *sorted((ROOT / "docs").glob("*.md"))]


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def without_code(text: str) -> str:
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))


def anchors(path: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.M | re.S)
    headings = re.findall(r"^#+ (.*)$", text, flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(path: Path, text: str) -> list[str]:
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", without_code(text)):
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    return broken


@pytest.mark.parametrize("path", [*PAGES, *LOG, *sorted((ROOT / "weights").glob("*.md"))], ids=name)
def test_links_lead_somewhere(path):
    assert broken_links(path, path.read_text()) == []


def test_a_broken_link_is_noticed():
    text = "[a](docs/python.md#checkpoints) [b](docs/nothing.md) [c](docs/python.md#nothing) [d](#nothing) `[e](no)`"
    assert broken_links(ROOT / "README.md", text) == ["docs/nothing.md", "docs/python.md#nothing", "#nothing"]


def commands(text: str) -> list[list[str]]:
    """Command lines of code blocks, also indented ones, split into words."""
    blocks = re.findall(r"^```(?:sh)?\n(.*?)^```", text, flags=re.M | re.S) + re.findall(r"^    (.*)$", text, flags=re.M)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    found = []
    for line in lines:
        if re.match(r"(pixelcnn|uv run scripts/(train|convert)\.py) ", line):
            found.append(shlex.split(line.replace("…", ""), comments=True))
    return found


@cache
def help_of(subcommand: str) -> str:
    command = [PIXELCNN, subcommand]
    if subcommand in ("train", "convert"):
        if subcommand == "train" and not TORCH:
            pytest.skip("needs PyTorch")
        python = TORCH if subcommand == "train" else sys.executable
        command = [python, ROOT / "scripts" / f"{subcommand}.py"]
    return subprocess.run([*command, "--help"], capture_output=True, text=True, check=True).stdout


def unknown_flags(words: list[str]) -> list[str]:
    if words[0] == "uv":
        words = ["pixelcnn", Path(words[2]).stem, *words[3:]]
    described = help_of(words[1])
    flags = [word.split("=")[0] for word in words[2:] if re.match(r"--?[a-z]", word)]
    return [flag for flag in flags if not re.search(rf"(^|[\s,]){re.escape(flag)}([\s,=]|$)", described, flags=re.M)]


@needs_pixelcnn
@pytest.mark.parametrize("path", PAGES, ids=name)
def test_commands_have_the_flags_that_they_are_shown_with(path):
    unknown = {" ".join(words): unknown_flags(words) for words in commands(path.read_text())}
    assert {command: flags for command, flags in unknown.items() if flags} == {}


@needs_pixelcnn
def test_an_unknown_flag_is_noticed():
    lines = "```sh\npixelcnn sample -n 3 --colour red   # a comment\nuv run scripts/convert.py x -o y --tallness 3\n```\n"
    assert [unknown_flags(words) for words in commands(lines)] == [["--colour"], ["--tallness"]]


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().split()) <= 600


def test_evaluators_have_one_command_in_both_places():
    """scripts/test_evaluators runs those of docs/evaluating.md."""
    rows = re.findall(r"^\| \[.*\| `([^`]*)` \|$", (ROOT / "docs" / "evaluating.md").read_text(), re.M)
    assert len(rows) == 4 and all(f"\n{row}" in (ROOT / "README.md").read_text() for row in rows)
