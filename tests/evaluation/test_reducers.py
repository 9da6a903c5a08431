"""Reducers against their definitions: values by hand, ties, resamples, and what has no figure.

Figures that are said to be agreed are those that scikit-learn 1.9.1, scipy 1.17.1 and sacrebleu 2.6.0 give.
"""

import math

import numpy as np
import pytest

from turnsmith.evaluation.reducers import (
    REDUCERS,
    bleu_counts,
    joint_goal,
    pass_at,
    rouge,
    value_of,
)

SCORE = [0.9, 0.8, 0.8, 0.7, 0.7, 0.7, 0.5, 0.4, 0.4, 0.3, 0.2, 0.1]
LABEL = [1, 1, 0, 1, 0, 0, 1, 0, 1, 0, 0, 1]
OTHER = [5, 3, 4, 4, 2, 5, 1, 3, 3, 2, 2, 1]
GOLD = [2, 1, 0, 1, 2, 2, 0, 0, 1, 2, 1, 1]
SAID = [2, 1, 1, 1, 0, 2, 0, 2, 1, 2, 0, 1]


@pytest.mark.parametrize(
    ("name", "values", "figure"),
    [
        ("mean", ([1, 2, 6],), 3),
        ("ratio", ([1, 2, 6], [1, 1, 4]), 1.5),
        ("accuracy", ([1, 2, 3, 3], [1, 2, 2, 3]), 0.75),
        ("jga", ([1, 0, 0, 1, 1],), 0.6),
        ("brier", ([0.5, 1.0, 0.2], [1, 1, 0]), (0.25 + 0 + 0.04) / 3),
        # Two bins of two: |1 - 1.9| and |2 - 1.1|, over four.
        ("ece", ([0.95, 0.95, 0.55, 0.55], [1, 0, 1, 1]), 0.45),
        ("ece", ([0, 1], [1, 1]), 0.5),
        ("f1", ([1, 1, 0, 0], [1, 0, 1, 0]), 0.5),
        ("f1-micro", ([0, 1, 2, 2], [0, 1, 1, 2]), 0.75),
        # Classes 0, 1, 2 have 1, 2/(1 + 2), 2/(2 + 1).
        ("f1-macro", ([0, 1, 2, 2], [0, 1, 1, 2]), 7 / 9),
        # Of 4 * 4 pairs, .35 wins 2, .8 all 4, each .4 two and half of a tie.
        ("auroc", ([0.1, 0.4, 0.35, 0.8, 0.4, 0.7, 0.4, 0.2], [0, 0, 1, 1, 1, 0, 1, 0]), 11 / 16),
        # Recall rises by 1/4 at .8 (precision 1), by 2/4 at .4 (3/5), by 1/4 at .35 (4/6).
        ("auprc", ([0.1, 0.4, 0.35, 0.8, 0.4, 0.7, 0.4, 0.2], [0, 0, 1, 1, 1, 0, 1, 0]), 0.25 + 0.3 + 1 / 6),
        # The first ranks perfectly, the second has the two of class 1 at places 2 and 3.
        ("auprc-gain", ([4, 3, 2, 1], [3, 2, 4, 1], [1, 1, 0, 0]), 1 - (1 / 2 + 2 / 3) / 2),
        ("auprc-gain", ([3, 2, 4, 1], [4, 3, 2, 1], [1, 1, 0, 0]), (1 / 2 + 2 / 3) / 2 - 1),
        ("pearson", ([1, 2, 2, 3], [1, 3, 2, 2]), 0.5),
        # Ranks 1, 2.5, 2.5, 4 and 1, 4, 2.5, 2.5: 2.25 / 4.5.
        ("spearman", ([1, 2, 2, 3], [1, 3, 2, 2]), 0.5),
        # 3 concordant, 1 discordant, one tie in each: 2 / sqrt(5 * 5).
        ("kendall", ([1, 2, 2, 3], [1, 3, 2, 2]), 0.4),
    ],
)
def test_figures_are_those_worked_out_by_hand(name, values, figure):
    assert value_of(name, *values) == pytest.approx(figure, abs=1e-12)


@pytest.mark.parametrize(
    ("name", "values", "figure"),
    [
        ("auroc", (SCORE, LABEL), 0.5833333333333334),
        ("auprc", (SCORE, LABEL), 0.6322751322751323),
        ("pearson", (SCORE, OTHER), 0.7178565582287728),
        ("spearman", (SCORE, OTHER), 0.704533095827927),
        ("kendall", (SCORE, OTHER), 0.5935614662907046),
        ("f1-macro", (SAID, GOLD), 0.6277777777777778),
        ("f1-micro", (SAID, GOLD), 0.6666666666666666),
        ("brier", (SCORE, LABEL), 0.2891666666666666),
    ],
)
def test_figures_are_those_agreed_with_other_libraries(name, values, figure):
    assert value_of(name, *values) == pytest.approx(figure, abs=1e-12)


