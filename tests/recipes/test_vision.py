"""A model that sees in a recipe: what learns of it is stored, and who reads text alone is refused."""

from pathlib import Path

import pytest

import turnsmith
from turnsmith.errors import RenderError
from turnsmith.models import load
from turnsmith.models.directory import FRONT, header
from turnsmith.testing import directory, jsonl, picture
from turnsmith.types import IMAGE, Conversation, Example, Message

COLOURS = {"red": (1, 0, 0), "blue": (0, 0, 1)}


def shades(count):
    """Squares of one colour each, no two alike, by turns."""
    for number in range(count):
        word, colour = list(COLOURS.items())[number % 2]
        image = picture(tuple((255 - number) * one for one in colour), size=32)
        ask = Message("user", f"{IMAGE}?", images=(image,))
        yield Example({"text": Conversation((ask, Message("assistant", word)))}, {}, {"id": str(number)})


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TURNSMITH_HOME", str(tmp_path / "home"))
    jsonl(tmp_path / "taught.jsonl", list(shades(4)))
    return tmp_path


def recipe(base):
    fit = {"steps": 2, "batch": 2, "lr": 3e-3, "length": 128, "dtype": "float32"}
    return {
        "title": "Colours",
        "base": base,
        "forgetting": False,
        "steps": [
            {"data": {"name": "taught", "read": "taught.jsonl"}},
            {"train": {"name": "tuned", "data": "taught", "trainable": "full", "fit": fit}},
        ],
    }


def test_the_encoder_learns_with_all_the_rest_and_is_stored_beside_it(place):
    (found,) = turnsmith.run(recipe({"seeing": {"size": 32}}), name="colours", to=place / "run")
    model = Path(found["steps"][1]["path"], "model")
    whole, _ = load.load(str(model))
    stored = header(model / FRONT / "front.safetensors")
    assert "encoder.conv_stem.weight" in stored
    assert found["steps"][1]["parameters"]["learning"] == sum(p.numel() for p in whole.parameters())
    assert not any("front" in name for name in header(model / "model.safetensors"))


def test_a_model_of_text_refuses_the_data_and_says_where(place):
    directory(place / "base")
    with pytest.raises(RenderError, match="message 0 of example '0' has an image, and this model reads text"):
        turnsmith.run(recipe("./base"), name="colours", to=place / "run")
