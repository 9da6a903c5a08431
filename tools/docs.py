"""Writes the pages that can be known from the code: components, recipes, commands, papers, results.

    python tools/docs.py            writes them
    python tools/docs.py --check    only says which are stale; exit code 1 if any is

They are kept in the repository, so that they can be read where it is shown; a test requires that they are
fresh. Torch is never imported: components are read from their source text.
"""

from __future__ import annotations

import ast
import html
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from turnsmith.models import needs
from turnsmith.recipes import FOLDER, schema, wiring
from turnsmith.registry import KINDS, REQUIRED, Entry, Kind, Option, Registry
from turnsmith.report.results import between, brief, table
from turnsmith.types import is_list, is_object

ROOT = Path(__file__).resolve().parent.parent
HELD = ROOT / "tests/data/templates.json"  # what holds for chat templates
CHECKS = ROOT / "src/turnsmith/testing/templates.py"
REFERENCE = Path("docs", "reference")
PAPER = re.compile(r"arXiv:(\d{4}\.\d{4,5})")
LISTS = {"stages": "stage", "suite": "task"}  # keys of a recipe that hold several components of a kind
BASE = "smollm2-135m-instruct"
GIVEN = {
    "int": 100,
    "float": 1.0,
    "str": "heldout",
    "Chat": "base",
    "Scorer": "rules",
    "Examples": "heldout",
    "tuple[int, ...]": [0, 1, 28, 29],
    "tuple[str, ...]": ["hoppy", "smooth", "bitter", "sour"],
    "Mapping[str, float]": {"english": 0.9, "latin": 0.1},
    "dict[str, str]": {"no": "bad", "yes": "good"},
    "Mapping[str, str]": {"^Is (.+) true[?]$": "Name \\1."},
    "dict[str, int]": {"list": 1, "presence": 2},
    "dict[str, float]": {"poor": 0.5, "good": 0.5},
    "tuple[str, str]": ["poor", "good"],
}  # for options without a default, in examples


def main(arguments: Sequence[str]) -> int:
    """Write all pages, or with `--check` say which are stale."""
    made, there = pages(), written()
    stale = [path for path in sorted({*made, *there}) if made.get(path) != there.get(path)]
    for path in stale:
        print(f"{'stale' if '--check' in arguments else 'wrote' if path in made else 'removed'}   {path}")
        if "--check" in arguments:
            continue
        file = ROOT / path
        if path in made:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(made[path], "utf-8")
        else:
            file.unlink()
    return 1 if stale and "--check" in arguments else 0


def pages() -> dict[str, str]:
    """Path in the repository -> text, of every page that is generated."""
    registry = Registry()
    entries, recipes = registry.entries(), read_recipes(registry)
    used = {name: uses(plain, registry) for name, plain in recipes.items()}
    rows: list[dict[str, Any]] = json.loads((ROOT / "docs/results.json").read_text("utf-8"))
    found = {
        "index.md": index(entries, recipes),
        "papers.md": papers(entries, recipes),
        "templates.md": templates(),
        **{f"{entry.kind}/{entry.name}.md": component(entry, used, registry) for entry in entries},
        **{f"recipe/{name}.md": recipe(name, plain, rows) for name, plain in recipes.items()},
        **{page(name): command(name, made) for name, made in commands().items()},
    }
    readme = (ROOT / "README.md").read_text("utf-8")
    tables = {"components": inventory(entries), "commands": verbs(), "results": brief(rows)}
    for name, text in tables.items():
        readme = between(readme, name, text)
    return {
        **{(REFERENCE / name).as_posix(): f"{text.strip()}\n" for name, text in found.items()},
        "docs/results.md": results(rows),
        "README.md": readme,
    }


def written() -> dict[str, str]:
    """Path -> text, of every page of these that is there."""
    files = [*(ROOT / REFERENCE).rglob("*.md"), ROOT / "docs/results.md", ROOT / "README.md"]
    return {file.relative_to(ROOT).as_posix(): file.read_text("utf-8") for file in files if file.is_file()}


