"""Chain of Hindsight: the checks of its card, by number."""

from collections import Counter

import numpy as np
import pytest
import torch

from turnsmith.data.batch import pack, pad
from turnsmith.data.masking import forgetful
from turnsmith.data.prepare import prepare
from turnsmith.data.render import Renderer
from turnsmith.errors import DataError, UsageError
from turnsmith.models import forest
from turnsmith.models.attention import remembered
from turnsmith.models.score import Scoring
from turnsmith.objectives.likelihood import sft
from turnsmith.stages.conditioned import conditioned
from turnsmith.stages.hindsight import hindsight
from turnsmith.testing import chat, model, tokenizer, tokens
from turnsmith.types import Example, Rendered, Sight

GOOD, BAD = "Yes, thank you.", "No."


def pair(good=("u: Tea?", f"a: {GOOD}"), bad=("u: Tea?", f"a: {BAD}"), **meta):
    return Example({"chosen": chat(*good), "rejected": chat(*bad)}, {}, {"id": "x", **meta})


def run(*data, counts=None, **options):
    return list(hindsight(data, counts=Counter() if counts is None else counts, **options))


def lines(made):
    return [(one.role[0], one.content) for one in made.parts["text"].messages]


def rendered(made):
    (sequence,) = Renderer(tokenizer()).render(made.parts["text"], "assistant", "x")
    return sequence


def size(text):
    return len(tokenizer()(text)["input_ids"])


def sight(seed=0, step=0):
    return Sight(np.random.default_rng(seed), step, 9, vocabulary=320)


# ------------------------------------------------------------------------------ the card's checks


def test_1_both_answers_of_a_chain_and_their_ends_learn_and_nothing_else():
    (made,) = run(pair(), chains=("pn",))
    sequence = rendered(made)
    assert (sequence.weights > 0).sum() == size(GOOD) + 1 + size(BAD) + 1
    learnt = tokenizer().decode(sequence.inputs[sequence.weights > 0])
    assert learnt == f"{GOOD}<|im_end|>{BAD}<|im_end|>"


def test_2_the_good_answers_alone_without_feedback_are_plain_fine_tuning():
    (made,) = run(pair(), chains=("p",), good="")
    assert made.parts["text"] == pair().parts["chosen"]


def test_3_a_conversation_with_nothing_to_learn_is_refused_by_name_and_makes_no_nan():
    lonely = Example({"text": chat("u: Tea?")}, {}, {"id": "lonely"})
    with pytest.raises(DataError, match="example 'lonely' has no assistant text to learn from"):
        prepare([lonely], Renderer(tokenizer()), ("text",), length=64)


def test_4_nothing_is_forgotten_where_nothing_is_to_be():
    one = tokens(range(3, 43), trained=20)
    assert forgetful(one, sight(), most=0.0) is one
    assert pack([Rendered("a", {"text": (one,)})]).forest == forest.Forest((0, 40), (-1,))


def test_4_the_first_token_and_each_itself_are_kept_and_half_of_the_most_is_forgotten_on_average():
    shares = []
    for seed in range(60):
        one = forgetful(tokens(range(3, 103), trained=20), sight(seed), most=0.4)
        kept = remembered(pack([Rendered("a", {"text": (one,)})]).forest)
        assert kept[:, 0].all()
        assert kept.diagonal().all()
        earlier = torch.ones(100, 100).tril(-1).bool()
        earlier[:, 0] = False
        shares.append(float((~kept[earlier]).float().mean()))
    # The mean of U(0, 0.4) is 0.2; that of 60 draws has a spread of 0.4 / sqrt(12 * 60) = 0.015.
    assert np.mean(shares) == pytest.approx(0.2, abs=0.05)
    assert max(shares) < 0.42


def test_4_what_is_forgotten_is_not_seen_and_only_that():
    whole = model()
    forest.attach(whole)
    given = tokens(range(3, 15), trained=4)
    all_but_first = forest.Forest((0, 12), (-1,), ((1.0, 0),))
    batch = pack([Rendered("a", {"text": (given,)})])
    with torch.no_grad():
        logits = whole(
            batch.inputs, position_ids=batch.positions, forest=all_but_first, use_cache=False
        ).logits
        changed = batch.inputs.clone()
        changed[0, 5] = 200  # neither the first token nor the last, so the last does not see it
        other = whole(changed, position_ids=batch.positions, forest=all_but_first, use_cache=False).logits
        changed[0, 0] = 200
        first = whole(changed, position_ids=batch.positions, forest=all_but_first, use_cache=False).logits
    assert torch.equal(logits[0, -1], other[0, -1])
    assert not torch.equal(logits[0, 5], other[0, 5])
    assert not torch.equal(logits[0, -1], first[0, -1])


