"""`turnsmith new`: a component, its test and a recipe that work, to be changed into your own."""

from __future__ import annotations

import importlib.util
import keyword
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from turnsmith.cli.common import AsJson, print_json
from turnsmith.errors import UsageError

if TYPE_CHECKING:
    from jinja2 import Environment

SKELETONS = Path(__file__).parent / "skeletons"  # a folder for each kind that has a skeleton
HOMES = {
    "format": "data/formats",
    "stage": "stages",
    "view": "data",
    "objective": "objectives",
    "trainable": "trainables",
    "network": "models/networks",
    "decoder": "decoders",
    "scorer": "scorers",
    "agent": "agents",
    "merge": "merges",
    "task": "evaluation/tasks",
}  # where a checkout of Turnsmith keeps them


@dataclass(frozen=True, slots=True)
class Places:
    """Where the three files go. module: what the test imports; inside: whether this is a checkout."""

    component: Path
    test: Path
    recipe: Path
    module: str
    inside: bool

    @property
    def files(self) -> tuple[Path, Path, Path]:
        return self.component, self.test, self.recipe


def command(
    kind: Annotated[
        str, typer.Argument(help="What it is: objective, stage, scorer ... (`methods` lists the kinds).")
    ],
    name: Annotated[str, typer.Argument(help="What it is called: a Python name, e.g. my_loss.")],
    to: Annotated[
        Path | None, typer.Option("--to", metavar="DIR", help="Where the files go, if not here.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a component, its test and a recipe: all three work, and are there to be changed.

    They go into this directory; in a checkout of Turnsmith itself, where its own components are.
    """
    _refuse_kind(kind)
    places = _places(kind, name, to)
    _refuse_name(name, places)
    written = {file: _filled(kind, name, places, file) for file in places.files}
    for file, text in written.items():
        _write(file, text)
    following = _next(name, places)
    if as_json:
        print_json({"kind": kind, "name": name, "files": list(map(str, places.files)), "next": following})
        return
    for file in places.files:
        print(f"wrote   {file}")
    for line in following:
        print(f"next    {line}")


def kinds() -> list[str]:
    """The kinds of components that there are skeletons of."""
    return sorted(folder.name for folder in SKELETONS.iterdir() if folder.is_dir())


def is_checkout(directory: Path) -> bool:
    """Whether the directory is a checkout of Turnsmith itself."""
    file = directory / "pyproject.toml"
    if not (file.is_file() and (directory / "src" / "turnsmith").is_dir()):
        return False
    return tomllib.loads(file.read_text("utf-8")).get("project", {}).get("name") == "turnsmith"


def _places(kind: str, name: str, to: Path | None) -> Places:
    if to is None and is_checkout(Path()):
        home = HOMES[kind]
        return Places(
            Path("src", "turnsmith", home, f"{name}.py"),
            Path("tests", home, f"test_{name}.py"),
            Path("src", "turnsmith", "recipes", f"{name}.yaml"),
            f"turnsmith.{home.replace('/', '.')}.{name}",
            inside=True,
        )
    here = to or Path()
    return Places(here / f"{name}.py", here / f"test_{name}.py", here / f"{name}.yaml", name, inside=False)


# ------------------------------------------------------------------------------------ what is refused


def _refuse_kind(kind: str) -> None:
    from turnsmith.registry import KINDS, suggest

    if kind in kinds():
        return
    if kind in KINDS:
        raise UsageError(f"there is no skeleton of a {kind} yet; there are some of {', '.join(kinds())}")
    raise UsageError(f"{kind!r} is no kind of component{suggest(kind, kinds())}")


def _refuse_name(name: str, places: Places) -> None:
    """Names that are no Python names, that are taken, or under which a file is there already."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        plain = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_0123456789")
        better = f", e.g. {plain}" if plain and not keyword.iskeyword(plain) else ""
        raise UsageError(f"{name!r} cannot be the name: write a Python name in small letters{better}")
    _refuse_taken(name)
    for file in places.files:
        if file.exists():
            raise UsageError(f"{file} is there already: choose another name, or --to DIR")
    if not places.inside and importlib.util.find_spec(name) is not None:
        raise UsageError(f"a file {name}.py would hide the Python module {name!r}: choose another name")


def _refuse_taken(name: str) -> None:
    from turnsmith.recipes import FOLDER, components

    for entry in components().entries():
        if entry.name == name:
            where = f"{entry.module}, line {entry.line}"
            raise UsageError(f"there is already {entry.kind} {name!r} ({where}): choose another name")
    if (FOLDER / f"{name}.yaml").is_file():
        raise UsageError(f"there is already a recipe {name!r} ({FOLDER / name}.yaml): choose another name")


# ------------------------------------------------------------------------------------ what is written


def _filled(kind: str, name: str, places: Places, file: Path) -> str:
    """The text of one of the three files."""
    part = {places.component: "component.py", places.test: "test.py", places.recipe: "recipe.yaml"}[file]
    template = _environment().get_template(f"{kind}/{part}.jinja")
    title = "".join(word.capitalize() for word in name.split("_"))
    return template.render(name=name, title=title, module=places.module, inside=places.inside)


def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(  # what is written is Python and YAML: nothing is to be escaped
        loader=FileSystemLoader(SKELETONS),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )


def _write(file: Path, text: str) -> None:
    from turnsmith.shelf import writing

    with writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("x", encoding="utf-8") as opened:
            opened.write(text)


def _next(name: str, places: Places) -> list[str]:
    """The commands to type now."""
    from turnsmith.recipes.summary import program

    typed = program()
    python = f"{typed.removesuffix('turnsmith')}python" if "/" in typed else "python"
    recipe = name if places.inside else f"{places.recipe} --use {places.component}"
    return [
        f"{python} -m pytest {places.test}",
        f"{typed} check {recipe}",
        f"{typed} run {recipe} --tiny",
        f"{typed} run {recipe}",
    ]
