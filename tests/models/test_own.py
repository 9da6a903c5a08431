"""Models that carry parts of our own trainables: saved, loaded, counted, gone on with, refused."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from turnsmith.data.render import Renderer
from turnsmith.errors import ModelError
from turnsmith.models import load as loading
from turnsmith.models import own
from turnsmith.models.export import FORMS, export
from turnsmith.testing import builders
from turnsmith.trainables.install import install, learning
from turnsmith.trainables.lora import Lora
from turnsmith.trainables.mixture import LoraMoe
from turnsmith.trainables.select import full

OPTIONS = {"experts": 2, "rank": 2, "targets": ("up_proj",)}
IDS = torch.arange(3, 40)[None]


def logits(whole):
    with torch.no_grad():
        return whole.eval()(input_ids=IDS, use_cache=False).logits


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return builders.directory(tmp_path_factory.mktemp("base") / "base")


@pytest.fixture(scope="module")
def tuned(base):
    """A directory with experts that have been moved away from zero, and the model as it was saved."""
    whole, words = loading.load(str(base))
    whole = install(whole, LoraMoe, OPTIONS, seed=0)
    with torch.no_grad():
        for parameter in learning(whole).values():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.2)
    target = base.parent / "tuned"
    loading.save(whole, words, target, base=str(base))
    return target, whole


@pytest.fixture
def copy(tuned, tmp_path):
    return shutil.copytree(tuned[0], tmp_path / "copy")


def test_what_is_written_is_the_parts_alone_with_a_note_of_where_they_belong(base, tuned):
    target, _ = tuned
    found = load_file(target / "adapter.safetensors")
    parts = ("inner", "outer", "router")
    assert sorted(found) == [f"model.layers.{n}.mlp.up_proj.{part}.weight" for n in (0, 1) for part in parts]
    note = json.loads((target / "turnsmith.json").read_text())
    assert note == {"base": str(base), "trainable": "loramoe", "options": {**OPTIONS, "targets": ["up_proj"]}}
    assert not (target / "config.json").exists()
    assert len({file.stat().st_mode & 0o777 for file in target.iterdir() if file.is_file()}) == 1


def test_it_comes_back_on_its_base(base, tuned):
    target, whole = tuned
    again, words = loading.load(str(target))
    assert torch.equal(logits(again), logits(whole))
    assert (logits(again) - logits(loading.load(str(base))[0])).abs().max() > 0.01
    assert words.chat_template == builders.CHATML
    assert not any(module.training for module in again.modules())
    names = set(load_file(target / "adapter.safetensors"))
    assert not any(p.requires_grad for name, p in again.named_parameters() if name in names)
    again, _ = loading.load(str(target), trainable=True)
    assert all(p.requires_grad for name, p in again.named_parameters() if name in names)


def test_in_bf16_the_base_is_and_the_parts_are_not(tuned):
    again, _ = loading.load(str(tuned[0]), dtype="bfloat16")
    names = set(load_file(tuned[0] / "adapter.safetensors"))
    dtypes = {(name in names, p.dtype) for name, p in again.named_parameters()}
    assert dtypes == {(True, torch.float32), (False, torch.bfloat16)}


def test_its_parameters_are_counted_with_the_bases(base, tuned):
    parts = 2 * (2 * 32 + 2 * 2 * 32 + 2 * 2 * 64)  # two layers: router, A and B of two experts of rank 2
    assert loading.parameters(str(tuned[0])) == loading.parameters(str(base)) + parts
    assert loading.has_adapter(str(tuned[0]))
    assert loading.holds_float32(str(tuned[0]))


def test_its_fingerprint_covers_parts_options_and_base_but_not_the_path(base, tuned, copy, tmp_path):
    first = loading.fingerprint(str(tuned[0]))
    moved = shutil.copytree(base, tmp_path / "elsewhere")
    note = json.loads((copy / "turnsmith.json").read_text())
    (copy / "turnsmith.json").write_text(json.dumps(note | {"base": str(moved)}))
    assert loading.fingerprint(str(copy)) == first
    changed = note | {"options": note["options"] | {"alpha": 1.0}}
    (copy / "turnsmith.json").write_text(json.dumps(changed))
    assert loading.fingerprint(str(copy)) != first
    shutil.copytree(builders.directory(tmp_path / "other", seed=3), moved, dirs_exist_ok=True)
    (copy / "turnsmith.json").write_text(json.dumps(note | {"base": str(moved)}))
    assert loading.fingerprint(str(copy)) != first


def test_going_on_keeps_the_base_and_takes_the_new_options(base, tuned, tmp_path):
    again, words = loading.load(str(tuned[0]), trainable=True)
    again = install(again, LoraMoe, OPTIONS | {"balance": 0.5}, seed=3)
    loading.save(again, words, tmp_path / "on", base=None)
    note = json.loads((tmp_path / "on/turnsmith.json").read_text())
    assert note["base"] == str(base)
    assert note["options"]["balance"] == 0.5
    assert torch.equal(logits(loading.load(str(tmp_path / "on"))[0]), logits(tuned[1]))


@pytest.mark.parametrize("other", [full, Lora])
def test_another_trainable_cannot_go_on_with_it(tuned, other):
    again, _ = loading.load(str(tuned[0]), trainable=True)
    said = "carries the parts of loramoe, which cannot be merged into its weights: go on with the trainable"
    with pytest.raises(ModelError, match=said):
        install(again, other, {}, seed=0)
    with pytest.raises(ModelError, match=said):
        own.check_start(tuned[0], "full")
    own.check_start(tuned[0], "loramoe")


@pytest.mark.parametrize("form", FORMS)
def test_export_says_that_no_form_can_hold_it(tuned, tmp_path, form):
    with pytest.raises(ModelError, match="parts of loramoe, which cannot be folded into weights"):
        export(str(tuned[0]), tmp_path / "out", form=form, renderer=Renderer)
    assert not (tmp_path / "out").exists()


def test_a_note_of_an_unknown_trainable_is_an_error_that_names_it(copy):
    note = json.loads((copy / "turnsmith.json").read_text())
    (copy / "turnsmith.json").write_text(json.dumps(note | {"trainable": "gizmo"}))
    with pytest.raises(ModelError, match="parts of the trainable 'gizmo', which is not known here"):
        loading.load(str(copy))


def test_parts_of_another_shape_or_incomplete_ones_are_an_error(copy):
    file = copy / "adapter.safetensors"
    found = load_file(file)
    name = min(found)
    save_file({**found, name: torch.zeros(1, 1)}, file)
    with pytest.raises(ModelError, match="do not fit their base or are broken"):
        loading.load(str(copy))
    save_file({key: one for key, one in found.items() if key != name}, file)
    with pytest.raises(ModelError, match=f"{name} is missing"):
        loading.load(str(copy))
    file.write_bytes(b"no tensors")
    with pytest.raises(ModelError, match="do not fit their base or are broken"):
        loading.load(str(copy))


def test_options_that_the_trainable_has_not_are_an_error(copy):
    note = json.loads((copy / "turnsmith.json").read_text())
    for options in ({"expert": 2}, {"experts": 3}):
        (copy / "turnsmith.json").write_text(json.dumps(note | {"options": options}))
        with pytest.raises(ModelError, match="the options of 'loramoe' do not fit it"):
            loading.load(str(copy))


def test_a_base_that_is_gone_is_named_with_the_place_to_correct(copy):
    note = json.loads((copy / "turnsmith.json").read_text())
    (copy / "turnsmith.json").write_text(json.dumps(note | {"base": "/nowhere/base"}))
    with pytest.raises(ModelError, match=r"not at /nowhere/base: .* base in turnsmith\.json"):
        loading.load(str(copy))
    (copy / "turnsmith.json").write_text(json.dumps({"trainable": "loramoe"}))
    with pytest.raises(ModelError, match=r"does not say which base it belongs to \(turnsmith\.json\)"):
        loading.load(str(copy))


def test_without_a_base_nothing_is_saved(tmp_path):
    whole = install(builders.model(), LoraMoe, OPTIONS, seed=0)
    with pytest.raises(ModelError, match="belongs to a base: say which"):
        loading.save(whole, builders.tokenizer(), tmp_path / "no", base=None)
    assert not (tmp_path / "no").exists()


def test_what_was_folded_in_or_is_of_peft_is_nothing_of_its_own():
    whole = install(builders.model(), LoraMoe, OPTIONS, seed=0)
    assert own.of(whole).trainable == "loramoe"
    own.forget(whole)
    assert own.of(whole) is None
    assert own.of(install(builders.model(), Lora, {}, seed=0)) is None  # peft's own