def bleu_of(said, references):
    counts = [bleu_counts(one, others) for one, others in zip(said, references, strict=True)]
    return value_of("bleu", *([one[name] for one in counts] for name in REDUCERS["bleu"].inputs))


def test_bleu_by_hand():
    """5 of 6 words, 3 of 5 pairs, 1 of 4 triples, none of 3 fours (smoothed to 1/2); 6 words for 7."""
    found = bleu_of(["the cat is on the mat"], [["the cat sat on the mat today"]])
    assert found == pytest.approx(100 * math.exp(1 - 7 / 6) * (5 / 6 * 3 / 5 * 1 / 4 * 0.5 / 3) ** 0.25)


def test_bleu_takes_the_nearest_reference_and_clips_by_each():
    """`the the the` matches twice, as often as the reference that has it most often."""
    found = bleu_counts("the the the", ["the cat and the dog", "the dog ran"])
    assert (found["match_1"], found["words"], found["reference"]) == (2, 3, 3)


def test_bleu_is_the_one_agreed_with_sacrebleu():
    said = ["It's 3.5 kg, isn't it?", 'A well-known man said: "no"!']
    references = [
        ["It is 3.5 kg, isn't it?", "That's 3.5 kilograms, is it?"],
        ['A well-known man said "no".', 'The man whom all know said: "no"!'],
    ]
    assert bleu_of(said, references) == pytest.approx(84.41620938462955, abs=1e-9)


def test_bleu_of_nothing_in_common_is_zero_and_of_replies_too_short_is_none():
    assert bleu_of(["a b c d"], [["e f g h"]]) == 0
    with pytest.raises(ValueError, match="bleu has no figure: no reply is as long as four tokens"):
        bleu_of(["", "a b"], [["a b"], ["a b"]])


def test_an_empty_reply_shortens_the_whole():
    """A perfect reply of 4 words beside an empty one for 4: brevity exp(1 - 8 / 4)."""
    assert bleu_of(["a b c d", ""], [["a b c d"], ["e f g h"]]) == pytest.approx(100 * math.exp(-1))


def test_bleu_without_words_to_find_is_refused():
    with pytest.raises(ValueError, match="BLEU needs a reference with words"):
        bleu_counts("a", [" "])


def test_rouge_by_hand():
    said, wanted = "The cat sat on mat.", ["the mat sat on cat"]
    assert rouge(said, wanted, "1") == 1
    assert rouge(said, wanted, "2") == 0.25  # `sat on` of 4 and 4
    assert rouge(said, wanted, "L") == 0.6  # the sat on: 2 * 3 / (5 + 5)
    assert rouge(said, [*wanted, "the cat sat on mat"], "L") == 1  # the best reference


def test_rouge_of_an_empty_reply_is_zero_and_of_an_empty_reference_an_error():
    assert rouge("", ["a b"], "1") == 0
    with pytest.raises(ValueError, match="ROUGE-1 has nothing to recall in the reference '!'"):
        rouge("a", ["!"], "1")
    with pytest.raises(ValueError, match="ROUGE-2 has nothing to recall in the reference 'yes'"):
        rouge("a b", ["yes"], "2")
    with pytest.raises(ValueError, match="there are ROUGE 1, 2 and L, not '3'"):
        rouge("a", ["a"], "3")


@pytest.mark.parametrize(
    ("k", "samples", "passed", "expected"),
    [
        (1, 1, 1, 1.0),
        (1, 4, 0, 0.0),
        (2, 4, 2, 1 - 1 / 6),  # of the six pairs one has none that passes
        (3, 4, 2, 1.0),  # two fail: no three of them
        (2, 3, 1, 2 / 3),  # of the three pairs two hold the one that passes
        (5, 5, 1, 1.0),
    ],
)
def test_pass_at_k_of_one_problem(k, samples, passed, expected):
    found = pass_at(np.array([float(samples)]), np.array([float(passed)]), k)
    assert found == pytest.approx([expected], abs=1e-12)


def test_pass_at_k_is_unbiased():
    """1 - C(3, 2) / C(5, 2) = 0.7; with 4 of 5 right two cannot both be wrong; none is right in 0."""
    found = pass_at(np.array([5.0, 5.0, 5.0]), np.array([2.0, 4.0, 0.0]), 2)
    assert found.tolist() == pytest.approx([0.7, 1, 0])


@pytest.mark.parametrize(("samples", "right", "k"), [(3, 1, 4), (3, 4, 1), (3, -1, 1), (3, 1, 0)])
def test_pass_at_k_of_too_few_samples_is_refused(samples, right, k):
    with pytest.raises(ValueError, match=r"pass@|more samples are right"):
        pass_at(np.array([float(samples)]), np.array([float(right)]), k)


