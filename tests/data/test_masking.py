"""Masked Thought: the checks of its card, by number."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from turnsmith.data.batch import pack, pad
from turnsmith.data.masking import masked_thought
from turnsmith.errors import UsageError
from turnsmith.models import forest, vocab
from turnsmith.models.score import Scoring
from turnsmith.objectives.likelihood import sft
from turnsmith.testing import model, tokenizer, tokens
from turnsmith.types import Rendered, Sight

MASK = 299
QUESTION, SOLUTION = [5, 6, 7, 8], [20, 21, 22, 23, 24]
EXAMPLE = tokens([*QUESTION, *SOLUTION], trained=len(SOLUTION))
LONG = tokens(range(3, 253), trained=200)


def sight(step=0, *, total=9, seed=0):
    return Sight(np.random.default_rng(seed), step, total, vocabulary=300, ids={"<mask>": MASK})


def seen(one=EXAMPLE, *, step=9, seed=0, **options):
    return masked_thought(one, sight(step, seed=seed), **options)


def loss(one, layout=pack):
    whole = model()
    forest.attach(whole)
    scores = Scoring(whole)(layout([Rendered("a", {"text": (one,)})]))
    return sft(scores).values


@pytest.mark.parametrize(("step", "options"), [(9, {"rate": 0.0}), (0, {"rate": 0.4})])
def test_check_1_at_rate_0_and_at_the_first_step_the_batch_is_that_of_sft(step, options):
    one = seen(step=step, **options)
    for name in ("inputs", "targets", "weights", "turns"):
        assert np.array_equal(getattr(one, name), getattr(EXAMPLE, name))


def test_check_2_targets_and_question_are_never_masked():
    for seed in range(20):
        one = seen(rate=0.9, seed=seed)
        assert one.targets.tolist() == [*QUESTION, *SOLUTION]
        assert one.inputs[:4].tolist() == QUESTION
        assert set(one.inputs[4:].tolist()) <= {MASK, *SOLUTION}


@pytest.mark.parametrize("token", ["<mask>", None])
def test_check_2_the_share_of_masked_tokens_is_the_rate(token):
    """200 tokens learn; over 50 sights the number of exchanged ones is within 3 deviations of p T."""
    rate, draws = 0.4, 50 * 200
    found = sum(
        int((seen(LONG, rate=rate, seed=seed, token=token).inputs != LONG.inputs).sum()) for seed in range(50)
    )
    kept = 1 - (token is None) / 300  # one in 300 of those drawn from the vocabulary is the same again
    assert abs(found - kept * rate * draws) < 3 * math.sqrt(draws * rate * (1 - rate)) + 1


@pytest.mark.parametrize("layout", [pack, pad])
def test_check_3_the_loss_at_the_first_token_of_the_solution_is_that_of_sft(layout):
    plain, masked = loss(EXAMPLE, layout), loss(seen(rate=1.0), layout)
    torch.testing.assert_close(masked[0], plain[0])
    assert not torch.isclose(masked[1:], plain[1:]).any()


def test_check_4_the_rate_rises_over_two_thirds_of_the_steps_and_stays():
    """Of 9 steps 6: at each of them as many tokens are masked as a fixed rate of step / 6 of 0.6 masks."""
    for step in range(9):
        rate = 0.6 * min(1.0, step / 6)
        expected = masked_thought(LONG, sight(seed=step), rate=rate, rising=0.0).inputs
        assert np.array_equal(seen(LONG, step=step, seed=step, rate=0.6).inputs, expected)


def test_check_5_at_rate_1_the_model_reads_nothing_of_the_solution_but_its_length():
    one = seen(rate=1.0)
    assert one.inputs.tolist() == [*QUESTION, *[MASK] * 5]
    other = replace(one, inputs=np.array([*QUESTION, *[MASK] * 5], dtype=np.int32))
    torch.testing.assert_close(loss(one), loss(other))


def test_check_6_a_solution_of_its_end_alone_has_one_loss_token():
    one = tokens([*QUESTION, 2], trained=1)
    assert len(loss(seen(one, rate=1.0))) == 1
    torch.testing.assert_close(loss(seen(one, rate=1.0)), loss(one))


def test_check_6_two_sights_draw_other_masks_and_the_same_sight_the_same():
    first, other, same = (seen(LONG, rate=0.5, seed=seed).inputs.tolist() for seed in (0, 1, 0))
    assert first == same != other


def test_check_6_a_mask_that_the_vocabulary_lacks_is_added_and_a_tied_head_grows_with_it():
    words = copy.deepcopy(tokenizer())
    whole = model(vocabulary=len(words))
    before = whole.get_input_embeddings().weight.detach().clone()
    vocab.add(whole, words, ["<mask>"])
    table = whole.get_input_embeddings().weight
    mask = words.convert_tokens_to_ids("<mask>")
    assert len(table) == len(words) == len(before) + 1 == mask + 1
    assert whole.get_output_embeddings().weight is table
    assert torch.equal(table[:mask], before)
    torch.testing.assert_close(table[mask], before.mean(0))
    vocab.add(whole, words, ["<mask>"])
    assert whole.get_input_embeddings().weight is table


def test_check_6_where_the_model_has_room_for_it_nothing_grows():
    words = copy.deepcopy(tokenizer())
    whole = model(vocabulary=len(words) + 5)
    table = whole.get_input_embeddings().weight
    vocab.add(whole, words, ["<mask>"])
    assert whole.get_input_embeddings().weight is table


@pytest.mark.parametrize("options", [{"rate": 1.5}, {"rising": -0.1}])
def test_what_is_no_share_is_refused(options):
    with pytest.raises(UsageError, match="is a share, not"):
        seen(**options)
