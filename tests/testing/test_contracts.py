"""The contracts themselves: each check refuses a component that breaks what it stands for."""

from dataclasses import replace
from itertools import count

import pytest

from turnsmith.errors import DataError, UsageError
from turnsmith.evaluation.suite import Item, Metric
from turnsmith.recipes import FOLDER
from turnsmith.registry import Registry
from turnsmith.testing import (
    FORMAT,
    RECIPE,
    STAGE,
    TASK,
    TinyBench,
    formats,
    method,
    recipes,
    scores,
    stage,
    stages,
    tasks,
    variety,
)

# --------------------------------------------------------------------------------------------- stages


def emptying(data):
    while data:
        yield data.pop()


def renaming(data):
    for example in data:
        example.meta["seen"] = True
        yield example


calls = count()


def numbering(data):
    return [replace(example, meta={**example.meta, "call": next(calls)}) for example in data]


def unwritable(data):
    return [replace(example, meta={**example.meta, "page": (1, 2)}) for example in data]


def doubling(data):
    return [*data, *data]


@pytest.mark.parametrize(
    ("broken", "check"),
    [
        (emptying, stages.the_input_is_left_as_it_was),
        (renaming, stages.the_input_is_left_as_it_was),
        (numbering, stages.the_same_input_gives_the_same_rows),
        (unwritable, stages.what_comes_out_is_read_back_as_it_is),
        (doubling, stages.ids_stay_different),
    ],
)
def test_a_broken_stage_is_found_by_its_check_alone(broken, check):
    with pytest.raises(AssertionError):
        check(broken, variety())
    for other in set(STAGE) - {check}:
        other(broken, variety())


def test_a_stage_of_ones_own_gets_what_it_asks_for(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from turnsmith.registry import stage\n\n"
        "@stage('some')\n"
        "def some(data, *, rng, counts, share: float = 0.5):\n"
        "    kept = [x for x in data if rng.random() < share]\n"
        "    counts['kept'] += len(kept)\n"
        "    return kept\n"
    )
    registry = Registry()
    registry.use(tmp_path / "mine.py")
    mine = stage("some", {"share": 0.4}, registry=registry)
    for check in STAGE:
        check(mine, variety())
    assert 0 < len(list(mine(variety()))) < len(variety())


# -------------------------------------------------------------------------------------------- formats

READER = """
from turnsmith.data.formats import Parsed
from turnsmith.data.write import BARE, WEIGHTS, Writer, single
from turnsmith.errors import DataError
from turnsmith.registry import format
from turnsmith.testing import chat

def row(example):
    first, *others = single(example).messages
    if others or first.role != "user":
        {refusal}
    return {{"odd": {written}}}

@format("{name}", columns=({columns},), writer=Writer(row, ("odd",), (*BARE, WEIGHTS)))
def odd(row):
    said = chat("u: " + row["odd"])
    {line}
    return Parsed({{"text": said}}, ("odd",), {{"at": {at}}})
"""


@pytest.mark.parametrize(
    ("check", "error", "broken"),
    [
        (formats.its_rows_are_told_by_their_columns, DataError, {"columns": "('even',)"}),
        (formats.a_row_is_left_as_it_was, AssertionError, {"line": "row['seen'] = True"}),
        (formats.what_is_read_is_written_and_read_again, AssertionError, {"at": "(1, 2)"}),
        (formats.what_is_written_is_read_as_it_was, AssertionError, {"written": "first.content.lower()"}),
        (formats.what_a_writer_has_no_place_for_is_said, AssertionError, {"refusal": "pass"}),
        (formats.a_broken_row_is_an_error_that_names_it, ZeroDivisionError, {"line": "1 / len(row['odd'])"}),
    ],
)
def test_a_broken_format_is_found_by_its_check_alone(tmp_path, check, error, broken):
    name, file = check.__name__, tmp_path / "mine.py"  # a name is registered once in a process
    fine = {
        "columns": "('odd',)",
        "line": "",
        "at": "1",
        "refusal": "raise DataError('no')",
        "written": "first.content",
    }
    file.write_text(READER.format(**{"name": name, **fine, **broken}))
    registry = Registry()
    registry.use(file)
    with pytest.raises(error):
        check(name, [{"odd": "Hi"}], registry)
    for other in set(FORMAT) - {check}:
        other(name, [{"odd": "Hi"}], registry)


