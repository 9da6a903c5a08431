"""`turnsmith export` as it is typed."""

import json

import pytest

from turnsmith.cli.main import call

CHATS = [
    {
        "messages": [
            {"role": "user", "content": f"Tell me a story about the sea, number {n}."},
            {"role": "assistant", "content": f"The cat sat on a small boat, {n} times."},
        ]
    }
    for n in range(24)
]
FORMS = ("safetensors", "adapter", "gguf", "ollama", "vllm")


@pytest.fixture
def tuned(here, recipe, rows, capfd) -> str:
    """A run with figures; gives where its model is."""
    fit = {"steps": 3, "batch": 2, "dtype": "float32", "lr": 1e-2}
    assert call(["run", str(recipe(rows(CHATS), fit=fit, evaluate=True))]) == 0
    capfd.readouterr()
    return "runs/mine/tuned"


def test_every_form_of_a_tuned_model(tuned, here, capfd):
    for form in FORMS:
        assert call(["export", tuned, "--to", form, "--out", form, "--json"]) == 0
        found = json.loads(capfd.readouterr().out)
        assert found["form"] == form
        assert found["stop tokens"] == ["<|im_end|>"]
        card = (here / form / "README.md").read_text()
        assert "| heldout: loss, nats per token |" in card
        assert "Stop tokens written: `<|im_end|>`" in card
    assert (here / "ollama" / "Modelfile").is_file()
    assert (here / "gguf" / "tuned-f16.gguf").is_file()


def test_the_exported_model_is_the_tuned_one(tuned, capfd):
    arguments = ["export", tuned, "--to", "safetensors", "--out", "merged"]
    assert call([*arguments, "--dtype", "float32", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["largest logit difference"] < 1e-4
    assert call(arguments) == 2
    assert "not empty" in capfd.readouterr().err


def test_what_quantisation_costs_is_said(tiny, here, capfd):
    assert call(["export", str(tiny), "--to", "gguf", "--quantise", "q8_0", "--out", "small"]) == 0
    said = capfd.readouterr().out
    assert "written to small (gguf, q8_0)" in said
    assert "Loss by quantisation (q8_0): " in said


@pytest.mark.parametrize(
    "old",
    [["--to", "exported"], ["--to", "exported", "--form", "merged"], ["--to", "gguf", "--form", "adapter"]],
)
def test_the_old_spelling_is_refused_with_the_new_one(refused, old):
    said = refused("export", "runs/mine/tuned", *old)
    assert "turnsmith export runs/mine/tuned --to safetensors --out DIR" in said


def test_unknown_forms_and_types_name_the_known_ones(refused):
    said = refused("export", "any", "--to", "zip", "--out", "out")
    assert "--to zip: there is safetensors, adapter, gguf, ollama, vllm" in said
    said = refused("export", "any", "--to", "vllm", "--out", "out", "--dtype", "float16")
    assert "--dtype float16: there is bfloat16, float32" in said
    said = refused("export", "any", "--to", "gguf", "--out", "out", "--quantise", "q4_k_m")
    assert "--quantise q4_k_m: there is f32, f16, bf16, q8_0, q5_1, q5_0, q4_1, q4_0" in said


def test_a_missing_directory_is_asked_for(refused):
    assert "say where to: turnsmith export any --to gguf --out DIR" in refused(
        "export", "any", "--to", "gguf"
    )
