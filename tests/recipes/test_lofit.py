"""LoFiT as two steps of a recipe: the second is told of the first by its name, and leaves a plain model."""

import json
from pathlib import Path

import pytest
import torch

import turnsmith
from turnsmith.errors import UsageError
from turnsmith.models import load, own
from turnsmith.models.directory import header
from turnsmith.testing import conversations, directory, jsonl
from turnsmith.trainables.offsets import ranked


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with chats and a small model; a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TURNSMITH_HOME", str(tmp_path / "home"))
    jsonl(tmp_path / "chats.jsonl", conversations(8))
    directory(tmp_path / "base")
    return tmp_path


def recipe(scales="ranking", **fit):
    fit = {"steps": 2, "batch": 4, "length": 128, "dtype": "float32", "lr": 1e-2} | fit
    first = {"name": "ranking", "data": "train", "trainable": "head_scales", "fit": fit}
    second = {**first, "name": "tuned", "trainable": {"lofit": {"scales": scales, "heads": 3}}}
    return {
        "title": "Offsets",
        "base": "./base",
        "forgetting": False,
        "steps": [
            {"data": {"name": "train", "read": "chats.jsonl"}},
            {"train": first},
            {"train": second},
        ],
    }


def run(place, plain):
    (found,) = turnsmith.run(plain, name="offsets", to=place / "run")
    return found["steps"]


def test_the_second_step_tunes_the_heads_of_the_first_and_leaves_the_base_with_biases(place):
    _, first, second = run(place, recipe())
    scales = own.kept(Path(first["path"], "model"))
    wanted = set(ranked([scales[name] for name in sorted(scales)])[:3])
    assert (first["parameters"]["learning"], second["parameters"]["learning"]) == (2 * 4 * 8, 3 * 8)
    lines = Path(first["path"], "metrics.jsonl").read_text().splitlines()
    assert all(json.loads(line)["penalty"] > 0 for line in lines)
    base, tuned = (load.load(where)[0] for where in ("./base", str(Path(second["path"], "model"))))
    assert tuned.config.attention_bias
    for name, one in base.named_parameters():
        assert torch.equal(one, tuned.get_parameter(name)), name
    for layer in (0, 1):
        projection = tuned.model.layers[layer].self_attn.o_proj
        # b = W v: what it adds to other heads than those chosen is nothing.
        offset = torch.linalg.solve(projection.weight, projection.bias).detach().view(4, 8)
        found = {(layer, head) for head in range(4) if float(offset[head].abs().max()) > 1e-4}
        assert found == {one for one in wanted if one[0] == layer}


def test_another_ranking_makes_another_model_and_an_unknown_one_is_refused(place):
    with pytest.raises(UsageError, match="no model is called 'nobody'"):
        turnsmith.check(recipe(scales="nobody"))
    plain = recipe()
    keys = [run(place, plain)[2]["artefact"]]
    plain["steps"][1]["train"]["fit"] = plain["steps"][1]["train"]["fit"] | {"steps": 1}
    keys.append(run(place, plain)[2]["artefact"])
    assert keys[0] != keys[1]


def test_a_base_in_fp32_keeps_its_digits_where_arithmetic_is_in_bf16(place):
    """Its weights are kept with the biases, so they must not be rounded on the way."""
    second = run(place, recipe(dtype="bfloat16"))[2]
    before, after = (
        {entry["dtype"] for entry in header(file).values()}
        for file in (Path("base", "model.safetensors"), Path(second["path"], "model", "model.safetensors"))
    )
    assert before == after == {"F32"}
    base, tuned = (load.load(where)[0] for where in ("./base", str(Path(second["path"], "model"))))
    assert all(torch.equal(one, tuned.get_parameter(name)) for name, one in base.named_parameters())
