"""How far two models' layers are apart, by hand."""

from types import SimpleNamespace

import pytest
import torch

from turnsmith.data.batch import pack, pad
from turnsmith.errors import ModelError
from turnsmith.models import forest
from turnsmith.models.layers import Layers, apart
from turnsmith.models.score import Scoring
from turnsmith.testing import model, tokens
from turnsmith.types import Rendered

BOTH = ("states", "attention")


def of(mask):
    """A padded batch of which only the mask is looked at."""
    return SimpleNamespace(forest=None, mask=torch.tensor(mask), paths=tuple(range(len(mask))))


def test_a_mean_of_each_layer_is_summed_and_padding_counts_nowhere():
    """Two layers of states, one of attention; the second row has one token, and what stands behind it is
    far."""
    zero = torch.zeros(2, 2, 2)
    one = torch.tensor([[[1.0, 1.0], [3.0, 1.0]], [[2.0, 0.0], [9.0, 9.0]]])
    none, some = torch.zeros(2, 1, 2, 2), torch.full((2, 1, 2, 2), 0.5)
    some[1, :, 1] = some[1, :, :, 1] = 7.0
    found = apart(Layers((one, one), (some,)), Layers((zero, zero), (none,)), of([[1, 1], [1, 0]]), BOTH)
    assert found["states"].tolist() == pytest.approx([2 * (1 + 1 + 9 + 1) / 4, 2 * 4 / 2])
    assert found["attention"].tolist() == pytest.approx([0.25, 0.25])


def test_models_of_another_shape_are_refused():
    one, two = torch.zeros(1, 1, 2), torch.zeros(1, 1, 3)
    with pytest.raises(ModelError, match="take a model of the same shape"):
        apart(Layers((one,)), Layers((two,)), of([[1]]), ("states",))
    with pytest.raises(ModelError, match="2 and 1 layers"):
        apart(Layers((one, one)), Layers((one,)), of([[1]]), ("states",))


def test_packed_rows_have_the_distance_of_padded_ones():
    data = [Rendered(str(at), {"text": (tokens(list(range(3, 9 + at)), 4),)}) for at in range(3)]
    found = []
    for layout in (pad, pack):
        pair = [model(), model(seed=1)]
        if layout is pack:
            for each in pair:
                forest.attach(each)
        mine, other = map(Scoring, pair)
        found.append(
            mine(layout(data), needs=("states:start",), others={"start": other}).apart["states:start"]
        )
    torch.testing.assert_close(*found)
    assert found[0].min() > 0


def test_attention_that_does_not_show_is_an_error_that_says_how_to_see_it():
    scoring = Scoring(model())
    with pytest.raises(ModelError, match=r"set_attn_implementation\('eager'\)"):
        scoring(
            pad([Rendered("a", {"text": (tokens([5, 6, 8], 1),)})]),
            needs=("attention:start",),
            others={"start": Scoring(model())},
        )