# ---------------------------------------------------------------------------------------------- tasks


class Fine:
    """Counts the letters of three words, for any model."""

    title, note = "Letters", "Letters of words."
    metrics: tuple[Metric, ...] = (Metric("letters", "letters", "letters", "higher", "words"),)

    def measure(self, subject, bench):
        return [Item(word, "", {"letters": len(word), "words": 1.0}) for word in ("a", "bc", "def")]


class Drifting(Fine):
    def measure(self, subject, bench):
        return [replace(item, shown={"call": next(calls)}) for item in super().measure(subject, bench)]


class Choosy(Fine):
    def measure(self, subject, bench):
        return super().measure(subject, bench)[: 3 if subject is bench.start() else 2]


class Resized(Fine):
    def measure(self, subject, bench):
        words = 1.0 if subject is bench.start() else 2.0
        return [replace(x, values={**x.values, "words": words}) for x in super().measure(subject, bench)]


class Infinite(Fine):
    def measure(self, subject, bench):
        return [
            replace(x, values={**x.values, "letters": float("inf")}) for x in super().measure(subject, bench)
        ]


class Absent(Fine):
    metrics = (Metric("letters", "leters", "letters", "higher", "words"),)


class Floorless(Fine):
    metrics = (Metric("letters", "letters", "letters", "higher", "words", chance=True),)


class Opaque(Fine):
    def measure(self, subject, bench):
        return [replace(item, shown={"pair": (1, 2)}) for item in super().measure(subject, bench)]


class Mute(Fine):
    note = ""


class Blank(Fine):
    metrics = ()


@pytest.fixture(scope="module")
def bench():
    return TinyBench({})


@pytest.mark.parametrize(
    ("broken", "check"),
    [
        (Drifting, tasks.measured_twice_the_items_are_the_same),
        (Choosy, tasks.every_model_is_measured_on_the_same_items),
        (Resized, tasks.every_model_is_measured_on_the_same_items),
        (Infinite, tasks.figures_speak_of_finite_values_that_items_have),
        (Absent, tasks.figures_speak_of_finite_values_that_items_have),
        (Floorless, tasks.figures_speak_of_finite_values_that_items_have),
        (Opaque, tasks.items_are_json),
        (Mute, tasks.it_says_what_it_measures),
        (Blank, tasks.it_says_what_it_measures),
    ],
)
def test_a_broken_task_is_found_by_its_check_alone(bench, broken, check):
    with pytest.raises(AssertionError):
        check(broken, bench)
    for other in set(TASK) - {check}:
        other(broken, bench)


# -------------------------------------------------------------------------------------------- recipes

QUICKSTART = (FOLDER / "quickstart.yaml").read_text("utf-8")


@pytest.mark.parametrize(
    ("there", "instead", "check"),
    [
        ("lora: {rank", "lorra: {rank", recipes.it_can_be_carried_out),
        ("steps.1.train.fit.steps: 2", "steps.1.train.fit.steps: 56", recipes.its_tiny_form_is_less),
        ("loss without the stop token", "los", recipes.it_claims_something_that_its_tasks_measure),
    ],
)
def test_a_broken_recipe_is_found_by_its_check(tmp_path, there, instead, check):
    assert QUICKSTART.count(there) == 1
    (tmp_path / "mine.yaml").write_text(QUICKSTART.replace(there, instead))
    with pytest.raises((AssertionError, UsageError)):
        check(tmp_path / "mine.yaml", Registry())


def test_the_recipe_itself_is_fine(tmp_path):
    (tmp_path / "mine.yaml").write_text(QUICKSTART)
    for check in RECIPE:
        check(tmp_path / "mine.yaml", Registry())


# ----------------------------------------------------------------------------------------- objectives


def test_an_objective_comes_with_its_options_and_traits():
    dpo = method("dpo", {"beta": 0.5})
    assert (dpo.per, dpo.reference, dpo.reads) == ("example", True, ())
    made = scores(
        {"chosen": [[-1.0]], "rejected": [[-1.0]]}, reference={"chosen": [[-3.0]], "rejected": [[-1.0]]}
    )
    assert dpo.objective(made).metrics["margin"].tolist() == [1.0]  # 0.5 * ((-1 + 3) - 0)
