"""Kinds and names of components, and the options that their signatures declare.

A component is a function (or class) under a decorator named after its kind. Its keyword-only parameters are
its options. The index is read from source text with `ast`, so that listing, showing and checking options
never import torch; the module itself is imported when the component is first used.
"""

from __future__ import annotations

import ast
import difflib
import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from turnsmith.errors import UsageError
from turnsmith.types import Example, Json, Size, is_object

Kind = Literal[
    "format",
    "stage",
    "view",
    "objective",
    "trainable",
    "network",
    "decoder",
    "scorer",
    "agent",
    "merge",
    "task",
]
KINDS: tuple[Kind, ...] = get_args(Kind)
HOMES = (
    "data",
    "models/networks",
    "objectives",
    "trainables",
    "decoders",
    "scorers",
    "agents",
    "stages",
    "merges",
    "evaluation",
)  # folders of components
ENTRY_POINTS = "turnsmith.components"
REQUIRED = "(required)"
GIVEN = ("rng", "counts")  # keywords that the runner fills in; they are no options


@dataclass(frozen=True, slots=True)
class Option:
    """One keyword-only parameter: its annotation and default as they stand in the source."""

    name: str
    type: str
    default: str

    @property
    def value(self) -> Any:
        """The default itself: a literal, or arithmetic on numbers, such as 2 / 3."""
        return eval(self.default, {"__builtins__": {}})


