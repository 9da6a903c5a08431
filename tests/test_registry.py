"""Components found from source text: options from signatures, nothing imported too early."""

import json
import subprocess
import sys

import pytest

from turnsmith.errors import UsageError
from turnsmith.registry import KINDS, REQUIRED, Option, Registry
from turnsmith.testing import chat
from turnsmith.types import Example

MINE = '''
"""A file of a user's own."""
from collections.abc import Mapping
from typing import Literal

from turnsmith.registry import objective, stage, task


@stage("every-{n}", version=3, source="arXiv:0000.00000 eq. 1")
def every(
    data, *, step: int, most: int | None = None, share: float = 0.5, how: Literal["up", "down"] = "up",
    flag: bool = False, names: tuple[str, ...] = ("a",), rng=None,
):
    """Keep every
    so many.

    More about it.
    """
    return data[::step]


@objective("sum-{n}", per="sequence", parts=("chosen", "rejected"), reference=True)
def total(scores):
    """The sum."""


@task("count-{n}", data=True)
class Count:
    """How many."""

    def __init__(self, *, on: str) -> None:
        self.on = on
'''


@pytest.fixture
def mine(tmp_path):
    """A file of components of a user's own."""
    name = "own"
    path = tmp_path / "mine.py"
    path.write_text(MINE.replace("{n}", name))
    registry = Registry()
    registry.use(path)
    return registry, f"every-{name}", name


# ------------------------------------------------------------------------------------------- the index


def test_a_component_is_what_its_source_says(mine):
    registry, every, _ = mine
    entry = registry.entry("stage", every)
    assert (entry.function, entry.line, entry.summary) == ("every", 10, "Keep every so many.")
    assert (entry.source, entry.version) == ("arXiv:0000.00000 eq. 1", 3)
    assert entry.text == "Keep every\nso many.\n\nMore about it."
    assert entry.options == (
        Option("step", "int", REQUIRED),
        Option("most", "int | None", "None"),
        Option("share", "float", "0.5"),
        Option("how", "Literal['up', 'down']", "'up'"),
        Option("flag", "bool", "False"),
        Option("names", "tuple[str, ...]", "('a',)"),
    )


def test_traits_are_what_the_decorator_says(mine):
    registry, _, name = mine
    entry = registry.entry("objective", f"sum-{name}")
    assert entry.traits == {"per": "sequence", "parts": ("chosen", "rejected"), "reference": True}
    assert entry.version == 1


def test_the_options_of_a_class_are_those_of_its_init(mine):
    registry, _, name = mine
    assert registry.entry("task", f"count-{name}").options == (Option("on", "str", REQUIRED),)


def test_entries_come_by_kind_and_name():
    entries = Registry().entries()
    keys = [(KINDS.index(entry.kind), entry.name) for entry in entries]
    assert keys == sorted(keys)
    assert {entry.name for entry in Registry().entries("stage")} >= {"turns", "head"}


@pytest.mark.parametrize("entry", Registry().entries(), ids=lambda entry: f"{entry.kind}-{entry.name}")
def test_every_component_has_a_summary_and_options_that_can_be_read(entry):
    assert entry.summary.endswith(".")
    registry = Registry()
    needed = [option.name for option in entry.options if option.default == REQUIRED]
    examples = {"int": 1, "float": 1.0, "str": "x", "Chat": "base", "Scorer": "x", "dict[str, str]": {}}
    examples |= {"tuple[str, ...]": ("x",), "tuple[int, ...]": (0,), "Mapping[str, float]": {"x": 1.0}}
    examples |= {"dict[str, int]": {"x": 1}, "Examples": "x", "dict[str, float]": {"x": 1.0}}
    examples |= {"tuple[str, str]": ("x", "y"), "Mapping[str, str]": {"x": "y"}}
    given = {o.name: examples[o.type] for o in entry.options if o.name in needed}
    options = registry.options(entry.kind, entry.name, given)
    assert set(options) == {option.name for option in entry.options}
    assert registry.options(entry.kind, entry.name, options) == options  # defaults are of their own type


