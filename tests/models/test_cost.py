"""Operations of a training step, by hand for the tiny model: 2 layers, hidden 32, inner 64, 320 tokens, four
query heads and two key heads of 8."""

import pytest
from torch import nn

from turnsmith.data.batch import pack, pad
from turnsmith.models.cost import Work, energy_wh, forward_flops, training_flops, work
from turnsmith.testing import model, tokens
from turnsmith.trainables.install import install
from turnsmith.trainables.lora import Lora
from turnsmith.trainables.select import layers
from turnsmith.types import Rendered

# A layer: queries and outputs 32 x 32, keys and values 32 x 16, three matrices of 32 x 64.
BODY = 2 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64)
HEAD = 320 * 32


def test_a_weight_that_learns_takes_six_operations_a_token_and_the_head_runs_at_trained_tokens():
    assert training_flops(model(), tokens=10, supervised=3) == 6 * (BODY * 10 + HEAD * 3)


def test_a_frozen_weight_takes_four_where_something_below_it_learns():
    """The embeddings are the head as well."""
    frozen = model().requires_grad_(False)
    frozen.get_input_embeddings().requires_grad_(True)
    assert training_flops(frozen, tokens=10, supervised=3) == 4 * BODY * 10 + 6 * HEAD * 3


def test_the_frozen_lowest_blocks_are_run_forward_only():
    whole = install(model(), layers, {"last": 1}, seed=0)
    assert training_flops(whole, tokens=10, supervised=3) == (6 + 2) * BODY / 2 * 10 + 4 * HEAD * 3


def test_where_their_states_are_kept_the_lowest_blocks_are_run_for_those_alone():
    whole = install(model(), layers, {"last": 1}, seed=0)
    expected = BODY / 2 * (6 * 10 + 2 * 7) + 4 * HEAD * 3
    assert training_flops(whole, tokens=10, supervised=3, lowest=7) == expected


def test_a_forward_pass_alone_takes_two():
    assert forward_flops(model().requires_grad_(False), tokens=10, supervised=3) == 2 * (BODY * 10 + HEAD * 3)


def test_an_adapter_takes_six_beside_the_four_of_what_it_rests_on():
    """Rank 4 on seven matrices of each layer: rank times inputs and outputs."""
    adapter = 2 * 4 * (2 * (32 + 32) + 2 * (32 + 16) + 3 * (32 + 64))
    adapted = install(model(), Lora, {"rank": 4}, seed=0)
    assert training_flops(adapted, tokens=10, supervised=3) == 4 * (BODY * 10 + HEAD * 3) + 6 * adapter * 10


def test_a_pair_in_attention_takes_twelve_for_each_number_of_the_queries():
    """Three tokens see 1, 2 and 3: six pairs, of 32 numbers in each of two layers."""
    alone = training_flops(model(), tokens=3, supervised=1)
    assert training_flops(model(), tokens=3, supervised=1, attended=6) - alone == 12 * 6 * 32 * 2


def test_a_module_without_linear_layers_takes_nothing():
    assert training_flops(nn.Embedding(3, 3), tokens=10, supervised=3) == 0


def test_energy_is_ten_watts_a_core():
    assert energy_wh(3600, 2) == pytest.approx(20)


def test_the_work_of_batches_is_their_tokens_those_at_the_head_and_what_each_sees():
    """Sequences of 3 and 2 tokens in one batch, of 2 in the other: 6 + 3 + 3 pairs; padding sees nothing."""
    one, two, three = (
        Rendered(f"{ids}", {"text": (tokens(ids, trained),)})
        for ids, trained in (([5, 6, 7], 2), ([8, 9], 1), ([5, 9], 1))
    )
    for layout in (pack, pad):
        assert work([layout([one, two]), layout([three])]) == Work(tokens=7, supervised=4, attended=12)


def test_what_replies_share_is_computed_once_and_seen_by_each():
    """A prompt of 16 and two replies of 2: 136 pairs, and 17 + 18 for each reply."""
    prompt = list(range(20, 36))
    replies = tuple(tokens([*prompt, *ids], 2) for ids in ([5, 6], [7, 8]))
    batch = pack([Rendered("made", {"replies": replies})])
    assert work([batch]) == Work(tokens=20, supervised=4, attended=136 + 70)
