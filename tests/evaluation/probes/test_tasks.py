"""The tasks that look into models, on one whose circuit is known, and a copy in which a head was broken."""

import pytest
import torch

from turnsmith.errors import DataError, ModelError, UsageError
from turnsmith.evaluation.probes.carried import Carried
from turnsmith.evaluation.probes.circuit import CircuitTask, scenes_of
from turnsmith.evaluation.probes.crossed import Crossed
from turnsmith.evaluation.probes.prompts import Probe
from turnsmith.models import load
from turnsmith.models.networks.llama import llama
from turnsmith.testing import TASK, TinyBench, conversations
from turnsmith.testing.circuits import WORDS, examples, look_back, subject, written

SIZES = {"sizes": (3, 3, 3, 3), "shape": "star"}


def broken():
    """The written model, whose transmitter looks at the last token itself, where no label is."""
    model, words = written()
    with torch.no_grad():
        look_back(model.model.layers[0].self_attn, 1, 0)
    return model, words


@pytest.fixture
def bench():
    made = TinyBench(
        {"asked": examples(30, seed=1), "search": examples(24, seed=2), "chats": conversations(2)}
    )
    made.tuned = made._start = subject(*written())
    return made


@pytest.fixture
def donor(tmp_path):
    load.save(*written(), tmp_path / "donor", base=None)
    return str(tmp_path / "donor")


def mean(items, name):
    return sum(item.values[name] for item in items) / len(items)


def circuit(**options):
    return CircuitTask(on="asked", search="search", **SIZES, **options)


@pytest.mark.parametrize("check", TASK, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", ["circuit", "carried", "crossed"])
def test_contract(bench, donor, name, check):
    both = {"on": "asked", "search": "search", **SIZES}
    made = {
        "circuit": circuit,
        "carried": lambda: Carried(**both, epochs=1),
        "crossed": lambda: Crossed(**both, donor=donor),
    }
    check(made[name], bench)


def test_the_circuit_is_faithful_complete_and_named(bench):
    items = circuit().measure(bench.tuned, bench)
    assert mean(items, "circuit") == mean(items, "whole") == 1
    assert mean(items, "above") > 0.3
    assert mean(items, "incomplete") == 0
    assert items[0].shown["circuit"] == {
        "fetchers": [[1, 0]],
        "transmitters": [[0, 1]],
        "detectors": [],
        "readers": [[0, 0]],
    }
    assert not items[1].shown


def test_a_circuit_by_chance_is_not(bench):
    items = circuit(choice="chance").measure(bench.tuned, bench)
    assert mean(items, "circuit") < 0.7
    assert items[0].shown["circuit"]["fetchers"] != [[1, 0]]


def test_the_circuit_of_one_model_is_looked_for_in_another(bench, donor):
    items = circuit(of=donor).measure(subject(*broken()), bench)
    assert items[0].shown["circuit"]["transmitters"] == [[0, 1]]
    assert mean(items, "whole") < 0.7  # of the one that is measured


def test_heads_carry_what_they_were_written_to_carry(bench):
    """What the transmitter carries is looked at without a mask: its reader is so sharp that none can
    learn."""
    items = Carried(on="asked", search="search", **SIZES).measure(bench.tuned, bench)
    for group in ("fetchers", "readers"):
        for hypothesis in ("position", "thing", "label"):
            values = [one.values for one in items if f"{group}:{hypothesis}" in one.values]
            came = sum(one[f"{group}:{hypothesis}"] for one in values) / len(values)
            assert came == (hypothesis == "thing"), (group, hypothesis)
            assert all(one[f"alone:{hypothesis}"] == 0 for one in values)
    assert items[0].shown["fetchers:thing"] == [[1, 0]]


def test_2_what_an_identical_copy_gives_changes_nothing(bench, donor):
    for what in ("outputs", "inputs"):
        items = Crossed(on="asked", search="search", donor=donor, what=what, **SIZES).measure(
            bench.tuned, bench
        )
        assert all(one.values[name] == one.values["alone"] for one in items for name in ("circuit", "every"))


@pytest.mark.parametrize("what", ["outputs", "inputs"])
def test_the_gain_comes_from_the_head_that_was_mended_and_from_no_other_group(bench, donor, what):
    task = Crossed(on="asked", search="search", donor=donor, what=what, **SIZES)
    whole = Probe.of(bench.tuned.scoring, bench.tuned.renderer, "probe")
    found = task.search(whole, scenes_of(bench.examples("search")))
    task.search = lambda probe, scenes: found  # the broken model has no transmitter to be found
    items = task.measure(subject(*broken()), bench)
    assert mean(items, "donor") == mean(items, "circuit") == mean(items, "every") == 1
    assert mean(items, "transmitters") == 1
    assert mean(items, "readers") == mean(items, "alone") < 0.7
    assert mean(items, "gain:transmitters") == pytest.approx(1 - mean(items, "alone"))


def test_6_a_model_of_another_shape_or_with_other_tokens_is_refused(bench, tmp_path):
    shapes = {
        "has 2 layers of 2 heads of size 32": {"heads": 2, "words": WORDS},
        "has another vocabulary": {"heads": 4, "words": (*WORDS, "pen")},
    }
    for says, options in shapes.items():
        place = tmp_path / says.split()[1]
        load.save(*llama(layers=2, hidden=64, wide=8, shared=2, **options), place, base=None)
        task = Crossed(on="asked", search="search", donor=str(place), **SIZES)
        with pytest.raises(ModelError, match=says):
            task.measure(bench.tuned, bench)


def test_data_that_are_no_scenes_and_sizes_that_are_none_are_refused(bench):
    with pytest.raises(DataError, match="has no scene"):
        CircuitTask(on="asked", search="chats").measure(bench.tuned, bench)
    for options in ({"sizes": (1, 2, 3)}, {"sizes": (1, 0, 1, 1)}, {"prune": 1.0}):
        with pytest.raises(UsageError, match="circuit: sizes is"):
            CircuitTask(on="asked", search="search", **options)


def test_a_model_that_answers_nothing_has_no_circuit(bench):
    model, words = written()
    torch.nn.init.zeros_(model.model.layers[1].self_attn.o_proj.weight)
    torch.nn.init.zeros_(model.model.layers[0].self_attn.o_proj.weight)
    with pytest.raises(ModelError, match="circuit: written answers none of 30 prompts"):
        circuit().measure(subject(model, words), bench)
