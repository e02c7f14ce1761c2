"""References in the documents are valid: files, headings, commands, flags, names of poise."""

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

import poise
from poise.cli import COMMANDS
from poise.commands.arguments import require_command
from poise.commands.flags import require_known_flags

ROOT = Path(__file__).parent.parent
PAGES = [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md")), *ROOT.glob("docs/*.md")]
MODULE = re.compile(r"`((?:[a-z_]+/)+[a-z_]+\.(?:py|txt|md))`")


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path, language: str) -> Iterator[str]:
    """Yield the fenced blocks of a page in one language."""
    yield from re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The valid link targets of a page's headings, as GitHub creates them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands(page: Path) -> Iterator[list[str]]:
    """Yield poise's command lines in a page's console blocks, without what follows a pipe."""
    for block in blocks(page, "console"):
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith("poise "):
                words = shlex.split(line, comments=True)[1:]
                ends = [words.index(one) for one in ("|", ">", "&&", "&", ";") if one in words]
                yield words[: min(ends, default=len(words))]


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_have_targets(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    wrong = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        target = page.parent / file if file else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            wrong.append(link)
    assert wrong == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_named_files_exist(page: Path) -> None:
    places = (ROOT, ROOT / "src" / "poise", page.parent)
    missing = [
        name
        for name in MODULE.findall(page.read_text())
        if not any((place / name).is_file() for place in places)
    ]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_commands_and_flags_are_known(page: Path) -> None:
    for words in commands(page):
        require_command(words, list(COMMANDS))
        if words[0] in COMMANDS:
            require_known_flags(words[0], COMMANDS[words[0]], words[1:])


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_python_blocks_use_existing_names(page: Path) -> None:
    for block in blocks(page, "python"):
        for node in ast.walk(ast.parse(block)):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id == "poise"
            ):
                assert node.attr in poise.__all__


def test_the_pages_contain_commands_and_python() -> None:
    found = [words for page in PAGES for words in commands(page)]
    assert len(found) > 30
    assert sum(len(list(blocks(page, "python"))) for page in PAGES) > 3
