"""Views and networks in a recipe."""

from pathlib import Path

import pytest
import torch

from turnsmith.errors import UsageError
from turnsmith.models import load
from turnsmith.recipes.start import run
from turnsmith.testing import directory

RECIPE = """
title: A view, small
base: BASE
forgetting: false
steps:
  - data: {name: sums, stages: [{sums: {count: 12, most: 9}}]}
  - train: {name: plain, data: sums, trainable: full, FIT}
  - train: {name: same, data: sums, trainable: full, view: {masked_thought: {rate: 0.0, token: null}}, FIT}
  - train: {name: masked, data: sums, trainable: full, view: {masked_thought: {rate: 0.9, rising: 0.0}}, FIT}
"""
FIT = "fit: {steps: 3, batch: 4, lr: 1e-2, dtype: float32}"


@pytest.fixture
def base(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TURNSMITH_HOME", str(tmp_path / "home"))
    return directory(tmp_path / "base")


def made(text, base):
    Path("some.yaml").write_text(text.replace("BASE", str(base)).replace("FIT", FIT))
    (made,) = run("some.yaml")
    return made


def weights(name):
    return dict(load.load(f"runs/some/{name}")[0].named_parameters())


def test_what_is_not_masked_is_trained_on_as_it_is_and_what_is_gives_another_model(base):
    made(RECIPE, base)
    plain, same, masked = (weights(name) for name in ("plain", "same", "masked"))
    assert all(torch.equal(plain[name], same[name]) for name in plain)
    assert not torch.equal(plain["model.norm.weight"], masked["model.norm.weight"])


def test_the_mask_that_was_added_is_saved_with_the_model_and_its_base_is_as_it_was(base):
    before = load.tokenizer(str(base)).get_vocab()
    made(RECIPE, base)
    model, words = load.load("runs/some/masked")
    assert words.get_vocab()["<mask>"] == len(before) == len(model.get_input_embeddings().weight) - 1
    assert load.tokenizer(str(base)).get_vocab() == before
    assert "<mask>" not in load.tokenizer("runs/some/same").get_vocab()


def test_an_adapter_cannot_learn_a_token_that_its_base_lacks(base):
    with pytest.raises(UsageError, match="has no token '<mask>', and lora leaves that of its base as it is"):
        made(RECIPE.replace("trainable: full, view", "trainable: lora, view"), base)


def test_a_reference_that_is_computed_before_is_refused(base):
    text = RECIPE.replace("sums: {count", "sums: {count").replace(
        "trainable: full, view", "objective: spin, trainable: full, view"
    )
    with pytest.raises(UsageError, match="changes what the model sees at every sight"):
        made(text, base)


def test_who_asks_for_ratios_before_each_step_needs_a_live_reference(base):
    """KTO compares with answers that are in no example: it is told of before anything is made."""
    text = RECIPE.replace("name: plain, data: sums,", "name: plain, data: sums, objective: kto,")
    with pytest.raises(UsageError, match="'kto' asks for its reference before each step"):
        made(text, base)


def test_a_whole_step_may_be_what_a_tiny_run_exchanges(base):
    tiny = "tiny: {steps.0.data: {name: sums, stages: [{sums: {count: 4}}]}}\n"
    one = made(RECIPE + tiny, base)
    assert "steps.0.data" in one["resolved"]


def test_an_unknown_view_or_option_is_answered_with_those_there_are(base):
    with pytest.raises(UsageError, match="no view is called 'masked_thougt'; did you mean 'masked_thought'"):
        made(RECIPE.replace("masked_thought: {rate: 0.9", "masked_thougt: {rate: 0.9"), base)
    with pytest.raises(UsageError, match="no option 'rat'"):
        made(RECIPE.replace("{rate: 0.9", "{rat: 0.9"), base)


NETWORK = """
title: A network, small
base: {llama: {layers: 1, hidden: 16, wide: 32, heads: 2, shared: 1}}
seed: SEED
forgetting: false
steps:
  - data: {name: sums, stages: [{sums: {count: 12, most: 9}}]}
  - train: {name: tuned, data: sums, trainable: full, FIT}
  - evaluate: {model: tuned, suite: [{heldout: {on: sums}}]}
"""


def test_a_network_is_made_once_for_each_seed_and_can_be_trained_and_measured(base):
    first, same, other = (made(NETWORK.replace("SEED", str(seed)), base) for seed in (0, 0, 1))
    assert first["base"]["fingerprint"] == same["base"]["fingerprint"] != other["base"]["fingerprint"]
    assert first["base"]["reference"] == "llama (layers 1, hidden 16, wide 32, heads 2, shared 1)"
    assert "llama:" in first["resolved"]
    assert "context: 512" in first["resolved"]
    embeddings, block = 259 * 16, 16 * 16 * 4 + 3 * 16 * 32 + 2 * 16
    assert first["base"]["parameters"] == embeddings + block + 16


def test_an_option_of_a_network_that_is_not_there_is_refused(base):
    with pytest.raises(UsageError, match="network 'llama' has no option 'layer'; did you mean 'layers'"):
        made(NETWORK.replace("SEED", "0").replace("layers: 1", "layer: 1"), base)


def test_what_is_forgotten_and_messages_that_count_alike_give_other_models(base):
    text = RECIPE.replace("masked_thought: {rate: 0.0, token: null}", "forgetful: {most: 0.9}")
    made(text.replace("masked_thought: {rate: 0.9, rising: 0.0}", "each_message: {}"), base)
    plain, forgot, even = (weights(name)["model.norm.weight"] for name in ("plain", "same", "masked"))
    assert not torch.equal(plain, forgot)
    assert not torch.equal(plain, even)
