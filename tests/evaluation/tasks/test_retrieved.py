"""Rows that reworded questions find."""

from collections import Counter
from dataclasses import replace

import pytest

from turnsmith.errors import DataError, UsageError
from turnsmith.evaluation.tasks.retrieved import Retrieved
from turnsmith.retrieve.influence import influence
from turnsmith.scorers.embedding import embedded
from turnsmith.stages.reworded import reworded
from turnsmith.testing import TinyBench, conversations


@pytest.fixture(scope="module")
def bench():
    table = conversations(4)
    # The last question is the same in all of them; here they differ.
    table = [one.replaced(text=one.parts["text"].upto(2)) for one in table]
    same = list(reworded(table, templates=("{question}",), counts=Counter()))
    other = [replace(one, meta={**one.meta, "row": table[0].id}) for one in same]
    stray = [replace(same[0], meta={"id": "x", "row": "y"})]
    return TinyBench({"table": table, "same": same, "other": other, "stray": stray})


def test_the_same_words_find_their_row(bench):
    """By the dot product a longer vector may come first, and by the influence one of wider levels."""
    for item in Retrieved(on="same", table="table").measure(bench.tuned, bench):
        for name in ("cosine", "euclidean"):
            assert (item.values[f"{name} first"], item.values[f"{name} found"]) == (1.0, 1.0)


def test_the_influence_is_that_of_the_models_vectors(bench):
    texts = [one.parts["text"].messages[0].content for one in bench.examples("table")]
    model = bench.tuned
    vectors = embedded(texts, model.scoring, model.renderer, length=128).double().numpy()
    items = Retrieved(on="same", table="table", levels=4, further=(8,), top_n=1).measure(model, bench)
    for place, item in enumerate(items):
        for levels, name in ((4, "influence"), (8, "influence at 8 levels")):
            first = influence(vectors[place], vectors, levels=levels).argmax() == place
            assert item.values[f"{name} first"] == item.values[f"{name} found"] == first
        first = influence(vectors[place], vectors, levels=4).argmax() == place
        assert item.values["less cosine"] == first - 1
        assert item.values["less chance"] == first - 1 / 4


def test_a_row_that_is_not_nearest_is_not_found(bench):
    """All four are said to be of row 0, and each finds its own; all rows are among the first four."""
    items = Retrieved(on="other", table="table", top_n=4).measure(bench.tuned, bench)
    assert [item.values["cosine first"] for item in items] == [1.0, 0.0, 0.0, 0.0]
    assert [item.values["influence found"] for item in items] == [1.0] * 4
    assert [item.values["chance"] for item in items] == [1 / 4] * 4


def test_at_levels_that_leave_each_coordinate_alone_all_questions_find_one_row(bench):
    items = Retrieved(on="same", table="table", levels=10**8).measure(bench.tuned, bench)
    assert sum(item.values["influence first"] for item in items) == 1.0


def test_a_row_that_is_not_in_the_table_is_named(bench):
    with pytest.raises(DataError, match="example 'x' is a wording of the row 'y', which is not in 'table'"):
        Retrieved(on="stray", table="table").measure(bench.tuned, bench)


@pytest.mark.parametrize("wrong", [{"levels": 1}, {"further": (16, 1)}, {"top_n": 0}])
def test_options_that_make_no_sense_are_refused(wrong):
    with pytest.raises(UsageError, match="levels are 2 or more, and at least one row"):
        Retrieved(on="same", table="table", **wrong)
