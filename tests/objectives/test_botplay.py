"""Reviews and bot play, by hand and through a real recommender. Numbers: the card's checks."""

import math

import pytest
import torch
from torch.nn import functional as F

from turnsmith.data.batch import fill_rows, pack, pad
from turnsmith.data.prepare import prepare
from turnsmith.data.render import Renderer
from turnsmith.models.networks.recommender import recommender
from turnsmith.models.score import Scoring
from turnsmith.objectives.botplay import DRAWS, Seeker, Talk
from turnsmith.testing import method
from turnsmith.train.passes import Passes
from turnsmith.types import Conversation, Example, Message

ASPECTS = ("hoppy", "smooth", "sour", "dry", "sweet")
TEXTS = (
    ("u0 i1 hoppy sour i3 hoppy", " i0 smooth"),
    ("u1 i2 dry", " i4 hoppy sweet"),
    ("u0 i1 hoppy sour i3 hoppy", " i3 hoppy"),
    ("u2 i5 sweet smooth i0 sour i1 dry", " i2"),
)


def made(scale=1.0, hidden=3):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model, words = recommender(users=3, items=6, aspects=ASPECTS, hidden=hidden)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=scale)
    return Scoring(model), words


def window(words, texts=TEXTS):
    said = [
        Conversation((Message("text", before, weight=0.0), Message("text", last, weight=1.0)))
        for before, last in texts
    ]
    data = [Example({"text": one}, meta={"id": f"row-{number}"}) for number, one in enumerate(said)]
    return prepare(data, Renderer(words), ["text"], length=99)[0]


def run(scoring, ones, name, seed=0, layout=pad, **options):
    return Passes(scoring, scoring, layout(ones), method(name, options), 1.0, seed=seed)


def gradients(scoring):
    return {name: p.grad for name, p in scoring.named_parameters()}


# --------------------------------------------------------------------------------------- the reviews


def test_bpr_ranks_the_reviewed_item_above_one_that_was_not_and_says_its_aspects():
    """Users 0 and 1 have reviewed i0, i1, i3 and i2, i4: of what is left each may be drawn."""
    scoring, words = made()
    one = scoring.model.model
    ones = window(words)[:1]
    seen = one.reviews(torch.from_numpy(ones[0].parts["text"][0].inputs).long()[None])
    scores = one.scores(seen.user, seen.profile)[0].detach()
    said = F.binary_cross_entropy_with_logits(
        one.justify(seen.user, seen.profile, seen.item)[0], torch.tensor([0.0, 1.0, 0.0, 0.0, 0.0])
    ).detach()
    possible = {round(float(F.softplus(scores[other] - scores[0]) + 0.5 * said), 4) for other in (2, 4, 5)}
    losses = [run(scoring, ones, "bpr", seed=seed).loss().values.detach() for seed in range(30)]
    assert {round(loss.item(), 4) for loss in losses} == possible
    alone = run(scoring, ones, "bpr", aspects=0.0).loss().values
    assert (losses[0] - alone).item() == pytest.approx(0.5 * said.item(), abs=1e-6)


def test_who_has_reviewed_everything_is_refused():
    scoring, words = made()
    ones = window(words, [("u0 i0 i1 i2 i3 i4", " i5 hoppy")])
    with pytest.raises(ValueError, match="reviewed every item"):
        run(scoring, ones, "bpr").loss()


# ---------------------------------------------------------------------------------- the loss of turns


def test_2_of_one_turn_there_is_no_loss_and_two_are_plain_cross_entropy_on_the_profile():
    scoring, words = made()
    ones = window(words)
    with pytest.raises(ValueError, match="of 1 turns none has a loss term"):
        run(scoring, ones, "bot_play", turns=1).loss()
    found = run(scoring, ones, "bot_play", turns=2, discount=1.0)
    seen = scoring.model.model.reviews(found.rows())
    scores = scoring.model.model.scores(seen.user, seen.profile)
    expected = F.cross_entropy(scores, seen.item, reduction="none")
    torch.testing.assert_close(found.loss().values, expected)


