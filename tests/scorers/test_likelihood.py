"""How likely a model finds what is said last, by its own logits."""

import pytest
import torch

from turnsmith.models import load
from turnsmith.registry import name_of
from turnsmith.scorers.likelihood import Likelihood
from turnsmith.testing import chat
from turnsmith.types import Conversation, Example, Message

pytestmark = pytest.mark.usefixtures("home")


def ending(prompt, word):
    return Conversation((Message("text", prompt, weight=0.0), Message("text", word)))


CLASSES = [
    [ending(f"The small boat number {n} was", word) for word in (" good", " not at all")] for n in range(3)
]
EXAMPLES = [Example({"labels": tuple(ones)}, {}, {"id": f"e{n}"}) for n, ones in enumerate(CLASSES)]
FLAT = [(one, example) for ones, example in zip(CLASSES, EXAMPLES, strict=True) for one in ones]


def by_hand(place, conversation):
    """The log-probs of the tokens of the last message, by the model's own logits."""
    model, words = load.load(str(place))
    prompt, word = (message.content for message in conversation.messages)
    before, whole = words(prompt)["input_ids"], words(prompt + word)["input_ids"]
    assert whole[: len(before)] == before
    logits = model(input_ids=torch.tensor([whole]), use_cache=False).logits[0].log_softmax(-1)
    return [logits[at - 1, whole[at]].item() for at in range(len(before), len(whole))]


@pytest.mark.parametrize("words", ["sum", "mean"])
def test_of_plain_text_what_has_a_weight_counts(place, words):
    found = Likelihood(by=str(place), words=words)(*zip(*FLAT, strict=True))
    for value, (conversation, _) in zip(found, FLAT, strict=True):
        nats = by_hand(place, conversation)
        expected = sum(nats) if words == "sum" else sum(nats) / len(nats)
        assert value == pytest.approx(expected, rel=1e-5)


def test_a_conversation_is_judged_the_same_in_any_company(place):
    scorer = Likelihood(by=str(place))
    together = scorer(*zip(*FLAT, strict=True))
    alone = [scorer([one], [example])[0] for one, example in FLAT]
    back = scorer(*zip(*FLAT[::-1], strict=True))
    assert together == pytest.approx(alone, abs=1e-4)
    assert together == pytest.approx(back[::-1], abs=1e-4)


def test_of_a_chat_the_last_reply_counts(place):
    asked = [chat("u: Hello", "a: Hi", "u: And you?", f"a: {said}") for said in ("Fine.", "Fine. " * 20)]
    short, long = Likelihood(by=str(place))(asked, [EXAMPLES[0]] * 2)
    assert 0 > short > long
    (same,) = Likelihood(by=str(place))([asked[0]], [EXAMPLES[1]])
    assert same == pytest.approx(short, abs=1e-4)


def test_check_6_the_teacher_is_in_eval_mode_and_gets_no_gradient(place):
    scorer = Likelihood(by=str(place))
    found = scorer(*zip(*FLAT, strict=True))
    scoring, _, _ = scorer._judge()
    assert not scoring.training
    assert all(parameter.grad is None for parameter in scoring.parameters())
    assert all(isinstance(value, float) for value in found)


def test_it_is_registered_and_names_a_model():
    assert name_of("scorer", Likelihood) == "likelihood"
