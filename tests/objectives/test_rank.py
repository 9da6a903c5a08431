"""A model that judges, by hand."""

from dataclasses import replace
from math import exp, log

import pytest
import torch

from turnsmith.data.batch import pack
from turnsmith.errors import UsageError
from turnsmith.models import forest
from turnsmith.models.score import Scoring
from turnsmith.objectives.rank import ranking, reward, token_reward
from turnsmith.testing import Told, model, scores, tokens
from turnsmith.train.method import Method
from turnsmith.train.passes import Passes
from turnsmith.types import Path, Rendered, Scores


def judged(*pairs):
    """Scores of pairs, given what the head says of the chosen and the rejected answer of each."""
    parts = {"chosen": [[-1.0]] * len(pairs), "rejected": [[-1.0]] * len(pairs)}
    return scores(parts, heads={"reward": [one for pair in pairs for one in pair]})


def test_the_loss_is_that_of_a_logistic_choice_between_both():
    loss = reward(judged((2.0, 0.5), (-1.0, 1.0)))
    assert loss.values.tolist() == pytest.approx([log(1 + exp(-1.5)), log(1 + exp(2.0))])
    assert loss.metrics["accuracy"].tolist() == [1.0, 0.0]
    assert loss.metrics["margin"].tolist() == [1.5, -2.0]


def test_a_margin_of_the_data_asks_for_so_much_more():
    s = replace(judged((2.0, 0.5), (-1.0, 1.0)), values={"margin": torch.tensor([3.0, 0.0])})
    found = reward(s, margin=0.5)
    # 1.5 - 0.5 * 3 is 0, and -2 stays -2.
    assert found.values.tolist() == pytest.approx([log(2), log(1 + exp(2.0))])
    assert found.metrics["margin"].tolist() == [1.5, -2.0]
    assert reward(s).values.tolist() == reward(judged((2.0, 0.5), (-1.0, 1.0))).values.tolist()
    with pytest.raises(UsageError, match="no value 'margin'"):
        reward(judged((2.0, 0.5)), margin=0.5)


def test_a_centre_draws_both_numbers_to_lie_around_0():
    plain, centred = reward(judged((2.0, 0.5))), reward(judged((2.0, 0.5)), centre=0.01)
    assert (centred.values - plain.values).tolist() == pytest.approx([0.01 * 2.5**2])
    assert reward(judged((0.75, -0.75)), centre=1.0).values.tolist() == pytest.approx([log(1 + exp(-1.5))])


def test_only_the_difference_counts():
    assert torch.equal(reward(judged((2.0, 0.5))).values, reward(judged((12.0, 10.5))).values)


def test_identical_texts_give_log_2():
    """Check of card 11."""
    whole = model()
    forest.attach(whole)
    scoring = Scoring(whole, heads={"reward": ("last", 1)}).eval()
    one = tokens([5, 6, 8, 9], 2)
    with torch.no_grad():
        loss = reward(scoring(pack([Rendered("a", {"chosen": (one,), "rejected": (one,)})])))
    assert loss.values.item() == pytest.approx(log(2), abs=1e-6)


# -------------------------------------------------------------------------------- a number at each token


def soft(margin):
    """-log sigmoid."""
    return log(1 + exp(-margin))


def told(*pairs):
    """Pairs of answers, given as (ids, numbers), of which all tokens learn."""
    parts = {"chosen": [ids for (ids, _), _ in pairs], "rejected": [ids for _, (ids, _) in pairs]}
    flat = [one for pair in pairs for one in pair]
    given = scores(parts, heads={"reward": [number for _, numbers in flat for number in numbers]})
    return Told(given, [id for ids, _ in flat for id in ids])


def test_places_count_from_the_first_difference_to_the_end_of_the_longer_answer():
    run = told((([5, 6, 7, 8], [9.0, 9.0, 1.0, 2.0]), ([5, 6, 9], [-4.0, 0.0, 0.5])))
    found = token_reward(run)
    # Places 2 and 3; behind its end the rejected answer keeps 0.5.
    assert found.values.tolist() == [pytest.approx((soft(1.0 - 0.5) + soft(2.0 - 0.5)) / 2)]
    assert found.metrics["margin"].tolist() == [1.5]
    (slopes,) = torch.autograd.grad(found.values.sum(), run.scores.heads["reward"])
    assert slopes[[0, 1, 4, 5]].tolist() == [0.0] * 4  # check of card 61: what both share gets no gradient
    half = [-0.5 / (1 + exp(0.5)), -0.5 / (1 + exp(1.5))]
    assert slopes[[2, 3, 6]].tolist() == pytest.approx([*half, -sum(half)])


def test_of_equal_answers_the_last_token_counts():
    """Check of card 61: log 2, whatever stands before."""
    found = token_reward(told((([5, 6, 7], [3.0, 1.0, 0.5]), ([5, 6, 7], [0.0, 2.0, 0.5]))))
    assert found.values.tolist() == [pytest.approx(log(2))]


def test_equal_values_give_log_2_at_every_place_and_examples_stand_apart():
    """Check of card 61."""
    found = token_reward(
        told(
            (([5, 6, 7], [1.0, 1.0, 1.0]), ([9], [1.0])),
            (([5], [2.0]), ([6, 7, 8, 9, 10], [0.0, 0.0, 0.0, 1.0, 0.0])),
        )
    )
    later = (4 * soft(2.0) + soft(1.0)) / 5
    assert found.values.tolist() == pytest.approx([log(2), later])
    assert found.metrics["accuracy"].tolist() == [0.0, 1.0]


