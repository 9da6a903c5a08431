"""Model cards: what is known is said with its source, what is not known is said to be unknown."""

import json
from pathlib import Path

import pytest
import yaml

from turnsmith.errors import ModelError
from turnsmith.models import card

METRIC = {
    "name": "loss", "unit": "nats per token", "of": "conversations", "verdict": "better", "n": 119,
    "before": 4.271, "after": 3.519, "difference": -0.752, "low": -0.8, "high": -0.705, "level": 0.95,
}  # fmt: skip
RUN = {
    "recipe": "mine", "title": "A model that chats", "seed": 7, "version": "0.1.0", "tiny": False,
    "finished": "2026-01-02T03:04:05+00:00", "command": "turnsmith run /home/ann/mine.yaml",
    "base": {"reference": "smollm2-135m-instruct", "licence": "Apache-2.0", "fingerprint": "f00d"},
    "resolved": "title: A model that chats\nread: /home/ann/secret/chats.jsonl\n",
    "steps": [
        {"verb": "data", "read": "/home/ann/secret/chats.jsonl", "sha256": "beef", "sizes": {"chats": 1200}},
        {"verb": "data", "read": "chitchat", "sha256": "cafe", "licence": "MIT", "sizes": {"more": 30}},
        {"verb": "train", "name": "tuned", "artefact": "abc", "objective": "sft", "trainable": "lora",
         "steps": 56, "tokens": 61084, "supervised": 24478, "seconds": 247.0},
        {"verb": "evaluate", "model": "tuned", "against": "base",
         "tasks": [{"task": "heldout", "metrics": [METRIC]}]},
        {"verb": "evaluate", "model": "other", "against": "base",
         "tasks": [{"task": "wrong", "metrics": [METRIC]}]},
    ],
}  # fmt: skip
TOLD = card.Card("tuned", "gguf", "quantized", ["Logits differ by at most 0.1."], "    llama-server\n")


@pytest.fixture
def run(tmp_path) -> Path:
    """runs/mine/tuned as a run leaves it."""
    model = tmp_path / "shelf" / "abc" / "model"
    model.mkdir(parents=True)
    directory = tmp_path / "runs" / "mine"
    directory.mkdir(parents=True)
    (directory / "run.json").write_text(json.dumps(RUN))
    (directory / "tuned").symlink_to(model)
    return directory


def written(tmp_path: Path, base: str, known: card.History | None) -> str:
    card.write(TOLD, tmp_path, base=base, known=known)
    return (tmp_path / "README.md").read_text()


def test_a_model_named_by_its_place_in_a_run_has_a_history(run):
    known = card.history(str(run / "tuned"))
    assert known is not None
    assert known.step["tokens"] == 61084


def test_a_model_named_otherwise_has_none(run, tmp_path):
    assert card.history(str(tmp_path / "shelf" / "abc" / "model")) is None
    assert card.history("smollm2-135m-instruct") is None


def test_a_link_that_leads_elsewhere_has_none(run, tmp_path):
    (run / "tuned").unlink()
    (tmp_path / "shelf" / "xyz" / "model").mkdir(parents=True)
    (run / "tuned").symlink_to(tmp_path / "shelf" / "xyz" / "model")
    assert card.history(str(run / "tuned")) is None


def test_a_broken_run_is_named(run):
    (run / "run.json").write_text("{")
    with pytest.raises(ModelError, match=r"run\.json is broken"):
        card.history(str(run / "tuned"))


def test_the_front_matter_is_what_the_hub_reads(run, tmp_path):
    text = written(tmp_path, "smollm2-135m-instruct", card.history(str(run / "tuned")))
    assert yaml.safe_load(text.split("---\n")[1]) == {
        "base_model": "HuggingFaceTB/SmolLM2-135M-Instruct",
        "base_model_relation": "quantized",
        "license": "apache-2.0",
        "library_name": "gguf",
        "pipeline_tag": "text-generation",
        "tags": ["turnsmith", "conversational", "sft", "lora"],
        "datasets": ["chats.jsonl", "chitchat"],
    }


def test_data_hashes_licences_figures_with_intervals_and_recipe_are_there(run, tmp_path):
    text = written(tmp_path, "smollm2-135m-instruct", card.history(str(run / "tuned")))
    assert "| chats.jsonl | `beef` | not known to Turnsmith | 1,200 chats |" in text
    assert "| chitchat | `cafe` | MIT | 30 more |" in text
    assert (
        "| heldout: loss, nats per token | 4.271 | 3.519 | -0.752 | -0.800 to -0.705 (95%) | "
        "119 conversations | better |"
    ) in text
    assert "wrong: loss" not in text  # measured on another model
    assert "Made by `turnsmith run mine.yaml`" in text
    assert "Logits differ by at most 0.1." in text


def test_no_path_of_the_machine_is_given_away(run, tmp_path):
    text = written(tmp_path, "smollm2-135m-instruct", card.history(str(run / "tuned")))
    assert "/home" not in text
    assert card.origin(str(tmp_path)) == tmp_path.name


def test_what_is_not_known_is_said_to_be_unknown(tmp_path):
    text = written(tmp_path, "somebody/some-model", None)
    assert "base_model: somebody/some-model" in text
    assert "license" not in text.split("---\n")[1]
    assert "Figures\n\nUnknown: no run has measured this model" in text


def test_a_licence_that_the_hub_has_no_name_for_is_spelt_out(tmp_path):
    front = yaml.safe_load(written(tmp_path, "gemma3-270m", None).split("---\n")[1])
    assert front["license"] == "other"
    assert front["license_name"].startswith("Gemma Terms of Use")
