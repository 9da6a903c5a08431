"""Every block of code in the pages: Python runs, recipes are valid, commands are those that there are."""

import ast
import contextlib
import importlib
import json
import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer

from turnsmith.cli.main import app, call
from turnsmith.recipes import components, schema, yaml12

ROOT = Path(__file__).resolve().parents[2]
FILES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [file.relative_to(ROOT).as_posix() for file in FILES if file.is_file()]
FENCE = re.compile(r'^```([a-z]*)(?: title="([^"]*)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
TYPED = re.compile(r"^(?:\$ )?(?:\.venv/bin/)?(turnsmith|make) +(.+?)(?: +#.*)?$", re.MULTILINE)
IN_PART = "in part"  # a block whose title ends on this leaves something out, and says so
CHEAP = ("new", "show", "methods", "data")  # these are carried out, where what they read is there


@dataclass(frozen=True, slots=True)
class Block:
    """Code in a page. title: a file name, where the block is a file."""

    place: str
    language: str
    title: str
    text: str

    @property
    def whole(self) -> bool:
        return not self.title.endswith(IN_PART)


def blocks(page: str, text: str) -> Iterator[Block]:
    """The blocks of a page in order. Raises ValueError where something looks like one and is none."""
    found = list(FENCE.finditer(text))
    if len(re.findall(r"^ *```", text, re.MULTILINE)) != 2 * len(found):
        raise ValueError(f'{page}: write blocks unindented, as ```language or ```language title="..."')
    for match in found:
        place = f"{page}, line {text.count(chr(10), 0, match.start()) + 1}"
        yield Block(place, match[1], match[2] or "", match[3])


@pytest.mark.parametrize("page", PAGES)
def test_the_blocks_of_a_page_work(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    names = {"__name__": page}
    for block in blocks(page, (ROOT / page).read_text("utf-8")):
        if block.whole and "." in block.title:
            Path(block.title).write_text(block.text)
        with named(block):
            try_out(block, names)


@contextlib.contextmanager
def named(block: Block) -> Iterator[None]:
    """Says which block it was that went wrong."""
    try:
        yield
    except Exception as error:
        error.add_note(f"in the block at {block.place}")
        raise


def try_out(block: Block, names: dict) -> None:
    match block.language:
        case "python" if not block.whole:
            ast.parse(block.text)
        case "python" if block.title:
            sys.modules.pop(Path(block.title).stem, None)  # another page may have a file of this name
            importlib.import_module(Path(block.title).stem)
        case "python":
            exec(compile(block.text, block.place, "exec"), names)
        case "yaml":
            try_recipe(block)
        case "json":
            assert all(json.loads(line) for line in block.text.splitlines())
        case "" | "console" | "sh":
            for program, words in typed(block.text):
                try_command(program, words)
        case language:
            assert language == "text", f"nobody knows how to try {language!r} out"


def try_recipe(block: Block) -> None:
    if not block.whole:
        yaml12.load(block.text)
        return
    known = components([*Path().glob("*.py")])
    for tiny in (False, True):
        assert schema.arms(schema.parse(block.text, block.place), block.place, known, tiny=tiny)


def typed(text: str) -> list[tuple[str, list[str]]]:
    """(program, arguments) of each line that is typed."""
    return [(match[1], shlex.split(match[2])) for match in TYPED.finditer(text)]


def try_command(program: str, words: list[str]) -> None:
    if program == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
        assert [word for word in words if "=" not in word and word not in targets] == []
        return
    group = typer.main.get_command(app)
    name, verb, rest = group.resolve_command(group.make_context("turnsmith", [*words]), [*words])
    verb.make_context(name, rest)  # raises for an unknown option and a missing argument
    if name in CHEAP and ready(name, words):
        assert call(words) == 0


def ready(name: str, words: list[str]) -> bool:
    """Whether the page has the files that the command reads, and nobody has a component of the new name."""
    if name == "new":
        return words[2] not in [entry.name for entry in components().entries()]
    return all(Path(word).is_file() for word in words if "." in word)


# ------------------------------------------------------------------------ that these tests can fail


def test_typed_lines_are_told_from_what_is_printed():
    text = (
        "$ turnsmith run a.yaml --tiny  # soon\n.venv/bin/turnsmith new stage x\nmake test ARGS='a b'\n"
        "next    turnsmith chat a\n  make nothing\n"
    )
    assert typed(text) == [
        ("turnsmith", ["run", "a.yaml", "--tiny"]),
        ("turnsmith", ["new", "stage", "x"]),
        ("make", ["test", "ARGS=a b"]),
    ]


@pytest.mark.parametrize(
    ("language", "title", "text", "said"),
    [
        ("python", "", "assert 1 == 2, 'no'", "no"),
        ("python", "some.py, in part", "def f(:", "invalid syntax"),
        ("yaml", "", "title: a\nbase: ./b\nsteps: []\nstep: []", "unknown key step"),
        ("json", "", "{'a': 1}", "Expecting property name"),
        ("console", "", "turnsmith run quickstart --tinny", "--tinny"),
        ("", "", "make nothing-there", "nothing-there"),
        ("sh", "", "turnsmith show nothing-there", "assert 2 == 0"),
        ("rust", "", "", "nobody knows how to try 'rust' out"),
    ],
)
def test_what_is_wrong_in_a_block_is_found(language, title, text, said):
    with pytest.raises(Exception, match=said):
        try_out(Block("here", language, title, text), {})


def test_a_fence_that_is_not_understood_is_not_passed_over():
    with pytest.raises(ValueError, match="page: write blocks unindented"):
        list(blocks("page", "* item\n\n  ```python\n  1 / 0\n  ```\n"))