# ------------------------------------------------------------------------------------------- options


def test_options_are_completed_by_the_defaults(mine):
    registry, every, _ = mine
    assert registry.options("stage", every, {"step": 2, "share": 1}) == {
        "step": 2, "most": None, "share": 1.0, "how": "up", "flag": False, "names": ("a",),
    }  # fmt: skip


def test_numbers_written_as_text_are_numbers(mine):
    registry, every, _ = mine
    options = registry.options("stage", every, {"step": 2, "share": "2e-5"})
    assert options["share"] == 2e-5


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, r"needs the option 'step' \(int\)"),
        ({"step": "two"}, r"option 'step': 'two' is no int"),
        ({"step": 1.5}, r"option 'step': 1.5 is no int"),
        ({"step": 1, "how": "left"}, r"option 'how': 'left' is no Literal\['up', 'down'\]"),
        ({"step": 1, "names": 3}, r"option 'names': 3 is no tuple\[str, ...\]"),
        ({"step": 1, "flag": "perhaps"}, "option 'flag': 'perhaps' is no bool"),
        ({"step": 1, "shar": 1}, "has no option 'shar'; did you mean 'share'"),
        ({"step": 1, "zzz": 1}, "has no option 'zzz'; there is flag, how, most, names, share, step"),
        ({"step": 1, "rng": 1}, "has no option 'rng'"),
        ({"step": 1, 7: 1}, "has no option 7"),
    ],
)
def test_wrong_options_are_named_with_the_way_out(mine, given, said):
    registry, every, _ = mine
    with pytest.raises(UsageError, match=f"stage '{every}'.*{said}"):
        registry.options("stage", every, given)


def test_an_unknown_component_is_answered_with_the_nearest():
    with pytest.raises(UsageError, match="no objective is called 'stf'; did you mean 'sft'"):
        Registry().entry("objective", "stf")
    with pytest.raises(UsageError, match=r"no stage is called 'qqqqq'; there is alike, .*head, .*turns"):
        Registry().entry("stage", "qqqqq")


# ------------------------------------------------------------------------------------------- --use


def test_a_component_of_ones_own_is_imported_when_it_is_used(mine):
    registry, every, _ = mine
    examples = [Example({"text": chat("u: a", "a: b")}, {}, {"id": str(i)}) for i in range(5)]
    kept = registry.function("stage", every)(examples, step=2)
    assert [example.id for example in kept] == ["0", "2", "4"]


def test_a_file_may_be_named_twice(mine):
    registry, every, _ = mine
    registry.use(registry.used[0])
    assert registry.entry("stage", every).name == every


def test_files_of_one_name_have_components_of_their_own(tmp_path):
    found = []
    for place, value in (("one", 1), ("two", 2)):
        file = tmp_path / place / "mine.py"
        file.parent.mkdir()
        code = 'from turnsmith.registry import stage\n\n\n@stage("told")\ndef told(data):\n    """All."""\n'
        file.write_text(f"{code}    return {value}\n")
        registry = Registry()
        registry.use(file)
        found.append(registry.function("stage", "told")([]))
    assert found == [1, 2]
    file.write_text(f"{code}    return 3\n")
    again = Registry()
    again.use(file)
    assert again.function("stage", "told")([]) == 3  # what was edited meanwhile is what runs


def test_a_file_that_fails_fails_again(tmp_path):
    file = tmp_path / "mine.py"
    code = 'from turnsmith.registry import stage\n\n\n@stage("a")\ndef a(data):\n    """All."""\n'
    file.write_text(f"{code}\n\n1 / 0\n")
    registry = Registry()
    registry.use(file)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            registry.function("stage", "a")