def test_a_joint_goal_is_the_whole_state():
    assert joint_goal({"food": "thai", "area": None}, {"food": "thai", "price": ""}) == 1
    assert joint_goal({"food": "thai"}, {"food": "thai", "area": "north"}) == 0


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("auroc", ([1, 2], [1, 1]), "auroc has no figure: all items are of one class"),
        ("auprc", ([1, 2], [0, 0]), "auprc has no figure: no item is of class 1"),
        ("auprc-gain", ([1, 2], [2, 1], [0, 0]), "auprc-gain has no figure: no item is of class 1"),
        ("f1", ([0, 0], [0, 0]), "f1 has no figure: nothing is of class 1"),
        ("pearson", ([0.1, 0.1, 0.1], [1, 2, 3]), "pearson has no figure: one of the two is constant"),
        ("spearman", ([1, 2, 3], [7, 7, 7]), "spearman has no figure: one of the two is constant"),
        ("kendall", ([1, 2, 3], [7, 7, 7]), "kendall has no figure: one of the two is constant"),
        ("ratio", ([1, 2], [0, 0]), "ratio has no figure: the sizes sum to 0"),
        ("mean", ([],), "at least one item"),
        ("auroc", ([1, 2], [0, 2]), "a label must be 0 or 1, not 2"),
        ("brier", ([0.5, 1.2], [0, 1]), "a probability must lie between 0 and 1, not 0.5 to 1.2"),
        ("jga", ([0.5],), "a label must be 0 or 1, not 0.5"),
    ],
)
def test_what_has_no_figure_is_told_and_never_zero(name, values, said):
    with pytest.raises(ValueError, match=said):
        value_of(name, *values)


VALUES = {
    "mean": (SCORE,), "ratio": (SCORE, OTHER), "accuracy": (SAID, GOLD), "jga": (LABEL,),
    "brier": (SCORE, LABEL), "ece": (SCORE, LABEL), "f1": (np.roll(LABEL, 1), LABEL),
    "precision": (np.roll(LABEL, 1), LABEL), "recall": (np.roll(LABEL, 1), LABEL),
    "f1-micro": (SAID, GOLD), "f1-macro": (SAID, GOLD),
    "auroc": (SCORE, LABEL), "auprc": (SCORE, LABEL), "auprc-gain": (SCORE, OTHER, LABEL),
    "pearson": (SCORE, OTHER), "spearman": (SCORE, OTHER), "kendall": (SCORE, OTHER),
    "bleu": (np.add(OTHER, 4), np.add(OTHER, 5), OTHER, np.minimum(OTHER, 3), np.minimum(OTHER, 2), LABEL),
}  # fmt: skip


@pytest.mark.parametrize("name", REDUCERS)
def test_an_item_that_counts_twice_is_two_items(name):
    """The figure by how often each item counts is that of the items written out."""
    times = np.random.default_rng(0).integers(0, 4, (5, 12)).astype(float)
    values = [np.asarray(one, float) for one in VALUES[name]]
    found = REDUCERS[name].figure(*values, times)
    written = [value_of(name, *(np.repeat(one, row.astype(int)) for one in values)) for row in times]
    assert found.tolist() == pytest.approx(written, abs=1e-12)


@pytest.mark.parametrize(
    ("name", "values"), [("auroc", (SCORE, LABEL)), ("kendall", (SCORE, OTHER)), ("pearson", (SCORE, SCORE))]
)
def test_a_resample_without_a_figure_is_nan(name, values):
    times = np.zeros((1, 12))
    times[0, 1] = 5
    assert np.isnan(REDUCERS[name].figure(*(np.asarray(one, float) for one in values), times)[0])


def test_check_6_scores_that_are_all_alike_have_the_positive_rate_and_a_perfect_ranking_1():
    """Card 77, Llama Guard."""
    assert value_of("auprc", [0.5] * 12, LABEL) == pytest.approx(6 / 12)
    assert value_of("auprc", [0.5, 0.5, 0.5], [1, 0, 0]) == pytest.approx(1 / 3)
    assert value_of("auprc", [2, 1, 4, 3], [0, 0, 1, 1]) == 1.0


def test_precision_and_recall_by_hand():
    """Said to be of class 1: three, of which one is; of class 1: two, of which one is found."""
    said, gold = [1, 1, 1, 0, 0], [1, 0, 0, 1, 0]
    assert value_of("precision", said, gold) == pytest.approx(1 / 3)
    assert value_of("recall", said, gold) == pytest.approx(1 / 2)
    assert value_of("precision", [0, 0], [1, 0]) == 0.0  # nothing was said to be
    with pytest.raises(ValueError, match="nothing is of class 1"):
        value_of("recall", [1, 0], [0, 0])
