"""A model is used as it was tuned: with the same rendering, or not at all."""

import pytest

from turnsmith.data.render import Renderer
from turnsmith.errors import ModelError
from turnsmith.models import rendered
from turnsmith.testing import builders, directory, tokenizer

OTHER = builders.CHATML.replace("message['content']", "message['content'] | trim")


@pytest.fixture
def tuned(tmp_path):
    place = directory(tmp_path / "model")
    rendered.write(place, Renderer(tokenizer()))
    return place


def test_the_same_rendering_is_fine(tuned):
    rendered.check(str(tuned), Renderer(tokenizer()))


def test_a_model_that_was_never_tuned_has_nothing_to_compare(tmp_path):
    rendered.check(str(directory(tmp_path / "model")), Renderer(tokenizer(OTHER)))


def test_another_rendering_is_refused_and_both_are_shown(tuned):
    with pytest.raises(ModelError) as refused:
        rendered.check(str(tuned), Renderer(tokenizer(OTHER)))
    words = str(refused.value)
    assert Renderer(tokenizer()).fingerprint in words
    assert Renderer(tokenizer(OTHER)).fingerprint in words
    assert "--- when tuned" in words
    assert "+++ now" in words
    assert "\n-' + message['content'] + '<|im_end|>" in words
    assert "\n+' + message['content'] | trim + '<|im_end|>" in words


def test_the_same_template_over_another_tokenizer_is_said_to_be_that(tuned):
    class Renamed:
        fingerprint = "0123456789abcdef"
        template = builders.CHATML

    with pytest.raises(ModelError, match="the template is the same: its tokenizer"):
        rendered.check(str(tuned), Renamed())