# ------------------------------------------------------------------------------------- components


def component(entry: Entry, used: Mapping[str, set[tuple[str, str]]], registry: Registry) -> str:
    """The page of one component. used: the components of each recipe, by its name."""
    traits = {"source": linked(entry.source)} if entry.source else {}
    traits |= {key: shown(value) for key, value in entry.traits.items() if key not in ("source", "version")}
    traits["module"] = f"`{entry.module}`"
    options = [(code(o.name), code(o.type), code(o.default)) for o in entry.options]
    using = [name for name, there in used.items() if (entry.kind, entry.name) in there]
    example = in_recipe(entry, registry)
    parts = [
        f"# {entry.name}",
        f"*{entry.kind.capitalize()}.* {linked(prose(entry.text))}",
        "\n".join(f"* {key}: {value}" for key, value in traits.items()),
        "## Options",
        rows_of(("option", "type", "default"), options) if options else "It has none.",
        f"## In a recipe\n\n```yaml\n{example}```",
        "## Recipes that use it" if using else "",
        "\n".join(f"* [{name}](../recipe/{name}.md)" for name in using),
    ]
    return "\n\n".join(part for part in parts if part)


def in_recipe(entry: Entry, registry: Registry) -> str:
    """A whole recipe with the component in it, with every option."""
    options = {option.name: given(option.type, option.default) for option in entry.options}
    options |= dict.fromkeys(entry.names("models"), "base")
    options = {name: value for name, value in options.items() if value is not None}
    said: Any = {entry.name: options} if options else entry.name
    pairs = "chosen" in entry.names("parts")
    data: dict[str, Any] = {"name": {"train": 0.9, "heldout": 0.1}, "read": "chats.jsonl"}
    data["read"] = "pairs.jsonl" if pairs else data["read"]
    train: dict[str, Any] = {"name": "tuned", "data": "train", "fit": {"epochs": 1}}
    steps: list[dict[str, Any]] = [{"data": data}, {"train": train}]
    if entry.kind == "format":
        data["format"] = entry.name
    elif entry.kind == "stage":
        data["stages"] = [said]
    elif entry.kind == "scorer":
        data["stages"] = [{"scored": {"by": {entry.name: options}}}]
    elif entry.kind == "agent":
        stages = [{"converse": {"by": "base", "user": {entry.name: options}}}]
        if entry.names("beside"):  # it names data, which have to be there before
            steps.insert(1, {"data": {"name": "talks", "from": "train", "stages": stages}})
        else:
            data["stages"] = stages
    elif entry.kind in ("view", "objective", "trainable"):
        train[entry.kind] = said
        train |= {"beside": dict.fromkeys(beside, "heldout")} if (beside := entry.names("beside")) else {}
        if entry.names("extras"):
            single = [] if "replies" in entry.parts else ["each_answer"]
            drawn = {"answers": {"by": "tuned", "reward": "rules"}}
            train["collect"] = {"stages": [drawn, *single], "examples": 64}
            train["fit"] = {"steps": 100, "reference": "live"}
        elif entry.traits.get("looks") and entry.traits.get("reference"):
            train["fit"]["reference"] = "live"
        if others := needs.others(entry.names("needs")):
            train["others"] = dict.fromkeys(others, BASE)
    elif entry.kind == "task":
        steps.append({"evaluate": {"model": "tuned", "suite": [said]}})
    elif entry.kind == "decoder":
        members = dict.fromkeys(entry.names("members"), "tuned") | {entry.names("members")[0]: "base"}
        steps.append({"combine": {"name": "combined", "decoder": said, "members": members}})
    elif entry.kind == "merge":
        train["trainable"] = "full"
        steps.append({"merge": {"name": "merged", "models": ["tuned"], "method": said}})
    base = said if entry.kind == "network" else BASE
    plain = {"title": f"{entry.name} in a recipe", "base": base, "steps": steps}
    schema.arms(plain, f"the example of {entry.kind} {entry.name}", registry)
    return yaml.safe_dump(plain, sort_keys=False, default_flow_style=None, width=100)


