"""With a chat template that was changed since, a tuned model is not evaluated, talked to, tuned, exported."""

import pytest

import turnsmith
from turnsmith.data.render import Renderer
from turnsmith.errors import ModelError
from turnsmith.models import rendered
from turnsmith.testing import builders, conversations, directory, jsonl, tokenizer

OTHER = builders.CHATML.replace("message['content']", "message['content'] | trim")


@pytest.fixture
def changed(tmp_path, monkeypatch):
    """A model that was tuned with one template and has another."""
    monkeypatch.setenv("TURNSMITH_HOME", str(tmp_path / "home"))
    place = directory(tmp_path / "model", template=OTHER)
    rendered.write(place, Renderer(tokenizer()))
    return place


def talk(place, tmp_path):
    turnsmith.chat(place)


def export(place, tmp_path):
    turnsmith.export(place, tmp_path / "out")


def evaluate(place, tmp_path):
    base = directory(tmp_path / "base")
    turnsmith.evaluate(
        place,
        against=base,
        suite=["heldout"],
        data=jsonl(tmp_path / "data.jsonl", conversations(4)),
        to=tmp_path,
    )


def tune(place, tmp_path):
    turnsmith.tune(place, jsonl(tmp_path / "data.jsonl", conversations(8)), steps=1, to=tmp_path / "run")


@pytest.mark.parametrize("use", [talk, export, evaluate, tune], ids=lambda use: use.__name__)
def test_a_changed_template_is_refused_and_both_sides_are_shown(changed, tmp_path, use):
    with pytest.raises(ModelError) as refused:
        use(changed, tmp_path)
    words = str(refused.value)
    assert Renderer(tokenizer()).fingerprint in words
    assert Renderer(tokenizer(OTHER)).fingerprint in words
    assert "+' + message['content'] | trim" in words