def test_turns_are_discounted_and_score_what_was_criticised_before():
    """By hand: one aspect beside the wanted ones is shown for sure, and the critique of it moves z."""
    scoring, words = made()
    one = scoring.model.model
    with torch.no_grad():
        for parameter in one.parameters():
            parameter.zero_()
        one.encoder.weight[0, 2] = 1.0  # sour moves the first number of z
        one.items.weight[3, 0] = 1.0  # which i3 likes
        one.justification.bias.copy_(torch.tensor([-99.0, -99.0, 99.0, -99.0, -99.0]))
    ones = window(words, [("u0 i1 sour", " i0 smooth")])
    # Scores of i3: 1 at c = 1, 0 at 1 - max(1, 1), and so on: sour is not named again. The others are at 0.
    first, then = math.log(5 + math.e), math.log(6)
    found = run(scoring, ones, "bot_play", turns=4, discount=0.5).loss()
    # i3 is recommended first; then, of six equal ones, the first, i0, which is accepted.
    assert found.values.item() == pytest.approx(first + 0.5 * then + 0.25 * then, abs=1e-5)
    assert found.metrics["found"].tolist() == [1.0]
    two = run(scoring, ones, "bot_play", turns=2, discount=0.5).loss()
    assert two.metrics["found"].tolist() == [0.0]


def test_the_aspects_of_what_is_recommended_count_where_that_is_asked_for():
    scoring, words = made()
    ones = window(words)
    one = scoring.model.model
    plain = run(scoring, ones, "bot_play", turns=2, aspects=0.0).loss().values
    both = run(scoring, ones, "bot_play", turns=2, aspects=0.7)
    seen = one.reviews(both.rows())
    best = one.scores(seen.user, seen.profile).argmax(1)
    said = F.binary_cross_entropy_with_logits(
        one.justify(seen.user, seen.profile, best), seen.aspects, reduction="none"
    ).mean(1)
    torch.testing.assert_close(both.loss().values, plain + 0.7 * said)


def test_5_nothing_flows_into_what_was_drawn_and_without_its_loss_the_justification_gets_no_gradient():
    scoring, words = made()
    run(scoring, window(words), "bot_play", aspects=0.0).loss().values.sum().backward()
    found = gradients(scoring)
    assert found["model.model.justification.weight"] is None
    assert found["model.model.justification.bias"] is None
    assert found["model.model.encoder.weight"].abs().sum() > 0
    run(scoring, window(words), "bot_play", aspects=1.0).loss().values.sum().backward()
    assert gradients(scoring)["model.model.justification.weight"].abs().sum() > 0


def test_5_the_gradient_is_that_of_scores_from_critiques_that_are_given():
    """The slope of the second turn is that of its scores at fixed critiques, as finite differences say."""
    scoring, words = made(scale=0.7)
    scoring = scoring.double()
    ones, weight = window(words), scoring.model.model.encoder.weight
    run(scoring, ones, "bot_play", turns=4).loss().values.sum().backward()
    slope, step = weight.grad[0, 0].item(), 1e-3
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            weight[0, 0] += sign * step
            values.append(run(scoring, ones, "bot_play", turns=4).loss().values.sum().item())
            weight[0, 0] -= sign * step
    # Scores are summed in fp32: a difference of 2e-3 has some four digits.
    assert (values[0] - values[1]) / (2 * step) == pytest.approx(slope, rel=2e-2, abs=1e-2)


# -------------------------------------------------------------------------------------- the seeker


def talks(count=40, turns=8, seed=0, **options):
    """Conversations with a real recommender, turn by turn: the talk before, what was shown, the talk
    after."""
    scoring, _ = made()
    one, generator = scoring.model.model, torch.Generator().manual_seed(seed)
    users = torch.randint(3, (count,), generator=generator)
    items = torch.randint(6, (count,), generator=generator)
    wanted = torch.rand(count, 5, generator=generator) < 0.4
    profile = torch.randint(3, (count, 5), generator=generator).float()
    seeker, talk = Seeker(**options), Talk.begun(items, wanted, profile)
    for _ in range(turns):
        best = one.scores(users, talk.critiques).argmax(1)
        drawn = torch.rand(count, DRAWS, 5, generator=generator)
        likely = one.justify(users, talk.critiques, best).sigmoid()
        after = seeker.answered(one, users, talk, best, drawn)
        yield talk, best, drawn[:, 0] < likely, after
        talk = after


@pytest.mark.parametrize("behaviour", ["coop", "random", "diff"])
@pytest.mark.parametrize("critiques", [1, 2])
def test_4_a_seeker_criticises_only_what_is_shown_and_not_wanted_and_nothing_twice(behaviour, critiques):
    some = 0
    for before, _, shown, after in talks(behaviour=behaviour, critiques=critiques):
        new = after.named & ~before.named
        some += int(new.sum())
        assert not (new & before.wanted).any()
        assert not (new & ~shown).any()
        assert torch.equal(before.critiques != after.critiques, new)  # so that nothing is criticised twice
        assert (new.sum(1) <= critiques).all()
        possible = shown & ~before.wanted & ~before.named & ~after.found[:, None]
        assert torch.equal(new.sum(1), possible.sum(1).clamp(max=critiques))
    assert some > 20


