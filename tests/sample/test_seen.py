"""Replies about images: drawn as the model would without a cache, whatever was read before."""

import pytest
import torch

from turnsmith import album
from turnsmith.data.batch import pad
from turnsmith.data.render import Renderer
from turnsmith.errors import ModelError
from turnsmith.models import fronts
from turnsmith.models.networks.seeing import seeing
from turnsmith.models.score import Scoring
from turnsmith.sample import wire
from turnsmith.sample.chat import LocalChat
from turnsmith.sample.drafts import PromptLookup
from turnsmith.sample.engine import LocalEngine
from turnsmith.testing import model as text_model
from turnsmith.testing import picture
from turnsmith.types import IMAGE, Conversation, Message, Rendered, Sampling

RED, BLUE = (picture(colour, size=64) for colour in ((255, 0, 0), (0, 0, 255)))


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("TURNSMITH_HOME", str(tmp_path / "home"))


@pytest.fixture
def made():
    torch.manual_seed(0)
    model, words = seeing(size=64)
    with torch.no_grad():
        for one in model.parameters():
            one.mul_(3.0)  # peaked: what is seen shows in what is drawn
    return model.eval(), Renderer(words)


def about(image, text="Who?"):
    return Conversation((Message("user", f"{IMAGE}\n{text}", images=(image,)),))


def engine(made, **options):
    model, renderer = made
    return LocalEngine(model, stop=renderer.stops, **options)


def test_logprobs_of_a_reply_are_those_of_the_score(made):
    model, renderer = made
    chat = LocalChat(engine(made), renderer)
    asked = [about(RED), about(BLUE), about(RED, "Who is this?")]
    for conversation, reply in zip(asked, chat(asked, sampling=Sampling(1.0, max_new=6)), strict=True):
        (tokens,) = renderer.render(conversation.then(reply.message))
        scores = Scoring(model)(pad([Rendered("x", {"text": (tokens,)})]))
        count = len(reply.message.ids)
        torch.testing.assert_close(
            scores.logprobs[:count].detach(), torch.tensor(reply.message.logprobs), rtol=1e-4, atol=1e-4
        )


def test_two_images_are_not_taken_for_each_other_however_much_is_remembered(made):
    """The same words about one image and about another: each is answered as if it were asked alone."""
    _, renderer = made
    prompts = [renderer.prompt(one) for one in (about(RED), about(BLUE), about(RED, "Who else?"))]
    sampling, seeds = Sampling(0.0, max_new=6), [1, 1, 1]
    alone = [engine(made).generate([p], sampling=sampling, seeds=[1])[0] for p in prompts]
    together = engine(made).generate(prompts, sampling=sampling, seeds=seeds)
    remembering = engine(made, kept=2**12)
    in_turn = [remembering.generate([p], sampling=sampling, seeds=[1])[0] for p in prompts]
    assert [one.ids for one in together] == [one.ids for one in in_turn] == [one.ids for one in alone]
    for found in (together, in_turn):
        for one, other in zip(found, alone, strict=True):
            assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)
    assert alone[0].logprobs[0] != pytest.approx(alone[1].logprobs[0], abs=1e-3)


def test_penalties_and_guesses_take_images_for_no_words(made):
    _, renderer = made
    prompt = renderer.prompt(about(RED, "Who? Who? Who?"))
    plain = Sampling(0.0, max_new=12)
    guessed = engine(made, drafter=PromptLookup(match=(1, 1))).generate([prompt], sampling=plain, seeds=[1])
    assert guessed[0].ids == engine(made).generate([prompt], sampling=plain, seeds=[1])[0].ids
    punished = Sampling(0.0, max_new=6, repetition_penalty=1.5)
    (found,) = engine(made).generate([prompt], sampling=punished, seeds=[1])
    assert all(id < album.FIRST for id in found.ids)


def test_guesses_end_before_an_image():
    image = album.ids(RED, 2)
    assert PromptLookup(match=(1, 1))._found([5, 6, *image, 7, 5]) == [6]


def test_a_model_of_text_is_given_no_image(made):
    renderer = made[1]
    plain = text_model(vocabulary=320)
    assert fronts.of(plain) is None
    with pytest.raises(ModelError, match="prompt 0 has an image, and this model reads text alone"):
        LocalEngine(plain, stop=(2,)).generate(
            [renderer.prompt(about(RED))], sampling=Sampling(max_new=2), seeds=[0]
        )


def test_a_server_is_sent_images_as_openai_takes_them():
    body = wire._wire(about(RED).messages[0])
    assert body == {
        "role": "user",
        "content": [
            {"type": "image_url", "image_url": {"url": RED.url}},
            {"type": "text", "text": "\nWho?"},
        ],
    }
