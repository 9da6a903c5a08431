"""Images in what is rendered: ids of their own, where they stand, which nobody learns."""

import numpy as np
import pytest

from turnsmith import album
from turnsmith.data.batch import pack, pad
from turnsmith.data.render import Renderer
from turnsmith.errors import DataError, RenderError
from turnsmith.models.networks.seeing import seeing
from turnsmith.testing import chat, picture, tokenizer
from turnsmith.types import IMAGE, Conversation, Message, Rendered

RED, BLUE = picture((255, 0, 0)), picture((0, 0, 255))
START = "<|im_start|>user\n"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("TURNSMITH_HOME", str(tmp_path / "home"))


@pytest.fixture(scope="module")
def renderer():
    return Renderer(seeing(size=64)[1])


def asked(content, *images, answer="yes"):
    return Conversation((Message("user", content, images=images), Message("assistant", answer)))


def split(renderer, ids):
    """Runs of text as text, images as lists."""
    found = []
    for id in ids:
        kind = list if id >= album.FIRST else str
        if not found or type(found[-1]) is not kind:
            found.append(kind())
        found[-1] += [id] if kind is list else renderer.texts([id])[0]
    return found


def test_an_image_is_its_ids_where_its_mark_stands_and_text_is_as_without_it(renderer):
    (made,) = renderer.render(asked(f"a{IMAGE}b c{IMAGE}", RED, BLUE))
    ends = "<|im_end|>\n<|im_start|>assistant\nyes<|im_end|>\n"
    assert split(renderer, made.inputs) == [
        f"{START}a",
        album.ids(RED, 4),
        "b c",
        album.ids(BLUE, 4),
        ends,
    ]


def test_images_next_to_each_other_and_the_same_one_twice(renderer):
    (made,) = renderer.render(asked(f"{IMAGE}{IMAGE}", RED, RED))
    assert split(renderer, made.inputs)[1] == [*album.ids(RED, 4), *album.ids(RED, 4)]


@pytest.mark.parametrize("train", ["assistant", "user", "all"])
def test_nobody_learns_an_image(renderer, train):
    (made,) = renderer.render(asked(f"a{IMAGE}b", RED), train)
    seen = made.inputs >= album.FIRST
    assert seen.sum() == 4
    assert not made.weights[seen].any()
    assert made.weights.any()


def test_the_weights_of_words_are_those_without_the_image(renderer):
    (made,) = renderer.render(asked(f"a{IMAGE}b", RED), "user")
    (plain,) = renderer.render(asked("ab"), "user")
    words = made.inputs < album.FIRST
    assert made.inputs[words].tolist() == plain.inputs.tolist()
    assert made.weights[words].tolist() == plain.weights.tolist()


def test_an_answer_of_nothing_teaches_its_end_alone(renderer):
    (made,) = renderer.render(asked(f"{IMAGE}\nWho?", RED, answer=""))
    assert renderer.texts(made.inputs[made.weights > 0].tolist()) == ["<|im_end|>"]


def test_the_prompt_is_what_training_sees_before_the_answer(renderer):
    whole = asked(f"{IMAGE}\nWho?", RED)
    (made,) = renderer.render(whole)
    prompt = renderer.prompt(whole.upto(1))
    assert made.inputs[: len(prompt)].tolist() == prompt
    assert made.weights[len(prompt)] == 1


def test_text_alone_stays_32_bits_and_people_read_where_an_image_is(renderer):
    (plain,) = renderer.render(asked("ab"))
    (made,) = renderer.render(asked(f"a{IMAGE}", RED))
    assert (plain.inputs.dtype, made.inputs.dtype) == (np.int32, np.int64)
    assert "".join(renderer.texts(made.inputs.tolist())).startswith(f"{START}a[image]<|im_end|>")


def test_a_prefix_is_shared_up_to_the_image_and_over_the_same_one(renderer):
    """Two questions about one image share it, about two they part where the images do."""
    questions = [
        asked(f"{IMAGE}\n{text}", image) for text, image in (("Why?", RED), ("Who?", RED), ("Why?", BLUE))
    ]
    sequences = [renderer.render(one)[0] for one in questions]
    before = len(START)  # bytes are tokens, but <|im_start|> is one of 12 letters
    before -= len("<|im_start|>") - 1
    for other, common in ((1, before + 4 + len("\nWh")), (2, before)):
        batch = pack([Rendered(str(n), {"text": (sequences[n],)}) for n in (0, other)], least=1)
        assert batch.forest is not None
        assert batch.forest.bounds[1] == common
    padded = pad([Rendered("0", {"text": (sequences[0],)})])
    assert padded.inputs[0].tolist() == sequences[0].inputs.tolist()


@pytest.mark.parametrize(
    ("conversation", "complaint"),
    [
        (asked("a", RED), "has 1 images, and 0 times the mark"),
        (asked(f"a{IMAGE}"), "has 0 images, and 1 times the mark"),
        (
            Conversation((Message("user", "a"), Message("assistant", IMAGE, images=(RED,)))),
            "message 1 of example 'x' has an image, and its role is assistant",
        ),
        (Conversation((Message("text", IMAGE, images=(RED,)),)), "its role is text"),
    ],
)
def test_an_image_without_its_place_is_refused(renderer, conversation, complaint):
    with pytest.raises(RenderError, match=complaint):
        renderer.render(conversation, name="x")


def test_a_model_of_text_refuses_images_and_says_what_sees():
    with pytest.raises(RenderError, match="this model reads text alone: start from one that sees"):
        Renderer(tokenizer()).prompt(asked(f"a{IMAGE}", RED).upto(1))
    assert Renderer(tokenizer()).render(chat("u: a", "a: b"))


def test_the_fingerprint_says_how_many_tokens_an_image_is():
    ones, others = (Renderer(seeing(size=size)[1]) for size in (32, 64))
    assert ones.fingerprint != others.fingerprint


def test_a_renderer_in_another_process_sees_as_much(renderer):
    import pickle

    again = pickle.loads(pickle.dumps(renderer))
    assert again.prompt(asked(f"{IMAGE}", RED).upto(1)) == renderer.prompt(asked(f"{IMAGE}", RED).upto(1))


def test_what_two_images_are_said_to_be_is_never_guessed():
    with pytest.raises(DataError, match=r"here\[0\]"):
        album.found("", "here[0]")
