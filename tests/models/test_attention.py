"""Attention over a forest equals softmax under a mask that is written out token by token."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from turnsmith.models import attention
from turnsmith.models.attention import QUERIES, attend, attend_by_mask, blocks
from turnsmith.models.forest import Forest, _over_segments

PROMPT = Forest((0, 3, 5, 6), (-1, 0, 0))  # a prompt of three tokens, an answer of two and one of one


def paths(forest: Forest) -> list[list[int]]:
    """For each token the places of all tokens of its path up to itself, root first."""
    result = []
    for segment, start in enumerate(forest.bounds[:-1]):
        own = [*forest.ancestors(segment), segment]
        path = [place for one in own for place in range(forest.bounds[one], forest.bounds[one + 1])]
        result += [path[: path.index(place) + 1] for place in range(start, forest.bounds[segment + 1])]
    return result


def dense(
    query: Tensor, key: Tensor, value: Tensor, forest: Forest, scale: float, window: int | None
) -> Tensor:
    """(1, T, heads, D'), each token by itself."""
    share = query.shape[1] // key.shape[1]
    rows = []
    for place, path in enumerate(paths(forest)):
        seen = path if window is None else path[-window:]
        heads = []
        for head in range(query.shape[1]):
            keys, values = key[0, head // share, seen], value[0, head // share, seen]
            heads.append(torch.softmax(scale * keys @ query[0, head, place], 0) @ values)
        rows.append(torch.stack(heads))
    return torch.stack(rows)[None]


def states(
    forest: Forest, heads: int, groups: int, width: int = 4, more: int = 1, seed: int = 0
) -> list[Tensor]:
    """Queries, keys and values, these wider by `more`, in float64 that ask for gradients."""
    generator = torch.Generator().manual_seed(seed)
    length = forest.bounds[-1]
    sizes = [(1, heads, length, width), (1, groups, length, width), (1, groups, length, width + more)]
    return [torch.randn(s, generator=generator, dtype=torch.float64, requires_grad=True) for s in sizes]


def agree(forest: Forest, heads: int = 4, groups: int = 2, window: int | None = None) -> None:
    found, expected = states(forest, heads, groups), states(forest, heads, groups)
    out = attend(*found, forest, scale=0.7, window=window)
    wanted = dense(*expected, forest, 0.7, window)
    torch.testing.assert_close(out, wanted, rtol=1e-12, atol=1e-12)
    slopes = torch.randn(out.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    out.backward(slopes)
    wanted.backward(slopes)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-10, atol=1e-12)


@st.composite
def forests(draw):
    lengths = draw(st.lists(st.integers(1, 6), min_size=1, max_size=7))
    parent = [draw(st.integers(-1, number - 1)) for number in range(len(lengths))]
    return Forest(tuple(sum(lengths[:n]) for n in range(len(lengths) + 1)), tuple(parent))


@given(forests(), st.sampled_from([None, 1, 2, 5]), st.sampled_from([2, 3, 128]))
@settings(max_examples=60, deadline=None)
def test_any_forest_equals_the_mask_written_out_in_values_and_gradients(forest, window, queries):
    before, attention.QUERIES = attention.QUERIES, queries
    blocks.cache_clear()
    try:
        agree(forest, window=window)
    finally:
        attention.QUERIES = before
        blocks.cache_clear()


@pytest.mark.parametrize("window", [None, 1, 4])
def test_segment_by_segment_the_same_is_seen(window):
    """As it is computed with attention dropout, here of none."""
    forest = Forest((0, 6, 9, 10, 15, 17, 20), (-1, 0, 0, -1, 1, 4))
    query, key, value = states(forest, 4, 2, more=0)
    settings = {"dropout_p": 0.0, "scale": 0.7, "enable_gqa": True}
    found = _over_segments(query, key, value, forest, window, settings)
    torch.testing.assert_close(found, dense(query, key, value, forest, 0.7, window), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("heads", "groups"), [(1, 1), (6, 2), (3, 3)])
def test_heads_share_keys_by_groups(heads, groups):
    agree(PROMPT, heads, groups)


def test_a_segment_longer_than_a_block_is_cut_and_short_ones_stand_together():
    forest = Forest((0, 2 * QUERIES + 1, 2 * QUERIES + 3, 2 * QUERIES + 4), (-1, 0, -1))
    assert [(block.start, block.stop) for block in blocks(forest, None)] == [
        (0, 128), (128, 256), (256, 260),
    ]  # fmt: skip
    agree(forest, 2, 1)


def test_a_block_reads_only_keys_that_some_query_of_it_sees():
    forest = Forest((0, 200, 400, 500), (-1, -1, 0))
    spans = [block.spans for block in blocks(forest, None)]
    assert spans == [
        ((0, 128),), ((0, 200),), ((200, 328),), ((200, 400),), ((0, 200), (400, 500)),
    ]  # fmt: skip
    near = blocks(Forest((0, 400), (-1,)), 10)
    assert near[-1].spans == ((384 - 9, 400),)


def test_only_keys_behind_the_first_hidden_one_are_masked():
    block = blocks(Forest((0, 200), (-1,)), None)[1]
    assert block.hidden.shape == (72, 71)  # of keys 0..199 each query sees 0..128 at least
    assert block.hidden[0].eq(-torch.inf).all()
    assert block.hidden[-1].eq(0).all()


def test_bf16_differs_from_float64_by_rounding_alone():
    forest = Forest((0, 60, 100, 130), (-1, 0, 0))
    exact = states(forest, 4, 2, width=16)
    rough = [one.detach().bfloat16().requires_grad_() for one in exact]
    expected, found = (attend(*each, forest, scale=0.25) for each in (exact, rough))
    assert found.dtype == torch.bfloat16
    for out in (expected, found):
        out.backward(torch.ones_like(out))
    for one, other in [(found, expected), *((a.grad, b.grad) for a, b in zip(rough, exact, strict=True))]:
        assert (one.double() - other).norm() / other.norm() < 8e-3  # two roundings of 8 bits


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_a_block_mask_gives_what_blocks_of_queries_give():
    for window in (None, 3):
        with torch.no_grad():
            query, key, value = (each.float() for each in states(PROMPT, 4, 2, more=0))
            expected = attend(query, key, value, PROMPT, scale=0.5, window=window)
            found = attend_by_mask(query, key, value, PROMPT, scale=0.5, window=window)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.gpu
@pytest.mark.parametrize("window", [None, 50])
def test_on_a_gpu_a_block_mask_has_the_gradients_of_the_blocks(window):
    forest = Forest((0, 300, 420, 431, 700), (-1, 0, 0, -1))
    exact = states(forest, 4, 2, width=64, more=0)
    fast = [one.detach().float().cuda().requires_grad_() for one in exact]
    slopes = torch.randn(1, 700, 4, 64, dtype=torch.float64)
    attend(*exact, forest, scale=0.125, window=window).backward(slopes)
    attend_by_mask(*fast, forest, scale=0.125, window=window).backward(slopes.float().cuda())
    for one, other in zip(fast, exact, strict=True):
        assert (one.grad.double().cpu() - other.grad).norm() / other.grad.norm() < 1e-3  # TF32 products
