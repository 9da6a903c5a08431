"""Micro-batches: packed or padded, every token is there, and prefixes that are shared are laid down once."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from turnsmith.data.batch import cut, deal, fill_rows, micro_batches, pack, pad, slots
from turnsmith.data.tree import Kinship, grow
from turnsmith.errors import DataError
from turnsmith.models.forest import attach
from turnsmith.models.score import Scoring
from turnsmith.testing import model, tokens
from turnsmith.types import Path, Rendered, Tokens


def example(name, **parts):
    """An example of ids; the last two tokens of each sequence are trained."""
    return Rendered(
        name, {part: tuple(tokens(ids, min(2, len(ids))) for ids in ones) for part, ones in parts.items()}
    )


def routes(batch):
    """The row index of each token of each path, found by walking up from where the path is read."""
    forest, found = batch.forest, []
    for read in batch.reads.tolist():
        segment = next(s for s in range(len(forest.parent)) if read < forest.bounds[s + 1])
        line = [i for s in forest.ancestors(segment) for i in range(forest.bounds[s], forest.bounds[s + 1])]
        found.append([*line, *range(forest.bounds[segment], read + 1)])
    return found


def held(batch, route):
    return [int(batch.inputs.flatten()[i]) for i in route]


SHARED = list(range(10, 30))  # 20 tokens, more than the least that is worth sharing
PAIR = example("pair", chosen=[[*SHARED, 1, 2, 3]], rejected=[[*SHARED, 4, 5]])

ids = st.lists(st.integers(0, 3), min_size=1, max_size=12)
examples = st.lists(st.lists(ids, min_size=1, max_size=4), min_size=1, max_size=4).map(
    lambda ones: [example(str(i), replies=sequences) for i, sequences in enumerate(ones)]
)
# The same with every token eight times, so that beginnings are long enough to be shared.
broad = st.lists(
    st.lists(ids.map(lambda some: [id for id in some for _ in range(8)]), min_size=1, max_size=4),
    min_size=1, max_size=5,
).map(lambda ones: [example(str(i), replies=sequences) for i, sequences in enumerate(ones)])  # fmt: skip


# ------------------------------------------------------------------------------------------------- packed


def test_a_prompt_with_two_answers_is_laid_down_once():
    batch = pack([PAIR])
    assert batch.forest.bounds == (0, 20, 23, 25)
    assert batch.forest.parent == (-1, 0, 0)
    assert batch.inputs.tolist() == [[*SHARED, 1, 2, 3, 4, 5]]
    assert batch.positions.tolist() == [[*range(20), 20, 21, 22, 20, 21]]
    assert batch.reads.tolist() == [22, 24]
    assert batch.mask is None
    assert (batch.slots, batch.tokens) == (25, 25)


def test_trained_tokens_point_to_the_state_before_them():
    batch = pack([PAIR])
    assert batch.source[batch.entry].tolist() == [20, 21, 19, 23]  # 4 comes after the last shared token
    assert batch.targets[batch.entry].tolist() == [2, 3, 4, 5]
    assert batch.path.tolist() == [0, 0, 1, 1]
    assert batch.paths == (Path(0, "chosen", 0), Path(0, "rejected", 0))
    assert batch.ids == ("pair",)


def test_identical_sequences_are_laid_down_once_and_trained_twice():
    batch = pack([example("twice", replies=[SHARED, SHARED])])
    assert batch.forest.bounds == (0, 20)
    assert batch.source.tolist() == [17, 18]
    assert batch.entry.tolist() == [0, 1, 0, 1]
    assert batch.path.tolist() == [0, 0, 1, 1]
    assert batch.reads.tolist() == [19, 19]


def test_a_sequence_that_begins_another_needs_no_segment_of_its_own():
    batch = pack([example("short", text=[SHARED]), example("long", text=[[*SHARED, 7, 8]])])
    assert batch.forest.bounds == (0, 20, 22)
    assert batch.forest.parent == (-1, 0)
    assert batch.reads.tolist() == [19, 21]


def test_below_the_least_length_nothing_is_shared():
    short = example("short", replies=[[1, 2, 3, 4], [1, 2, 3, 5]])
    assert pack([short], least=4).forest.parent == (-1, -1)
    assert pack([short], least=3).forest.parent == (-1, 0, 0)


def test_different_examples_never_see_each_other():
    batch = pack([example("a", text=[[1, 2, 3]]), example("b", text=[[4, 5]])])
    assert batch.forest.bounds == (0, 3, 5)
    assert batch.forest.parent == (-1, -1)
    assert batch.positions.tolist() == [[0, 1, 2, 0, 1]]


def test_branches_branch_again():
    one, two, three = [1, 2, 3, 5, 6, 7, 8], [1, 2, 3, 5, 6, 9], [1, 2, 3, 4]
    forest = pack([example("tree", replies=[one, two, three])], least=2).forest
    assert forest.bounds == (0, 3, 4, 6, 8, 9)  # 123 and 4, then 56 and 78, and last 9
    assert forest.parent == (-1, 0, 0, 2, 2)


@settings(max_examples=100, deadline=None)
@given(examples, st.integers(1, 6))
def test_packed_paths_hold_every_token_in_order(given_examples, least):
    batch = pack(given_examples, least=least)
    sequences = [one for e in given_examples for one in e.parts["replies"]]
    for sequence, route in zip(sequences, routes(batch), strict=True):
        assert held(batch, route) == sequence.inputs.tolist()
        assert batch.positions.flatten()[route].tolist() == list(range(len(route)))
    assert batch.positions.flatten().tolist() == batch.forest.positions()
    assert batch.slots <= sum(len(sequence) for sequence in sequences)
    assert trained(batch) == by_hand(sequences)


@settings(max_examples=60, deadline=None)
@given(examples)
def test_padded_rows_hold_every_token_in_order(given_examples):
    batch = pad(given_examples)
    sequences = [one for e in given_examples for one in e.parts["replies"]]
    for row, sequence in enumerate(sequences):
        assert batch.inputs[row][batch.mask[row] == 1].tolist() == sequence.inputs.tolist()
        assert batch.mask[row].tolist() == sorted(batch.mask[row].tolist(), reverse=True)
        assert batch.positions[row, : len(sequence)].tolist() == list(range(len(sequence)))
        assert int(batch.inputs.flatten()[batch.reads[row]]) == sequence.inputs[-1]
    assert batch.tokens == sum(len(sequence) for sequence in sequences)
    assert trained(batch) == by_hand(sequences)


def trained(batch):
    """(path, token before, token) of each trained token."""
    before = batch.inputs.flatten()[batch.source][batch.entry].tolist()
    return list(zip(batch.path.tolist(), before, batch.targets[batch.entry].tolist(), strict=True))


def by_hand(sequences):
    return [
        (path, int(one.inputs[i - 1]), int(one.targets[i]))
        for path, one in enumerate(sequences)
        for i in range(len(one))
        if one.weights[i] != 0
    ]


# ------------------------------------------------------------------------------------- what tokens carry


def test_weights_turns_extras_and_values_follow_the_trained_tokens():
    array = np.array([5, 6, 7, 8], np.int32)
    one = Tokens(
        array, array + 1, np.array([0, 0.5, 0, 2], np.float32), np.array([0, 1, 1, 3], np.int32),
        {"reference": np.array([0, -1, -2, -3], np.float32)},
    )  # fmt: skip
    for lay in (pack, pad):
        batch = lay([Rendered("one", {"text": (one,)}, {"rating": 4.0})])
        assert batch.weights.tolist() == [0.5, 2.0]
        assert batch.turns.tolist() == [1, 3]
        assert batch.extras["reference"].tolist() == [-1, -3]
        assert batch.values["rating"].tolist() == [4.0]
        assert batch.targets[batch.entry].tolist() == [7, 9]  # what should be predicted, not what was read
        assert batch.inputs.tolist() == [[5, 6, 7, 8]]


def several(name, *rewards):
    ones = tuple(tokens([3, 4, 5, 6 + number], 2) for number in range(len(rewards)))
    return Rendered(name, {"replies": ones}, {"reward": rewards, "rating": float(len(rewards))})


def test_values_of_several_conversations_stand_in_the_order_of_their_paths():
    for lay in (pack, pad):
        batch = lay([several("a", 0.5, 0.25), several("b", 4.0)])
        assert batch.values["reward"].tolist() == [0.5, 0.25, 4.0]
        assert batch.values["rating"].tolist() == [2.0, 1.0]
        assert [tuple(path) for path in batch.paths] == [
            (0, "replies", 0),
            (0, "replies", 1),
            (1, "replies", 0),
        ]


def test_where_an_example_is_cut_each_conversation_keeps_its_own_value():
    made = several("a", 0.5, 0.25)
    assert [one.values for one in cut(made, 4, pad)] == [
        {"reward": (0.5,), "rating": 2.0},
        {"reward": (0.25,), "rating": 2.0},
    ]


def test_tokens_with_the_id_of_the_padding_are_tokens_like_others():
    """Padding has the id 0, which may also be the end of a text; what is padding is told by its place."""
    zeros = Rendered("zeros", {"text": (tokens([7, 0, 5, 0, 0], 2),)})
    batch = pad([zeros, Rendered("long", {"text": (tokens([1, 2, 3, 4, 5, 6, 7], 1),)})])
    assert batch.mask.tolist() == [[1, 1, 1, 1, 1, 0, 0], [1] * 7]
    assert batch.targets[batch.entry].tolist() == [0, 0, 7]
    assert batch.path.tolist() == [0, 0, 1]
    assert batch.tokens == 12


def test_targets_that_differ_after_the_same_state_are_kept_apart():
    same = np.array(SHARED, np.int32)
    other = same.copy()
    other[-1] = 3
    weights = np.zeros(20, np.float32)
    weights[-1] = 1
    turns = np.zeros(20, np.int32)
    views = tuple(Tokens(same, targets, weights, turns) for targets in (same, other))
    batch = pack([Rendered("views", {"text": views})])
    assert batch.forest.bounds == (0, 20)
    assert batch.targets[batch.entry].tolist() == [29, 3]
    assert batch.source[batch.entry].tolist() == [18, 18]


def test_two_examples_without_a_common_value_are_refused_by_name():
    rated = Rendered("rated", {"text": (tokens([1, 2], 1),)}, {"rating": 1.0})
    plain = Rendered("plain", {"text": (tokens([1, 2], 1),)})
    for lay in (pack, pad):
        with pytest.raises(DataError, match="example 'plain' has no value 'rating'"):
            lay([rated, plain])


# ------------------------------------------------------------------------------------------ micro-batches


def apart(*sizes):
    """Examples of so many tokens that share nothing."""
    return [example(str(i), text=[[i] * n]) for i, n in enumerate(sizes)]


def positions(runs, layout=pack):
    return [layout(run).slots for run in runs]


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([3, 4, 3], [[0, 1, 2]]),
        ([3, 4, 4], [[1, 2], [0]]),  # the largest first: 4 and 4, and 3 is left
        ([3, 6, 4, 7], [[0, 3], [1, 2]]),  # 7 and 3, 6 and 4: both rows are full
        ([11, 3], [[0], [1]]),
        ([3, 11, 3], [[1], [0, 2]]),
        ([10, 10], [[0], [1]]),
        ([], []),
    ],
)
def test_a_window_is_dealt_out_to_rows_of_ten(sizes, expected):
    assert deal(apart(*sizes), 10) == expected


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([3, 4, 3], [["0", "1", "2"]]),
        ([3, 4, 4], [["0", "1"], ["2"]]),
        ([3, 11, 3], [["0"], ["1"], ["2"]]),
        ([], []),
    ],
)
def test_runs_keep_the_order_that_they_are_given(sizes, expected):
    assert [[one.id for one in run] for run in micro_batches(iter(apart(*sizes)), 10)] == expected


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([3, 4, 3], [[0, 1], [2]]),  # two rows of 4 are 8 positions, three would be 12
        ([2, 9, 2, 2, 8], [[1], [4], [0, 2, 3]]),  # neighbours in length, whatever their order
        ([11, 3], [[0], [1]]),
    ],
)
def test_padded_rows_count_their_padding(sizes, expected):
    assert deal(apart(*sizes), 10, pad) == expected


def test_answers_to_one_prompt_count_it_once_wherever_they_stand():
    """A prompt of 20 tokens and answers of 2: three examples take 26 tokens, and no fourth of 5 fits."""
    one, two, three = (example(f"p{i}", text=[[*SHARED, i, i]]) for i in (1, 2, 3))
    other = example("other", text=[[40, 41, 42, 43, 44]])
    window = [one, other, two, three]
    assert deal(window, 26) == [[0, 2, 3], [1]]
    assert deal(window, 31) == [[0, 1, 2, 3]]
    assert positions(fill_rows(window, 26)) == [26, 5]


def test_an_example_goes_where_most_of_it_is_laid_down_already():
    """Two rows have room for the answer; in one of them is its prompt."""
    prompt = [60 + i for i in range(20)]
    window = [
        example("a", text=[[*SHARED, *range(80, 90)]]),
        example("b", text=[[*prompt, *range(90, 99)]]),
        example("answer", text=[[*prompt, 1, 2]]),
    ]
    assert deal(window, 52) == [[0], [1, 2]]


def test_a_pair_counts_its_prompt_once():
    assert slots(PAIR) == 25
    assert slots(PAIR, pad) == 2 * 23
    other = example("other", text=[[1, 2, 3, 4, 5]])
    assert deal([PAIR, other], 30) == [[0, 1]]
    assert deal([PAIR, other], 29) == [[0], [1]]


TREE = example("tree", replies=[[*SHARED, i, i, i] for i in (1, 2, 3)])


def test_a_tree_over_the_row_is_cut_into_rows_that_repeat_its_prefix_where_the_loss_is_of_tokens():
    assert slots(TREE) == 20 + 9
    runs = fill_rows([TREE], 26, per="token")
    assert positions(runs) == [26, 23]
    assert [[one.parts["replies"][0].inputs.tolist() for one in run] for run in runs] == [
        [[*SHARED, 1, 1, 1], [*SHARED, 2, 2, 2]],
        [[*SHARED, 3, 3, 3]],
    ]
    assert positions(fill_rows([TREE], 29, per="token")) == [29]


@pytest.mark.parametrize("per", ["sequence", "example"])
def test_a_tree_over_the_row_stays_whole_where_the_loss_is_of_more_than_tokens(per):
    assert fill_rows([TREE], 26, per=per) == [[TREE]]


def test_a_sequence_over_the_row_stands_alone_and_whole():
    long, short = example("long", text=[list(range(12))]), example("short", text=[[40, 41, 42]])
    assert fill_rows([short, long], 10, per="token") == [[long], [short]]


@settings(max_examples=100, deadline=None)
@given(broad, st.integers(1, 300), st.sampled_from([pack, pad]), st.sampled_from(["token", "example"]))
def test_micro_batches_keep_every_sequence_once_and_the_row(window, row, layout, per):
    runs = fill_rows(window, row, layout=layout, per=per)
    held = [one for run in runs for e in run for one in e.parts["replies"]]
    given_ones = [one for e in window for one in e.parts["replies"]]
    assert sorted(map(id, held)) == sorted(map(id, given_ones))
    for run, taken in zip(runs, positions(runs, layout), strict=True):
        assert taken <= row or len(run) == 1
        assert taken <= row or per == "example" or len(run[0].parts["replies"]) == 1
    if per == "example":
        assert sorted(map(id, (e for run in runs for e in run))) == sorted(map(id, window))


@settings(max_examples=200, deadline=None)
@given(examples, st.integers(1, 6), st.data())
def test_what_any_sequences_take_together_is_counted_as_it_is_laid_down(given_examples, least, data):
    sequences = [one.inputs for e in given_examples for one in e.parts["replies"]]
    kinship = Kinship(sequences, least)
    chosen = data.draw(st.sets(st.integers(0, len(sequences) - 1), min_size=1))
    places = sorted(kinship.rank[index] for index in chosen)
    assert kinship.tokens(places) == grow([sequences[index] for index in chosen], least).bounds[-1]


def test_the_same_window_gives_the_same_micro_batches():
    window = [example(str(i), text=[[i % 3] * 17 + [i] * (i % 5 + 1)]) for i in range(20)]
    once, again = deal(window, 40), deal(list(window), 40)
    assert once == again


# --------------------------------------------------------------------------------- the same numbers


def test_packed_and_padded_give_the_same_log_probs():
    packed, padded = Scoring(model()), Scoring(model())
    attach(packed.model)
    rng = np.random.default_rng(0)
    start = rng.integers(0, 320, 24).tolist()
    window = [
        example("pair", chosen=[[*start, 5, 6, 7]], rejected=[[*start, 8, 9]]),
        example("same", replies=[start, [*start, 4], start[:20]]),
        example("other", text=[rng.integers(0, 320, 9).tolist()]),
    ]
    with torch.no_grad():
        one, other = packed(pack(window)), padded(pad(window))
    # 1e-5: two layouts add the same fp32 numbers in another order, over two layers.
    assert torch.allclose(one.logprobs, other.logprobs, atol=1e-5)
    assert one.paths == other.paths
    assert one.path.tolist() == other.path.tolist()
    whole = torch.tensor([[*start, 5, 6, 7]])
    with torch.no_grad():
        expected = model()(whole).logits[0].log_softmax(-1)
    assert float(one.logprobs[0]) == pytest.approx(float(expected[-3, 6]), abs=1e-5)
    assert float(one.logprobs[1]) == pytest.approx(float(expected[-2, 7]), abs=1e-5)
