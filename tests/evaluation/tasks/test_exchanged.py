"""Loss behind exchanged words, beside plain transformers."""

import pytest
import torch

from turnsmith import seeds
from turnsmith.data.batch import pack, pad
from turnsmith.data.render import Renderer
from turnsmith.errors import UsageError
from turnsmith.evaluation.suite import Subject
from turnsmith.evaluation.tasks.exchanged import Exchanged, draw
from turnsmith.models import forest
from turnsmith.models.score import Scoring
from turnsmith.testing import chat, conversations, examples, model, tokenizer
from turnsmith.types import Example

RENDERER = Renderer(tokenizer())


class Given:
    """A bench with these examples."""

    def __init__(self, given):
        self.given = given

    def examples(self, name):
        return self.given


def subject(seed=0, layout=pad, row=4096):
    whole = model(seed=seed)
    if layout is pack:
        forest.attach(whole)
    return Subject("tiny", Scoring(whole).eval(), RENDERER, lambda *_, **__: [], layout, row)


def measured(share, *, given=None, **options):
    return Exchanged(on="chats", share=share).measure(subject(**options), Given(given or conversations(4)))


@torch.no_grad()
def alone(scoring, ids, targets):
    """Nats of the targets at the trained places, by plain transformers."""
    logits = scoring.model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
    return {at: -float(logits[at - 1, to]) for at, to in targets.items()}


def test_without_exchanged_words_all_losses_are_that_of_held_out_conversations():
    for item in measured(0.0):
        assert item.values["own"] == item.values["any"] == item.values["given"]
        assert item.values["replaced"] == 0


def test_with_all_words_replaced_the_data_are_predicted_behind_what_the_model_draws():
    """A model that is sure of one id everywhere draws that id, whatever the random numbers are."""
    whole = subject()
    conversation = chat("u: Hello there", "a: I am fine, thank you.")
    [rendered] = RENDERER.render(conversation)
    trained = rendered.weights.nonzero()[0].tolist()
    with torch.no_grad():
        for parameter in whole.scoring.model.model.norm.parameters():
            parameter.mul_(100.0)  # large logits: the likeliest id has all the probability
    ids = rendered.inputs.tolist()
    with torch.no_grad():
        guesses = whole.scoring.model(input_ids=torch.tensor([ids])).logits[0].argmax(-1).tolist()
    words = [at for at in trained if ids[at] != RENDERER.stop]
    own = list(ids)
    for at in words:
        own[at] = guesses[at - 1]
    expected = alone(whole.scoring, own, {at: ids[at] for at in words})
    [item] = Exchanged(on="chats", share=1.0).measure(
        whole, Given([Example({"text": conversation}, {}, {"id": "one"})])
    )
    assert item.values["words"] == item.values["replaced"] == len(words)
    assert item.values["own"] == pytest.approx(sum(expected.values()), rel=1e-4)
    given = alone(whole.scoring, ids, {at: ids[at] for at in words})
    assert item.values["given"] == pytest.approx(sum(given.values()), rel=1e-4)
    assert own != ids


def test_any_tokens_are_drawn_evenly_by_the_example_alone():
    """The numbers behind which an id of 320 is taken are those that say which words are exchanged."""
    whole = subject()
    conversation = chat("u: Hello there", "a: I am fine, thank you.")
    [rendered] = RENDERER.render(conversation)
    trained = rendered.weights.nonzero()[0].tolist()
    ids = rendered.inputs.tolist()
    which, numbers = seeds.array(0, "exchanged", "one").random((2, len(trained)))
    words = [at for at in trained if ids[at] != RENDERER.stop]
    read = list(ids)
    for at, drawn, number in zip(trained, which, numbers, strict=True):
        if drawn < 0.5 and at in words:
            read[at] = int(number * 320)
    expected = alone(whole.scoring, read, {at: ids[at] for at in words})
    [item] = Exchanged(on="chats", share=0.5).measure(
        whole, Given([Example({"text": conversation}, {}, {"id": "one"})])
    )
    assert item.values["any"] == pytest.approx(sum(expected.values()), rel=1e-4)
    assert read != ids


def test_a_fifth_of_the_words_is_replaced_the_same_ones_for_every_model_and_row():
    chats = conversations(30)
    first = measured(0.2, given=chats)
    replaced = [item.values["replaced"] for item in first]
    words = sum(item.values["words"] for item in first)
    assert 0.12 * words < sum(replaced) < 0.28 * words  # over 1,000 words: some four standard errors
    for other in (measured(0.2, given=chats, seed=1), measured(0.2, given=chats, row=100)):
        assert [item.values["replaced"] for item in other] == replaced
    again = measured(0.2, given=chats, row=100, layout=pack)
    for one, two in zip(first, again, strict=True):
        assert two.values == pytest.approx(one.values, rel=1e-3)


def test_ids_are_drawn_as_often_as_they_are_probable():
    scoring = Scoring(model()).eval()
    batch = pad(examples(1))
    count = len(batch.path)
    chosen = torch.zeros(count, dtype=torch.bool)
    chosen[-1] = True
    with torch.no_grad():
        other = scoring.beside(batch, 1.0)
        probabilities = other.project(other.hidden[batch.entry[-1:]])[0].double().softmax(-1)
    edges = probabilities.cumsum(-1)
    for id in (0, 7, 319):
        middle = edges[id] - probabilities[id] / 2  # of the stretch of numbers that mean this id
        assert draw(scoring, batch, chosen, middle[None]).tolist() == [id]
    assert draw(scoring, batch, torch.zeros_like(chosen), edges[:0]).tolist() == []


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_a_share_lies_between_none_and_all(share):
    with pytest.raises(UsageError, match="exchanged: share is"):
        Exchanged(on="chats", share=share)