def test_a_file_of_another_kind_is_refused(tmp_path):
    file = tmp_path / "mine.txt"
    file.write_text("")
    with pytest.raises(UsageError, match=r"mine.txt: this is no Python file: its name has to end in .py"):
        Registry().use(file)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"--use .*nothing.py: there is no such file"):
        Registry().use(tmp_path / "nothing.py")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def broken(:\n", "line 1: invalid syntax"),
        (
            "from x import stage\nNAME = 'a'\n@stage(NAME)\ndef f(data): ...\n",
            "line 3: NAME must be written out",
        ),
    ],
)
def test_a_file_that_cannot_be_read_is_named_by_line(tmp_path, text, said):
    path = tmp_path / "mine.py"
    path.write_text(text)
    registry = Registry()
    registry.use(path)
    with pytest.raises(UsageError, match=f"mine.py, {said}"):
        registry.entries()


def test_a_name_declared_twice_is_an_error_with_both_places(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        'from turnsmith.registry import stage\n\n\n@stage("head")\ndef head(data):\n    """All."""\n'
    )
    registry = Registry()
    registry.use(path)
    with pytest.raises(
        UsageError,
        match=r"stage 'head' is declared twice: turnsmith.stages.filter:\d+ and .*mine.py:5; rename",
    ):
        registry.entries()


# ------------------------------------------------------------------------------------------- the cache


def test_what_was_read_is_remembered_until_a_source_changes(tmp_path):
    source, cache = tmp_path / "mine.py", tmp_path / "cache" / "components.json"

    def found(text):
        source.write_text(text)
        registry = Registry(cache)
        registry.use(source)
        return {entry.name for entry in registry.entries("stage")}

    one = 'from turnsmith.registry import stage\n@stage("one-of-mine")\ndef one(data):\n    """One."""\n'
    assert "one-of-mine" in found(one)
    first = cache.stat().st_mtime_ns
    assert "one-of-mine" in found(one)
    assert cache.stat().st_mtime_ns == first  # nothing changed, nothing written
    names = found(one.replace("one-of", "two-of"))
    assert "two-of-mine" in names
    assert "one-of-mine" not in names
    assert "two-of-mine" in cache.read_text()


def test_the_cache_gives_the_same_entries(tmp_path):
    cache = tmp_path / "components.json"
    fresh, remembered = Registry(cache).entries(), Registry(cache).entries()
    assert [(e.kind, e.name, e.options, e.line) for e in fresh] == [
        (e.kind, e.name, e.options, e.line) for e in remembered
    ]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"x": 1}', '{"x": {"digest": 1}}'])
def test_a_cache_that_is_broken_is_made_anew(tmp_path, text):
    cache = tmp_path / "components.json"
    cache.write_text(text)
    assert Registry(cache).entry("objective", "sft")
    assert "sft" in cache.read_text()


def test_a_cache_of_another_release_is_not_believed(tmp_path):
    """Another release may read more from the same source."""
    cache = tmp_path / "components.json"
    Registry(cache).entries()
    rows = json.loads(cache.read_text())
    for file, row in rows.items():
        row["digest"] = digest(file)
        row["entries"] = []
    cache.write_text(json.dumps(rows))
    assert Registry(cache).entry("objective", "sft")


def digest(file):
    """What an earlier release compared: the source alone, not who read it."""
    from pathlib import Path

    from turnsmith.shelf import file_digest

    return file_digest(Path(file))


def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path):
    (tmp_path / "file").write_text("")
    assert Registry(tmp_path / "file" / "components.json").entries()


# ------------------------------------------------------------------------------------------- costs


@pytest.mark.parametrize(
    "code",
    [
        "from turnsmith.registry import Registry; r = Registry(); r.options('stage', 'head', {'count': 1})",
        "from turnsmith.cli.main import app; app(['methods'], standalone_mode=False)",
    ],
    ids=["registry", "turnsmith methods"],
)
def test_listing_imports_no_torch(code):
    ask = (
        f"{code}\nimport sys; assert not {{'torch', 'transformers', 'numpy'}} & set(sys.modules), 'too early'"
    )
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