def test_a_number_is_that_of_the_tokens_own_state_however_rows_are_laid_out():
    whole = model()
    forest.attach(whole)
    scoring = Scoring(whole, heads={"reward": ("own", 1)}).eval()
    ones = {"chosen": (tokens([5, 6, 8, 9], 2),), "rejected": (tokens([5, 6, 4], 2),)}
    batch = pack([Rendered("a", ones), Rendered("b", dict.fromkeys(ones, ones["chosen"]))])
    method = Method(token_reward, "example", forward=True, words=False)
    with torch.no_grad():
        found = Passes(scoring, scoring, batch, method, 1.0).loss()
        states = [whole.model(torch.tensor([ids])).last_hidden_state[0] for ids in ([5, 6, 8, 9], [5, 6, 4])]
        long, short = (scoring.heads["reward"](one)[:, 0].tolist() for one in states)
    by_hand = (soft(long[2] - short[2]) + soft(long[3] - short[2])) / 2
    assert found.values.tolist() == pytest.approx([by_hand, log(2)], abs=1e-5)


# ----------------------------------------------------------------------------- sets of ranked answers


def sets(*ones):
    """Scores of sets of answers, given as (what the head says, rank)."""
    flat = [one for answers in ones for one in answers]
    return Scores(
        logprobs=torch.zeros(0, dtype=torch.float64),
        weights=torch.zeros(0, dtype=torch.float64),
        turns=torch.zeros(0, dtype=torch.long),
        path=torch.zeros(0, dtype=torch.long),
        paths=tuple(Path(at, "replies", no) for at, found in enumerate(ones) for no in range(len(found))),
        examples=len(ones),
        values={"rank": torch.tensor([float(rank) for _, rank in flat], dtype=torch.float64)},
        heads={"reward": torch.tensor([said for said, _ in flat], dtype=torch.float64, requires_grad=True)},
    )  # fmt: skip


def logistic(margin):
    """-log sigmoid"""
    return log(1 + exp(-margin))


def test_the_loss_of_a_set_is_the_mean_over_all_its_pairs():
    """Three answers of which the second is the best: margins 1 - 3, 2 - 3 and 2 - 1, worse below better."""
    loss = ranking(sets([(1.0, 2), (3.0, 0), (2.0, 1)], [(0.0, 0), (0.5, 1)]), beta=0.1)
    first = (logistic(2) + logistic(1) + logistic(1)) / 3 + 0.1 * ((9 + 1) + (9 + 4) + (4 + 1)) / 2 / 3
    second = logistic(-0.5) + 0.1 * 0.25 / 2
    assert loss.values.tolist() == pytest.approx([first, second], abs=1e-12)
    assert loss.metrics["accuracy"].tolist() == [1.0, 0.0]
    assert loss.metrics["kendall"].tolist() == [1.0, -1.0]


def test_kendall_counts_pairs_and_the_ends_alone_make_the_accuracy():
    """The best of four is above the worst, and two of the six pairs are wrong: (4 - 2) / 6."""
    loss = ranking(sets([(3.0, 0), (4.0, 1), (1.0, 2), (2.0, 3)]))
    assert loss.metrics["kendall"].item() == pytest.approx((4 - 2) / 6)
    assert loss.metrics["accuracy"].item() == 1.0


def test_equal_numbers_give_log_2_and_what_beta_asks_for():
    """Check of card 75: log 2 + beta r^2."""
    loss = ranking(sets([(3.0, 0), (3.0, 1)]), beta=0.001)
    assert loss.values.item() == pytest.approx(log(2) + 0.001 * 9, abs=1e-12)
    assert loss.metrics["accuracy"].item() == 0.0


def test_a_constant_on_all_numbers_changes_the_term_of_beta_alone():
    answers = [(1.0, 0), (-0.5, 1), (0.2, 2)]
    moved = [(said + 7, rank) for said, rank in answers]
    plain, far = (ranking(sets(one), beta=0.0).values.item() for one in (answers, moved))
    assert plain == pytest.approx(far, abs=1e-12)
    with_beta = [ranking(sets(one), beta=0.01).values.item() for one in (answers, moved)]
    # Each of three answers is in two of three pairs: the mean over pairs is that of all squares.
    squares = [sum(said**2 for said, _ in one) / 3 for one in (answers, moved)]
    assert with_beta[1] - with_beta[0] == pytest.approx(0.01 * (squares[1] - squares[0]), abs=1e-12)


def test_a_set_without_a_pair_teaches_nothing_and_is_no_nan():
    """Check of card 75."""
    given = sets([(2.0, 0)], [(1.0, 0), (2.0, 0)], [(1.0, 0), (0.0, 1)])
    loss = ranking(given)
    assert loss.values[:2].tolist() == [0.0, 0.0]
    (slope,) = torch.autograd.grad(loss.values.sum(), given.heads["reward"])
    assert slope[:3].tolist() == [0.0, 0.0, 0.0]
    assert (slope[3:] != 0).all()
    assert torch.isfinite(slope).all()


def test_pairs_never_cross_sets():
    alone = [ranking(sets(one)).values.item() for one in ([(1.0, 0), (5.0, 1)], [(2.0, 0), (-1.0, 1)])]
    both = ranking(sets([(1.0, 0), (5.0, 1)], [(2.0, 0), (-1.0, 1)]))
    assert both.values.tolist() == pytest.approx(alone, abs=1e-12)
