"""A train step beside another model: which one it is, what is refused, and a run with a teacher."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import NemotronConfig, NemotronForCausalLM

import turnsmith
from turnsmith.errors import ModelError, UsageError
from turnsmith.testing import conversations, directory, jsonl, model, tokenizer

# Asks to stop in the first step, as long as a file says so.
MINE = '''
import os, signal
from pathlib import Path
from turnsmith.objectives.distil import distil
from turnsmith.registry import objective
from turnsmith.types import Loss, Scores

@objective("taught", per="token", needs=("kl:teacher",), source="mine")
def taught(s: Scores) -> Loss:
    """Distillation that can be asked to stop."""
    if Path("stop").exists():
        Path("stop").unlink()
        os.kill(os.getpid(), signal.SIGINT)
    return distil(s)
'''


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with chats, a student, a teacher and an objective; a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TURNSMITH_HOME", str(tmp_path / "home"))
    Path("mine.py").write_text(MINE)
    jsonl(tmp_path / "chats.jsonl", conversations(8))
    directory(tmp_path / "student")
    directory(tmp_path / "teacher", seed=1)
    return tmp_path


def recipe(teacher=None, objective="distil", name="teacher", **fit):
    others = {} if teacher is None else {"others": {name: str(teacher)}}
    options = {"steps": 4, "batch": 4, "length": 128, "dtype": "float32", "lr": 1e-2, **fit}
    options |= {"temperature": 2.0}
    step = {"name": "tuned", "data": "train", "objective": objective, "trainable": "full", **others}
    return {
        "title": "Mine",
        "base": "./student",
        "forgetting": False,
        "steps": [
            {"data": {"name": "train", "read": "chats.jsonl"}},
            {"train": {**step, "validate_on": "train", "fit": options}},
        ],
    }


def run(place, plain, to="run"):
    (found,) = turnsmith.run(plain, name="mine", use=["mine.py"], to=place / to)
    return found


def weights(record):
    return load_file(next(Path(record["path"], "model").glob("*.safetensors")))


@pytest.mark.parametrize(
    ("plain", "reason"),
    [
        (recipe(), "train tuned: the objective 'distil' needs another model, which it calls 'teacher': say "),
        (recipe("./teacher", name="tutor"), "needs another model, which it calls 'teacher'"),
        (recipe("./teacher", objective="sft"), "'sft' speaks of no other model, not of 'teacher': leave it"),
        (recipe("nobody"), "no model is called 'nobody' before this step"),
        (recipe("tuned"), "no model is called 'tuned' before this step"),
    ],
)
def test_who_the_others_are_is_checked_before_anything_is_done(place, plain, reason):
    with pytest.raises(UsageError, match=reason):
        turnsmith.check(plain)
    assert not (place / "home" / "shelf").exists()


def test_a_name_more_than_the_objective_speaks_of_is_refused(place):
    plain = recipe("./teacher")
    plain["steps"][1]["train"]["others"]["tutor"] = "base"
    with pytest.raises(UsageError, match="speaks only of 'teacher', not of 'tutor': leave it out"):
        turnsmith.check(plain)


def test_a_model_with_another_vocabulary_is_refused_before_the_first_step(place):
    model(vocabulary=400).save_pretrained("wider")
    tokenizer().save_pretrained("wider")
    with pytest.raises(ModelError, match=r"others: teacher: ./wider has a vocabulary of 400, the model that"):
        run(place, recipe("./wider"))
    assert not list((place / "home").rglob("metrics.jsonl"))


def test_a_model_with_other_tokens_under_the_same_ids_is_refused(place):
    file = Path("teacher", "tokenizer.json")
    words = json.loads(file.read_text())
    ids = words["model"]["vocab"]
    ids["a"], ids["b"] = ids["b"], ids["a"]
    file.write_text(json.dumps(words))
    with pytest.raises(ModelError, match=r"the tokens of ./teacher are other texts"):
        run(place, recipe("./teacher"))


def test_a_student_comes_nearer_to_its_teacher_and_the_record_says_whose_it_was(place):
    done = run(place, recipe("./teacher", steps=12, evaluate=12))["steps"][1]
    assert done["others"] == {"teacher": "./teacher"}
    lines = Path(done["path"], "metrics.jsonl").read_text().splitlines()
    first, last = (json.loads(lines[at]) for at in (0, -1))
    assert last["kl"] < 0.8 * first["kl"]
    assert first["loss"] == pytest.approx(4 * first["kl"], rel=1e-6)  # the temperature is 2
    assert 0 < last["validation"] < first["loss"]


def test_the_start_may_be_the_teacher_and_is_at_no_distance_before_the_first_step(place):
    done = run(place, recipe("base", steps=1))["steps"][1]
    (line,) = Path(done["path"], "metrics.jsonl").read_text().splitlines()
    assert abs(json.loads(line)["kl"]) < 1e-6


def test_another_teacher_makes_another_model_and_the_same_one_is_not_asked_twice(place):
    keys = [run(place, recipe(teacher, steps=1))["steps"][1]["artefact"] for teacher in ("./teacher", "base")]
    assert keys[0] != keys[1]
    assert run(place, recipe("./teacher", steps=1))["steps"][1]["reused"]


def test_a_run_that_was_stopped_goes_on_to_the_same_weights(place, monkeypatch):
    plain = recipe("./teacher", objective="taught")
    Path("stop").touch()
    with pytest.raises(KeyboardInterrupt):
        run(place, plain)
    assert list((place / "home").rglob("step-0000001"))
    resumed = weights(run(place, plain)["steps"][1])
    monkeypatch.setenv("TURNSMITH_HOME", str(place / "another"))
    whole = weights(run(place, plain, to="whole")["steps"][1])
    assert resumed.keys() == whole.keys()
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


def test_a_teacher_that_cannot_be_packed_is_given_plain_rows(place):
    config = NemotronConfig(
        vocab_size=len(tokenizer()), hidden_size=32, intermediate_size=64, num_hidden_layers=1,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256,
    )  # fmt: skip
    NemotronForCausalLM(config).save_pretrained("plain")
    tokenizer().save_pretrained("plain")
    found = run(place, recipe("./plain", steps=1))
    assert any(one.startswith("plain padded rows: NemotronForCausalLM") for one in found["warnings"])


def test_a_look_ahead_counts_the_teacher(place):
    alone = recipe(objective="sft")
    found = [turnsmith.check(plain)["train"][0] for plain in (alone, recipe("./teacher"))]
    assert found[1]["memory_gib"] > found[0]["memory_gib"]