def test_4_each_sequence_of_a_row_forgets_for_itself_and_alone_it_scores_the_same():
    whole = model()
    forest.attach(whole)
    prefix = list(range(3, 33))
    made = [
        Rendered(
            name, {"text": (forgetful(tokens([*prefix, 40 + seed, 50], trained=2), sight(seed), most=0.9),)}
        )
        for seed, name in enumerate("ab")
    ]
    together = pack(made)
    assert together.forest.parent == (-1, -1)  # nothing is shared
    with torch.no_grad():
        both = sft(Scoring(whole)(together)).values
        apart = torch.cat([sft(Scoring(whole)(pack([one]))).values for one in made])
    assert torch.allclose(both, apart, atol=1e-5)  # float32, other sizes of products


def test_4_a_model_that_cannot_be_packed_is_refused():
    one = forgetful(tokens(range(3, 20), trained=4), sight(), most=0.5)
    with pytest.raises(DataError, match="cannot be packed, so it cannot forget single tokens"):
        pad([Rendered("a", {"text": (one,)})])


def test_4_a_share_that_is_none_is_refused():
    with pytest.raises(UsageError, match=r"most is a share, not 1\.5"):
        forgetful(tokens(range(3, 20), trained=4), sight(), most=1.5)


def test_5_feedback_and_answers_exchanged_together_give_the_same_conversations():
    swapped = pair(good=("u: Tea?", f"a: {BAD}"), bad=("u: Tea?", f"a: {GOOD}"))
    one, other = run(pair(), good="G", bad="B"), run(swapped, good="B", bad="G")
    assert sorted(map(lines, one)) == sorted(map(lines, other))
    assert len(one) == 4


def test_6_ties_and_missing_answers_are_left_out_and_counted_and_last_words_of_a_user_cut():
    counts = Counter()
    tie = pair(bad=("u: Tea?", f"a: {GOOD}", "u: Well."))
    assert run(tie, pair(bad=("u: Tea?",)), counts=counts) == []
    assert counts == {"say the same on both sides": 1, "have no answer on one side": 1}
    (made,) = run(pair(good=("u: Tea?", f"a: {GOOD}", "u: And you?")), chains=("p",))
    assert lines(made) == [("u", "Tea?\nA helpful answer:"), ("a", GOOD)]


def test_6_answers_may_hold_the_feedback_and_braces_mean_nothing():
    said = "{condition} A helpful answer: {said}"
    (made,) = run(pair(good=(f"u: {said}", f"a: {said}")), chains=("p",), good="{said}")
    assert lines(made) == [("u", f"{said}\n{{said}}"), ("a", said)]


# --------------------------------------------------------------------------------------- the chains


def test_one_question_is_asked_once_and_the_second_answer_stands_behind_its_feedback():
    chains = {one.id: lines(one) for one in run(pair())}
    asked = [("u", "Tea?\nA helpful answer:"), ("a", GOOD)]
    assert chains["x/0-p"] == asked
    assert chains["x/0-pn"] == [*asked, ("u", "An unhelpful answer:"), ("a", BAD)]
    assert chains["x/0-np"][:2] == chains["x/0-n"]


def test_whole_dialogues_follow_each_other_with_feedback_before_every_answer():
    good, bad = (
        ("s: Be kind.", "u: a", "a: b", "u: c", "a: d"),
        ("s: Be kind.", "u: a", "a: b", "u: c", "a: e"),
    )
    (made,) = run(pair(good, bad), chains=("pn",), good="G", bad="B", template="{condition} {said}")
    first = [("s", "Be kind."), ("u", "G a"), ("a", "b"), ("u", "G c"), ("a", "d")]
    assert lines(made) == [*first, ("u", "B a"), ("a", "b"), ("u", "B c"), ("a", "e")]


def test_further_feedback_makes_all_of_it_once_more():
    made = run(pair(), chains=("p", "n"), more={"Better:": "Worse:"})
    assert [one.id for one in made] == ["x/0-p", "x/0-n", "x/1-p", "x/1-n"]
    assert lines(made[3])[0] == ("u", "Tea?\nWorse:")


def test_a_chain_without_feedback_is_refused():
    with pytest.raises(UsageError, match="both answers need feedback"):
        run(pair(), bad="")


def test_replayed_text_counts_as_little_as_its_weight_says():
    # lambda: 0.01 of the loss on other text, whose weight is then in what the sum is divided by as well.
    text = Example({"text": chat("u: a", "a: b")}, {}, {"id": "t", "condition": "text"})
    (made,) = conditioned([text], to="", weights={"text": 0.01}, counts=Counter())
    assert rendered(made).weights.max() == pytest.approx(0.01, abs=1e-9)
    assert made.parts["text"].messages[0].content == "a"