def test_positive_feedback_asks_for_what_is_wanted_and_not_shown():
    for before, _, shown, after in talks(feedback="positive"):
        new = after.named & ~before.named
        assert not (new & ~before.wanted).any()
        assert not (new & shown).any()
        assert (after.critiques >= before.critiques).all()
    assert after.named.any()


def test_both_kinds_of_feedback_are_one_of_each():
    before, _, _, after = next(talks(feedback="both"))
    moved = after.critiques - before.critiques
    assert set(moved.sign().sum(1).tolist()) <= {-1.0, 0.0, 1.0}
    assert ((moved > 0).sum(1) <= 1).all()
    assert ((moved < 0).sum(1) <= 1).all()
    assert (moved > 0).any()
    assert (moved < 0).any()


def test_3_who_has_accepted_criticises_no_more_and_the_others_go_on():
    accepted = moved = 0
    for before, best, _, after in talks():
        assert torch.equal(after.found, before.found | (best == before.item))
        assert torch.equal(after.critiques[after.found], before.critiques[after.found])
        accepted += int(after.found.sum())
        moved += int((after.critiques != before.critiques)[~after.found].sum())
    assert accepted > 5
    assert moved > 20


def test_3_a_conversation_is_the_same_whatever_becomes_of_those_beside_it():
    scoring, words = made()
    ones = window(words)
    together = run(scoring, ones, "bot_play", turns=6).loss().values
    for number, one in enumerate(ones):
        alone = run(scoring, [one], "bot_play", turns=6).loss().values
        torch.testing.assert_close(alone[0], together[number])


def test_of_several_wrong_aspects_coop_names_the_commonest_and_diff_the_one_that_differs_most():
    scoring, _ = made()
    one = scoring.model.model
    with torch.no_grad():
        for parameter in one.parameters():
            parameter.zero_()
        one.justification.weight[:, 0] = torch.tensor([1.0, 2.0, 9.0, 3.0, 0.0])
        one.items.weight[:, 0] = torch.tensor([1.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    wanted = torch.tensor([[True, False, False, False, False]])
    talk = Talk.begun(torch.tensor([1]), wanted, torch.zeros(1, 5))
    users, best, drawn = torch.tensor([0]), torch.tensor([0]), torch.zeros(1, DRAWS, 5)  # all are shown
    named = {
        behaviour: Seeker(behaviour).answered(one, users, talk, best, drawn).named[0].nonzero().item()
        for behaviour in ("coop", "diff")
    }
    assert named == {"coop": 1, "diff": 2}
    drawn[0, 1, 4] = 0.5
    found = Seeker("random").answered(one, users, talk, best, drawn)
    assert found.named[0].nonzero().item() == 4


@pytest.mark.parametrize("options", [{"behaviour": "rude"}, {"feedback": "none"}, {"critiques": 0}])
def test_a_seeker_that_there_is_not_is_refused(options):
    with pytest.raises(ValueError, match="seeker"):
        Seeker(**options)


# ---------------------------------------------------------- what every objective keeps, on a recommender


@pytest.mark.parametrize(
    ("name", "options"), [("bpr", {}), ("bot_play", {"aspects": 0.5}), ("bot_play", {"seeker": "random"})]
)
def test_the_gradient_is_the_same_however_the_window_is_cut(name, options):
    scoring, words = made()
    ones, found = window(words), []
    for texts, row, layout in [(ones, 999, pad), (ones, 1, pad), (ones[::-1], 30, pad), (ones, 999, pack)]:
        scoring.zero_grad()
        for cut in fill_rows(texts, row, layout=layout):
            loss = run(scoring, cut, name, layout=layout, **options).loss()
            assert loss.values.shape == (len(cut),)
            for metric in loss.metrics.values():
                assert metric.shape == (len(cut),)
                assert not metric.requires_grad
            (loss.values.sum() / len(ones)).backward()
        found.append(torch.cat([p.grad.flatten() for p in scoring.parameters() if p.grad is not None]))
    assert found[0].abs().max() > 0
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["bpr", "bot_play"])
def test_losses_stay_finite_where_scores_are_huge(name):
    scoring, words = made(scale=50.0)
    loss = run(scoring, window(words), name).loss()
    loss.values.sum().backward()
    assert loss.values.isfinite().all()
    assert all(slope is None or slope.isfinite().all() for slope in gradients(scoring).values())


def test_another_seed_draws_other_aspects_and_the_same_one_the_same():
    scoring, words = made()
    ones = window(words)
    first, again, other = (run(scoring, ones, "bot_play", seed=seed).loss().values for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