def given(type: str, default: str) -> Any:
    """The default, or something of the type, as YAML has it."""
    value: Any = GIVEN.get(type) if default == REQUIRED else Option("", type, default).value
    return json.loads(json.dumps(value))


# ---------------------------------------------------------------------------------------- recipes


def read_recipes(registry: Registry) -> dict[str, dict[str, Any]]:
    """Name -> what its file says, each checked."""
    found: dict[str, dict[str, Any]] = {}
    for file in sorted(FOLDER.glob("*.yaml")):
        found[file.stem] = schema.parse(file.read_text("utf-8"), file.name)
        schema.arms(found[file.stem], file.name, registry)
    return found


def recipe(name: str, plain: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """The page of one recipe."""
    own = [row for row in rows if row["recipe"] == name]
    minutes = f"About {plain['minutes']:g} minutes on two cores." if plain.get("minutes") else ""
    source = f"Source: {linked(str(plain['source']))}." if plain.get("source") else ""
    text = (FOLDER / f"{name}.yaml").read_text("utf-8")
    lines = [f"turnsmith {verb} {name}" for verb in ("run", "claims") if verb == "run" or plain.get("claim")]
    typed = "\n".join(lines)
    parts = [
        f"# {name}",
        prose(str(plain["title"])) + ".",
        f"{source} {minutes}".strip(),
        f"```console\n{typed}\n```",
        f'```yaml title="{name}.yaml"\n{text}```',
        f"## What came of its claim\n\n{table(own)}" if own else "",
    ]
    return "\n\n".join(part for part in parts if part)


def uses(plain: Mapping[str, Any], registry: Registry) -> set[tuple[str, str]]:
    """(kind, name) of every component that a recipe has in it, defaults included."""
    found: set[tuple[str, str]] = set()
    names = {(entry.kind, entry.name) for entry in registry.entries()}
    for arm in schema.arms(plain, "recipe", registry):
        found.update(_uses(arm.recipe.model_dump(mode="json"), ""))
        found.update(_parts(arm.recipe, registry))
    return {(kind, name) for kind, name in names if {(kind, name), ("", name)} & found}


def _parts(recipe: schema.Recipe, registry: Registry) -> Iterator[tuple[str, str]]:
    """(kind, name) of the agents and scorers in the options of stages and tasks."""
    for step in schema.flat(recipe.steps):
        holders: list[tuple[Kind, schema.Component]] = []
        if step.data:
            holders.extend(("stage", one) for one in step.data.stages)
        if step.train and step.train.collect:
            holders.extend(("stage", one) for one in step.train.collect.stages)
        if step.evaluate:
            holders.extend(("task", one) for one in step.evaluate.suite)
        for kind, component in holders:
            for _, its_kind, one in wiring.inner(kind, component, registry):
                yield its_kind, one.name


def _uses(value: Any, key: str) -> Iterator[tuple[str, str]]:
    """(kind, name) of what stands under keys that say a kind; the kind is empty under any other key."""
    kind = LISTS.get(key, key) if LISTS.get(key, key) in KINDS else ""
    if is_list(value):
        for one in value:
            yield from _uses(one, key)
    elif is_object(value) and set(value) == {"name", "options"}:
        yield kind, str(value["name"])
    elif is_object(value):
        for inner, one in value.items():
            yield from _uses(one, str(inner))
    elif key == "format" and isinstance(value, str):
        yield "format", value


# --------------------------------------------------------------------------------------- commands


def commands() -> dict[str, Any]:
    """Name -> the command that typer made. `data show` is a name; `data` is what it does without a verb."""
    import typer

    from turnsmith.cli.main import app

    group: Any = typer.main.get_command(app)
    found: dict[str, Any] = {}
    for name, made in group.commands.items():
        inner: dict[str, Any] = getattr(made, "commands", {})
        usual = getattr(made, "default", None)  # the verb that need not be said
        found |= {} if inner and usual is None else {name: inner[usual] if usual else made}
        found |= {f"{name} {verb}": one for verb, one in inner.items() if verb != usual}
    return found


def page(name: str) -> str:
    """Where the page of a command lies in the reference."""
    return f"command/{name.replace(' ', '-')}.md"


def command(name: str, made: Any) -> str:
    """The page of one command."""
    arguments = [
        (f"`{called(one)}`", prose(one.help or "")) for one in made.params if kind_of(one) == "argument"
    ]
    options = [
        (f"`{', '.join(one.opts)}`", prose(one.help or ""), default(one))
        for one in made.params
        if kind_of(one) == "option"
    ]
    parts = [
        f"# turnsmith {name}",
        prose(made.help or ""),
        f"```text\nturnsmith {usage(name, made)} [OPTIONS]\n```",
        rows_of(("argument", ""), arguments) if arguments else "",
        rows_of(("option", "", "default"), options),
    ]
    return "\n\n".join(part for part in parts if part)


def verbs() -> str:
    """The table of commands for the README."""
    lines = [(f"`{usage(name, made)}`", sentence(made.help or "")) for name, made in commands().items()]
    return rows_of(("command", ""), lines)


def usage(name: str, made: Any) -> str:
    """`run RECIPE`: the command with its arguments, and those options that it cannot do without."""
    said = [(one.required, called(one)) for one in made.params if kind_of(one) == "argument"]
    needed = [
        f"{one.opts[0]} {called(one)}" for one in made.params if kind_of(one) == "option" and one.required
    ]
    return " ".join([name, *(word if must else f"[{word}]" for must, word in said), *needed])


def kind_of(parameter: Any) -> str:
    return str(parameter.param_type_name)


def called(parameter: Any) -> str:
    several = "..." if parameter.nargs == -1 else ""
    return f"{parameter.metavar or parameter.name.upper()}{several}"


def default(parameter: Any) -> str:
    return (
        ""
        if parameter.default in (None, False, ()) or callable(parameter.default)
        else code(str(parameter.default))
    )


# ------------------------------------------------------------------------------ lists of everything


def inventory(entries: Sequence[Entry]) -> str:
    """The names of all components by kind, for the README."""
    lines: list[tuple[str, str]] = []
    for kind in KINDS:
        own = [f"[{e.name}](docs/reference/{kind}/{e.name}.md)" for e in entries if e.kind == kind]
        lines.append((f"{kind}s", ", ".join(own)))
    return rows_of(("components", ""), lines)


def index(entries: Sequence[Entry], recipes: Mapping[str, Mapping[str, Any]]) -> str:
    """All components, recipes and commands in one page."""
    parts = ["# Reference", "These pages are made from the code by `tools/docs.py`."]
    for kind in KINDS:
        own = [(f"[{e.name}]({kind}/{e.name}.md)", prose(e.summary)) for e in entries if e.kind == kind]
        parts += [f"## {kind.capitalize()}s", rows_of((kind, ""), own)] if own else []
    named = [(f"[{name}](recipe/{name}.md)", prose(str(plain["title"]))) for name, plain in recipes.items()]
    parts += ["## Recipes", rows_of(("recipe", ""), named)]
    typed = [(f"[{name}]({page(name)})", sentence(made.help or "")) for name, made in commands().items()]
    parts += ["## Commands", rows_of(("command", ""), typed)]
    return "\n\n".join(parts)


def papers(entries: Sequence[Entry], recipes: Mapping[str, Mapping[str, Any]]) -> str:
    """Each paper with the components and recipes that name it as their source."""
    found: dict[str, tuple[list[str], list[str]]] = {}
    for entry in entries:
        for paper in PAPER.findall(entry.source):
            place = entry.source.split(paper, 1)[1].strip(" ,;")
            named = f"[{entry.kind} {entry.name}]({entry.kind}/{entry.name}.md)" + (
                f", {place}" if place else ""
            )
            found.setdefault(paper, ([], []))[0].append(named)
    for name, plain in recipes.items():
        for paper in PAPER.findall(str(plain.get("source", ""))):
            found.setdefault(paper, ([], []))[1].append(f"[{name}](recipe/{name}.md)")
    lines = [
        (linked(f"arXiv:{paper}"), "; ".join(ones), "; ".join(others))
        for paper, (ones, others) in sorted(found.items())
    ]
    return f"# Papers\n\n{rows_of(('paper', 'components', 'recipes'), lines)}"


def templates() -> str:
    """What holds for each real chat template."""
    known: dict[str, dict[str, str]] = json.loads(HELD.read_text("utf-8"))
    heads = ("load", "ids", "text", "prompt", "parse", "thinking", "calls", "history")
    made = [(name, row) for name, row in known.items() if row["load"] == "pass"]
    rows = [(code(name), *(row[head] for head in heads[1:])) for name, row in made]
    refused = [(code(name), prose(row["load"])) for name, row in known.items() if row["load"] != "pass"]
    source = ast.parse(CHECKS.read_text("utf-8"))
    checks = {one.name: one for one in source.body if isinstance(one, ast.FunctionDef)}
    explained = ast.get_docstring(checks["properties"]) or ""
    return (
        f"# Chat templates\n\n{len(made)} of {len(known)} templates of real models can be tuned on; the "
        "others are refused with the reason. Each has SmolLM2's tokenizer, to which the special tokens that "
        "it writes were added, and renders generated conversations: unicode, spaces, special tokens in what "
        f"is said, thoughts, calls. `turnsmith.testing.properties` checks your own.\n\n{prose(explained)}\n\n"
        f"{rows_of(('template', *heads[1:]), rows)}\n\n## Refused\n\n{rows_of(('template', 'why'), refused)}"
    )


def results(rows: Sequence[Mapping[str, Any]]) -> str:
    """The page of all verdicts."""
    return (
        "# Results\n\nEach recipe states a claim; `turnsmith claims NAME` runs it in full and judges it from "
        "its interval alone: it holds where the whole interval lies beyond the bound, fails where all of it "
        "lies on the other side, and is undecided otherwise. The control is the same recipe with the method "
        "taken out; it may show one statement of a claim, and where it shows all of them the claim fails. A "
        "claim that failed stays in the table. The "
        f"figures are in `docs/results.json`.\n\n{table(rows)}\n"
    )


# ------------------------------------------------------------------------------------------ words


def linked(source: str) -> str:
    """A source, its arXiv numbers as links."""
    return PAPER.sub(r"[arXiv:\1](https://arxiv.org/abs/\1)", source)


def prose(text: str) -> str:
    """Plain text as Markdown that shows it: outside of `code`, nothing is a sign."""
    pieces = re.split(r"(`[^`]*`)", text)
    return "".join(
        piece if piece.startswith("`") else re.sub(r"([*_<>|\[\]])", r"\\\1", piece) for piece in pieces
    )


def sentence(text: str) -> str:
    """The first sentence, without its full stop."""
    return prose(" ".join(re.split(r"(?<=\.)\s", text.strip(), maxsplit=1)[0].split()).removesuffix("."))


def shown(value: Any) -> str:
    """The value of a trait in words."""
    listed = json.loads(json.dumps(value))
    if is_list(listed):
        return ", ".join(" with ".join(one) if is_list(one) else str(one) for one in listed)
    return "yes" if value is True else code(str(value))


def code(text: str) -> str:
    """Text as code, in a way that a `|` in it does not end the cell of a table."""
    if "|" not in text:
        return f"`{text}`"
    return f"<code>{html.escape(text, quote=False).replace('|', '&#124;')}</code>"


def rows_of(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(' '.join(cell.split()) for cell in line)} |" for line in lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