@dataclass(frozen=True, slots=True)
class Entry:
    """A component as its source text describes it."""

    kind: Kind
    name: str
    function: str
    module: str  # dotted name, or a path for files given by `--use`
    line: int
    summary: str
    text: str
    options: tuple[Option, ...]
    traits: Mapping[str, Json] = field(default_factory=dict[str, Json])

    @property
    def source(self) -> str:
        """The paper and equation."""
        return str(self.traits.get("source", ""))

    def names(self, trait: str) -> tuple[str, ...]:
        """A trait that lists names; empty where it is not declared."""
        found = self.traits.get(trait, ())
        assert isinstance(found, list | tuple)
        return tuple(map(str, found))

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts of an example that it needs: `text` where it declares none."""
        return self.names("parts") if "parts" in self.traits else ("text",)

    @property
    def version(self) -> int:
        """Raised by its author when its output changes; part of the hash of every artefact made with it."""
        version = self.traits.get("version", 1)
        assert isinstance(version, int)
        return version


def bound(component: Callable[..., Any], options: Mapping[str, Any]) -> Callable[..., Any]:
    """A component with its options: an object of a class that is made with them, or a function that has them.

    >>> bound(round, {"ndigits": 1})(0.25)
    0.2
    """
    return component(**options) if isinstance(component, type) else functools.partial(component, **options)


# ------------------------------------------------------------------------------------- decorators

F = TypeVar("F", bound=Callable[..., Any])
Write = Callable[[Example], tuple[dict[str, Json], tuple[str, ...]]]
# By the module that it stands in too: two files of a user's may have different components of one name.
_loaded: dict[tuple[str, Kind, str], Callable[..., Any]] = {}
_writers: dict[Callable[..., Any], Write] = {}


def _register(kind: Kind, name: str) -> Callable[[F], F]:
    def keep(function: F) -> F:
        _loaded[function.__module__, kind, name] = function
        return function

    return keep


def format(
    name: str,
    *,
    columns: tuple[tuple[str, ...], ...] = (),
    marks: Mapping[str, str] | None = None,
    writer: Write | None = None,
    version: int = 1,
) -> Callable[[F], F]:
    """A reader of rows: `(row) -> Parsed`. columns: sets of keys, any of which marks this format.

    marks: regular expressions for what the text of columns begins with, where their names alone do not tell.
    writer: the way back, `(example) -> (row, names of what the format cannot say)`.
    """

    def keep(function: F) -> F:
        if writer is not None:
            _writers[function] = writer
        return _register("format", name)(function)

    return keep


def stage(
    name: str,
    *,
    chats: tuple[str, ...] = (),
    scorers: tuple[str, ...] = (),
    source: str = "",
    version: int = 1,
) -> Callable[[F], F]:
    """`(examples, *, options) -> iterable of examples`.

    chats: options that name a model, or an agent as `{name: options}`; the stage is given a `Chat`. scorers:
    options that name a scorer; the stage is given a `Scorer`. The keywords `rng` (a `random.Random`) and
    `counts` (a `Counter` of what a reader should know of) are given too, to a stage that asks for them.
    """
    return _register("stage", name)


Per = Literal["token", "sequence", "example"]


def objective(
    name: str,
    *,
    per: Per,
    parts: tuple[str, ...] = ("text",),
    reference: bool = False,
    reads: tuple[str, ...] = (),
    linear: bool = False,
    needs: tuple[str, ...] = (),
    heads: Mapping[str, Size | tuple[str, str, int]] | None = None,
    targets: Mapping[str, str] | None = None,
    values: tuple[str, ...] = (),
    forward: bool = False,
    extras: tuple[str, ...] = (),
    beside: tuple[str, ...] = (),
    network: str = "",
    words: bool = True,
    source: str = "",
    version: int = 1,
) -> Callable[[F], F]:
    """`(scores, *, options) -> Loss`, one value per unit. Or a class made with the options that is called so.

    per: the unit whose global count divides the sum of the values. parts: conversations it needs in each
    example; a value per `token` depends on its own conversation only, since trees over the row are cut.
    reference: needs log-probs under the start. reads: of each path's states, `first`, `last` or `mean`.
    linear: in the log-probs, with factors from the batch: the head's gradient then takes one pass. needs:
    `entropy`, `argmax`, `logsumexp`, `max`, `HEAD:max`, of logits divided by an option `HEAD:max/{option}`,
    or beside a model of the step's `others` `kl:NAME`, `reverse_kl:NAME`, how far its layers are,
    `states:NAME` and `attention:NAME`, and what its own heads say, `heads:NAME`. heads: learn too; their
    size, `vocab`, `("mlp", 1)` behind a hidden layer, `("own", 1)` on each trained token's own state,
    `("last", 1)` on a read-out, or `("{option}", "narrow", 1)` on one that an option names, behind two
    layers. targets: heads that a copy NAME_target follows, and the option that says how much of the way it
    goes after each step. values: numbers that it needs of each example. forward: it is given a `Run` in place
    of scores, with which it computes them, more than once or of other inputs. extras: numbers for each
    trained token that the class's `credit` gives: `(scores of all of a round) -> for each of them, (N,) by
    name`; it is asked once, without gradients, before the round is learnt from. A class may have
    `before_step(look)`: numbers for each example of the coming step, by name, which its losses read as
    values; a reference then has to be live. beside: what it calls further data that it asks its `Look` for.
    network: the one that it is for, where that is no language model: it is called as `(model, run, *,
    options)`, asks the model itself in its own terms, and takes from the run what the batch says (`rows`) and
    random numbers. words: False where it does not look at log-probs: they are then not computed, and a model
    that predicts no words can learn by it.
    """
    return _register("objective", name)


def view(name: str, *, tokens: tuple[str, ...] = (), source: str = "", version: int = 1) -> Callable[[F], F]:
    """`(tokens, sight, *, options) -> tokens`: what the model sees of a sequence, its inputs exchanged, its
    targets as they were. Called afresh at every sight.

    tokens: options that name a token (or are None); what the vocabulary lacks of them is added to it.
    """
    return _register("view", name)


def network(name: str, *, source: str = "", version: int = 1) -> Callable[[F], F]:
    """`(*, options) -> (model, tokenizer)`: a model with weights that are drawn from torch's generator, which
    a recipe can take as its `base`. The model is one that transformers loads from its directory again."""
    return _register("network", name)


def trainable(
    name: str, *, models: tuple[str, ...] = (), source: str = "", version: int = 1
) -> Callable[[F], F]:
    """`(model, draw, *, options) -> mask`, or a class made with the options that has `select(model, draw)`.

    A mask says of parameters, by name, whether they learn, or by a bool tensor which of their elements do. A
    class may have more: `attach(model) -> model` adds modules; `redraw` is after how many epochs `select` is
    asked again, then with a trial step in its `draw`; `penalty(model, total)` is added to the loss once for
    each optimiser step, total being the sum of what `tally(model, batch)` says of each micro-batch, None
    without it; `finish(model) -> model` gives what is kept. models: options that name a model (or are None);
    the trainable is given its reference.
    """
    return _register("trainable", name)


def decoder(
    name: str, *, members: tuple[str, ...], heads: tuple[str, ...] = (), source: str = "", version: int = 1
) -> Callable[[F], F]:
    """`(logits by member, *, options) -> logits`: the next token's logits (B, V) of several models, to those
    that it is drawn by. members: their names, which are the function's parameters; the first one leads: its
    vocabulary and stop tokens count. heads: of the lead's model, given too: (B, V), or (B,) of size 1."""
    return _register("decoder", name)


def scorer(
    name: str,
    *,
    models: tuple[str, ...] = (),
    chats: tuple[str, ...] = (),
    source: str = "",
    version: int = 1,
) -> Callable[[F], F]:
    """`(conversations, examples, *, options) -> a number, or None, for each conversation`, or a class made
    with the options that is called so.

    examples: that each conversation belongs to. None: it could not be judged, which is never a silent 0.
    models: options that name a model (or are None); the scorer is given its reference. chats: as of a stage.
    """
    return _register("scorer", name)


def agent(
    name: str,
    *,
    models: tuple[str, ...] = (),
    chats: tuple[str, ...] = (),
    scorers: tuple[str, ...] = (),
    beside: tuple[str, ...] = (),
    source: str = "",
    version: int = 1,
) -> Callable[[F], F]:
    """Who answers like a chat without being a model: a class made with the options and called
    `(conversations, *, sampling=None, seed=0) -> a Reply or Failure for each`, or such a function. models: as
    of a scorer. chats, scorers: as of a stage. beside: options that name data; the agent is given their
    examples."""
    return _register("agent", name)


def merge(name: str, *, source: str = "", version: int = 1) -> Callable[[F], F]:
    """`(name, base, tensors, *, options) -> tensor`: one weight of the base and of each model, to the merged
    one. Or a class made with the options that is called so, and may have `plan(dimensions, rng)`, and
    `settings(config)` and `rename(name)` where the merged model has another shape: see `merges/apply.py`."""
    return _register("merge", name)


def task(
    name: str,
    *,
    data: bool = False,
    parts: tuple[str, ...] = ("text",),
    needs: tuple[str, ...] = (),
    files: tuple[str, ...] = (),
    models: tuple[str, ...] = (),
    chats: tuple[str, ...] = (),
    scorers: tuple[str, ...] = (),
    beside: tuple[str, ...] = (),
    asks: Literal["replies", "likelihoods"] = "likelihoods",
    source: str = "",
    version: int = 1,
) -> Callable[[F], F]:
    """A class made with the options, which gives items of a model (`evaluation/suite.py`).

    data: it measures on examples, of which it needs `parts`, with answers that could be learnt; () where it
    asks for answers itself. needs: tasks whose items of the start model it asks for. files: options that name
    files (`str`, or None for none); the class gets their whole paths and reads them when it is made, so that
    a bad row stops a run before it trains. What the files hold is part of the hash, their names are not: ids
    of items must not speak of them. models: options that name a model (or are None); the task is given its
    reference. chats, scorers: as of a stage. beside: options that name further data that it measures with.
    asks: what a model must give to be measured; one behind an endpoint gives `replies` only.
    """
    return _register("task", name)


# ------------------------------------------------------------------------------- reading the index


def _entries(text: str, module: str) -> Iterator[Entry]:
    """All components that a module's source text declares."""
    try:
        body = ast.parse(text).body
    except SyntaxError as error:
        raise UsageError(f"{module}, line {error.lineno}: {error.msg}") from None
    for node in body:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef):
            continue
        for decorator in node.decorator_list:
            call = decorator if isinstance(decorator, ast.Call) else None
            if call is None or not isinstance(call.func, ast.Name | ast.Attribute) or not call.args:
                continue
            kind = call.func.id if isinstance(call.func, ast.Name) else call.func.attr
            if kind in KINDS:
                doc = ast.get_docstring(node) or ""
                traits = {k.arg: _trait(k.arg, k.value, module) for k in call.keywords if k.arg}
                if _has(node, "before_step"):
                    traits["looks"] = True
                name = _literal(call.args[0], module)
                summary = " ".join(doc.split("\n\n")[0].split())
                options = tuple(_options(node))
                yield Entry(kind, name, node.name, module, node.lineno, summary, doc, options, traits)


def _has(node: ast.FunctionDef | ast.ClassDef, method: str) -> bool:
    """Whether it is a class with such a method."""
    return any(isinstance(one, ast.FunctionDef) and one.name == method for one in node.body)


def _trait(name: str, node: ast.expr, module: str) -> Any:
    """What a trait says; of a writer, only that there is one."""
    return True if name == "writer" else _literal(node, module)


def _literal(node: ast.expr, module: str) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise UsageError(
            f"{module}, line {node.lineno}: {ast.unparse(node)} must be written out, because components are "
            "listed without running the file"
        ) from None


def _options(node: ast.FunctionDef | ast.ClassDef) -> Iterator[Option]:
    if isinstance(node, ast.ClassDef):
        inits = [n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"]
        if not inits:
            return
        node = inits[0]
    for parameter, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True):
        if parameter.arg in GIVEN:
            continue
        annotation = ast.unparse(parameter.annotation) if parameter.annotation else "Json"
        yield Option(parameter.arg, annotation, REQUIRED if default is None else ast.unparse(default))


def _sources() -> Iterator[tuple[str, Path]]:
    """(module, file) of everything that may declare components: our folders, then entry points."""
    root = Path(__file__).parent
    for home in HOMES:
        for file in sorted((root / home).rglob("*.py")):
            dotted = ".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
            yield f"turnsmith.{dotted}", file
    for point in importlib.metadata.entry_points(group=ENTRY_POINTS):
        spec = importlib.util.find_spec(point.value)
        if spec is None or spec.origin is None:
            raise UsageError(f"entry point {point.name!r} names {point.value!r}, which cannot be imported")
        yield point.value, Path(spec.origin)


class Registry:
    """Finds components by kind and name. `cache`: a file that remembers what each source file declares."""

    def __init__(self, cache: Path | None = None) -> None:
        self.cache = cache
        self.used: list[Path] = []
        self._index: dict[tuple[str, str], Entry] | None = None

    def use(self, file: Path) -> None:
        """Take the components of a user's own file in, as `--use file.py` does."""
        if not file.is_file():
            raise UsageError(f"--use {file}: there is no such file")
        if file.suffix != ".py":
            raise UsageError(f"--use {file}: this is no Python file: its name has to end in .py")
        if file.resolve() not in self.used:
            self.used.append(file.resolve())
            self._index = None

    def entries(self, kind: Kind | None = None) -> list[Entry]:
        """All components, by kind and name."""
        entries = sorted(self._all().values(), key=lambda e: (KINDS.index(e.kind), e.name))
        return [entry for entry in entries if kind in (None, entry.kind)]

    def entry(self, kind: Kind, name: str) -> Entry:
        """The component's description; an unknown name is answered with the nearest ones of its kind."""
        found = self._all().get((kind, name))
        if found is None:
            names = [entry.name for entry in self.entries(kind)]
            raise UsageError(f"no {kind} is called {name!r}{suggest(name, names)}")
        return found

    def function(self, kind: Kind, name: str) -> Callable[..., Any]:
        """The component itself; imports its module on first use."""
        place = _imported(self.entry(kind, name).module)
        return _loaded[place, kind, name]

    def writer(self, name: str) -> Write:
        """What makes rows of the format `name`; UsageError where it is only read."""
        reader = self.function("format", name)
        if reader not in _writers:
            written = [entry.name for entry in self.entries("format") if entry.traits.get("writer")]
            raise UsageError(f"the format {name!r} is read and not written; written are {', '.join(written)}")
        return _writers[reader]

    def options(self, kind: Kind, name: str, given: Mapping[str, Json]) -> dict[str, Json]:
        """`given`, checked against the signature and completed by its defaults, without importing the
        module."""
        from pydantic import TypeAdapter, ValidationError

        entry = self.entry(kind, name)
        known = {option.name: option for option in entry.options}
        for key in given:
            if key not in known:
                raise UsageError(f"{kind} {name!r} has no option {key!r}{suggest(str(key), list(known))}")
        checked: dict[str, Json] = {}
        for option in entry.options:
            if option.name not in given:
                if option.default == REQUIRED:
                    raise UsageError(f"{kind} {name!r} needs the option {option.name!r} ({option.type})")
                checked[option.name] = option.value
                continue
            try:
                checked[option.name] = TypeAdapter(_type(option)).validate_python(given[option.name])
            except ValidationError as error:
                reason = error.errors()[0]["msg"]
                raise UsageError(
                    f"{kind} {name!r}, option {option.name!r}: {given[option.name]!r} is no "
                    f"{option.type} ({reason})"
                ) from None
        return checked

    def _all(self) -> dict[tuple[str, str], Entry]:
        if self._index is None:
            self._index = {}
            remembered = _remembered(self.cache)
            reader = Path(__file__).read_bytes()  # another reader may find more in the same source
            fresh: dict[str, dict[str, Any]] = {}
            sources = [*_sources(), *((str(file), file) for file in self.used)]
            for module, file in sources:
                digest = hashlib.sha256(reader + file.read_bytes()).hexdigest()
                row: dict[str, Any] = remembered.get(str(file), {})
                if row.get("digest") != digest or row.get("module") != module:
                    found = [asdict(e) for e in _entries(file.read_text("utf-8"), module)]
                    row = {"digest": digest, "module": module, "entries": found}
                fresh[str(file)] = row
                for plain in row["entries"]:
                    self._add(_entry(plain))
            if fresh != remembered:
                _remember(self.cache, fresh)
        return self._index

    def _add(self, entry: Entry) -> None:
        assert self._index is not None
        other = self._index.get((entry.kind, entry.name))
        if other is not None:
            raise UsageError(
                f"{entry.kind} {entry.name!r} is declared twice: {other.module}:{other.line} and "
                f"{entry.module}:{entry.line}; rename one of them"
            )
        self._index[entry.kind, entry.name] = entry


def loaded(kind: Kind, name: str) -> Callable[..., Any] | None:
    """The component of this name: ours, one of an installed package, or one that this process has imported
    from a file of the user's; None where there is none."""
    for (_, its_kind, its_name), function in _loaded.items():
        if (its_kind, its_name) == (kind, name):
            return function
    known = Registry()
    there = name in {entry.name for entry in known.entries(kind)}
    return known.function(kind, name) if there else None


def name_of(kind: Kind, component: Callable[..., Any]) -> str | None:
    """The name that the component is registered under; None where it is not."""
    names = (name for (_, its_kind, name), one in _loaded.items() if its_kind == kind and one is component)
    return next(names, None)


def suggest(word: str, among: list[str]) -> str:
    """The end of a message about an unknown word: what may have been meant, or all there is."""
    near = difflib.get_close_matches(word, among, n=3, cutoff=0.6)
    if near:
        return f"; did you mean {' or '.join(map(repr, near))}?"
    return f"; there is {', '.join(sorted(among))}" if among else "; there is none"


def _type(option: Option) -> Any:
    """The type that an annotation's text means. Only what an option may be is known here."""
    names: dict[str, Any] = {"Literal": Literal, "Mapping": Mapping, "Json": Any, "__builtins__": {}}
    # A model's name, or an agent or scorer, for which the runner puts in what it names.
    names["Chat"] = names["Scorer"] = str | dict[str, Any]
    names["Examples"] = str  # the name of data
    plain: tuple[type[Any], ...] = (bool, int, float, str, tuple, list, dict)
    names |= {known.__name__: known for known in plain}
    return eval(option.type, names)


def _entry(plain: dict[str, Any]) -> Entry:
    fields: dict[str, Any] = {**plain, "options": tuple(Option(**option) for option in plain["options"])}
    return Entry(**fields)


def _remembered(cache: Path | None) -> dict[str, dict[str, Any]]:
    try:
        remembered: Any = json.loads(cache.read_text("utf-8")) if cache else None
    except (OSError, ValueError):
        return {}  # a cache that cannot be read is made anew
    return remembered if is_object(remembered) else {}


def _remember(cache: Path | None, rows: dict[str, dict[str, Any]]) -> None:
    if cache is None:
        return
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        aside = cache.with_name(f"{cache.name}.{hashlib.sha256(repr(sys.argv).encode()).hexdigest()[:8]}")
        aside.write_text(json.dumps(rows), "utf-8")
        aside.replace(cache)
    except OSError:
        return  # only speed is lost


def _imported(module: str) -> str:
    """The name under which a module is imported. A file's says what it holds: another one of the same name,
    or the same one after a change, is imported anew."""
    if not module.endswith(".py"):
        importlib.import_module(module)
        return module
    path = Path(module)
    digest = hashlib.sha256(module.encode() + path.read_bytes()).hexdigest()[:12]
    name = f"turnsmith_used_{path.stem}_{digest}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, module)
        assert spec is not None
        assert spec.loader is not None  # the file ends in .py
        loaded = importlib.util.module_from_spec(spec)
        sys.modules[name] = loaded
        try:
            spec.loader.exec_module(loaded)
        except BaseException:
            del sys.modules[name]
            raise
    return name
