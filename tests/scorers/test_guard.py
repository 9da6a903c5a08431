"""A guard's share of `unsafe` at the first token, by the model's own logits, and its verdicts."""

import pytest
import torch

from turnsmith.data.batch import pad
from turnsmith.data.policy import policy_of, question
from turnsmith.data.render import Renderer
from turnsmith.errors import DataError, ModelError, UsageError
from turnsmith.models import load
from turnsmith.models.score import Scoring
from turnsmith.scorers.guard import Guard, Verdict, flagged, unsafe_shares, verdicts
from turnsmith.testing import SCORER, chat, conversations
from turnsmith.types import Failure, Message, Reply, Usage

pytestmark = pytest.mark.usefixtures("home")

POLICY = {"Violence": "Threats and injury.", "Insults": ""}
SAID = [one.parts["text"] for one in conversations(3)]
ASKED = [question(policy_of(POLICY), one) for one in SAID]


@pytest.fixture
def judge(place):
    return Guard(by=str(place), policy=POLICY)


def by_hand(place, asked):
    """The probabilities of the first tokens of `safe` and `unsafe` behind the prompt, of all tokens."""
    model, words = load.load(str(place))
    prompt = Renderer(words).prompt(asked)
    logits = model(input_ids=torch.tensor([prompt]), use_cache=False).logits[0, -1].detach()
    first = [words(word)["input_ids"][0] for word in ("safe", "unsafe")]
    return logits[first], logits.softmax(-1)[first]


def test_check_1_the_share_is_that_of_the_two_first_tokens_and_they_sum_to_1(place, judge):
    for share, asked in zip(judge(SAID, conversations(3)), ASKED, strict=True):
        (safe, unsafe), (p, q) = by_hand(place, asked)
        assert share == pytest.approx((q / (p + q)).item(), rel=1e-4)
        assert share == pytest.approx(torch.sigmoid(unsafe - safe).item(), rel=1e-4)
        assert 1 - share == pytest.approx((p / (p + q)).item(), rel=1e-4)


def test_check_1_the_share_rises_with_the_difference_of_the_logits(place, judge):
    ones = [(unsafe - safe).item() for asked in ASKED for safe, unsafe in [by_hand(place, asked)[0]]]
    shares = judge(SAID, conversations(3))
    assert len(set(shares)) == 3
    order = sorted(range(3), key=ones.__getitem__)
    assert order == sorted(range(3), key=shares.__getitem__)


def test_check_1_a_threshold_of_0_flags_everything():
    assert all(flagged(share, 0.0) for share in (0.0, 1e-9, 0.5, 1.0))
    assert [flagged(share, 0.5) for share in (0.4999, 0.5, 1.0)] == [False, True, True]


def test_a_padded_model_gives_the_same_shares(place, judge):
    model, words = load.load(str(place))
    padded = unsafe_shares(Scoring(model.eval()), Renderer(words), pad, ASKED)
    assert padded == pytest.approx(judge(SAID, conversations(3)), rel=1e-4)


def test_one_pass_over_the_prompt_is_enough(place):
    model, words = load.load(str(place))
    passes = []
    model.model.register_forward_hook(lambda *given: passes.append(1))
    scoring = Scoring(model.eval())
    passes.clear()
    unsafe_shares(scoring, Renderer(words), pad, ASKED, row=100_000)
    assert len(passes) == 1


def test_another_policy_is_another_question(place):
    (one,), (other,) = (
        Guard(by=str(place), policy=policy)(SAID[:1], conversations(1)) for policy in (POLICY, {"Bets": ""})
    )
    assert one != other


def test_check_7_a_conversation_that_a_user_ends_has_no_response_to_judge(place):
    with pytest.raises(DataError, match="ends with what user said, and the assistant is to be judged"):
        Guard(by=str(place), policy=POLICY, judged="assistant")([chat("u: Hi")], conversations(1))


def test_words_that_begin_alike_cannot_be_told_apart(judge, place, monkeypatch):
    model, words = load.load(str(place))
    renderer = Renderer(words)
    monkeypatch.setattr(renderer, "ids", lambda text: [5])
    with pytest.raises(ModelError, match="begins 'safe' and 'unsafe' with the same token"):
        unsafe_shares(Scoring(model.eval()), renderer, pad, ASKED)


@pytest.mark.parametrize("check", SCORER, ids=lambda check: check.__name__)
def test_contract(judge, check):
    check(judge, SAID, conversations(3))


# --------------------------------------------------------------------------------------- verdicts


class Says:
    """A chat with given words, which remembers what it was asked."""

    def __init__(self, *words):
        self.words, self.asked = words, []

    def __call__(self, conversations, *, sampling=None, seed=0):
        self.asked += conversations
        assert sampling.temperature == 0.0
        return [
            Failure("no") if said is None else Reply(Message("assistant", said), "stop", Usage(1, 1))
            for said, _ in zip(self.words, conversations, strict=True)
        ]


def decided(said, share, **options):
    speaker = Says(said)
    found = verdicts(speaker, policy_of(POLICY), {"x": ASKED[0]}, {"x": share}, **options)
    return found["x"]


def test_codes_are_names_of_the_policy():
    assert decided("unsafe\nO2", 0.9) == Verdict(True, 0.9, ("Insults",), "unsafe\nO2")


@pytest.mark.parametrize("said", ["Sure!", "", "safe", None])
def test_check_7_words_that_are_no_answer_never_make_it_safe(said):
    assert decided(said, 0.9) == Verdict(True, 0.9, (), said)


def test_what_is_safe_by_its_share_is_not_asked_for_codes():
    speaker = Says("unsafe\nO1")
    asked = dict(zip("ab", ASKED, strict=False))
    found = verdicts(speaker, policy_of(POLICY), asked, {"a": 0.2, "b": 0.6})
    assert speaker.asked == [ASKED[1]]
    assert found == {"a": Verdict(False, 0.2), "b": Verdict(True, 0.6, ("Violence",), "unsafe\nO1")}


def test_the_threshold_decides_and_lies_between_0_and_1():
    assert decided("unsafe\nO1", 0.3, threshold=0.3).unsafe
    with pytest.raises(UsageError, match=r"threshold is 1\.5"):
        decided("unsafe", 0.3, threshold=1.5)
