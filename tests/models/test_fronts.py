"""What a model sees: the right image at the right place, from a front that is kept with the model."""

import pytest
import torch

from turnsmith import album
from turnsmith.data.batch import pack, pad
from turnsmith.data.render import Renderer
from turnsmith.errors import ModelError
from turnsmith.models import fronts, load, vocab
from turnsmith.models.export import export
from turnsmith.models.forest import attach
from turnsmith.models.networks.make import make
from turnsmith.models.networks.seeing import seeing
from turnsmith.models.score import Scoring
from turnsmith.testing import picture
from turnsmith.trainables.install import install, learning
from turnsmith.trainables.lora import Lora
from turnsmith.trainables.select import full, named
from turnsmith.types import IMAGE, Conversation, Message, Rendered

RED, BLUE, GREEN = (picture(colour, size=64) for colour in ((255, 0, 0), (0, 0, 255), (0, 255, 0)))


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("TURNSMITH_HOME", str(tmp_path / "home"))


@pytest.fixture
def made():
    torch.manual_seed(0)
    model, words = seeing(size=64)
    return model.eval(), Renderer(words)


def asked(renderer, *images, text="", answer="yes"):
    content = text + IMAGE * len(images)
    whole = Conversation((Message("user", content, images=images), Message("assistant", answer)))
    return renderer.render(whole)[0]


def test_the_embeddings_of_an_image_are_the_projected_features_of_its_pixels(made):
    """Written out: pixels to features to W2 gelu(W1 f), in the places of the image's ids; words stay."""
    model, renderer = made
    tokens = asked(renderer, RED, text="a")
    front = fronts.of(model)
    square = torch.zeros(1, 3, 64, 64)
    square[:, 0] = 1
    with torch.no_grad():
        found = model.get_input_embeddings()(torch.tensor(tokens.inputs)[None])[0]
        features = front.encoder(square)[0]
        first, _, second = front.projector
        hidden = features @ first.weight.T + first.bias
        hidden = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))
        wanted = hidden @ second.weight.T + second.bias
    seen = torch.tensor(tokens.inputs >= album.FIRST)
    torch.testing.assert_close(found[seen], wanted, rtol=1e-5, atol=1e-6)
    words = model.get_input_embeddings().words
    assert torch.equal(found[~seen], words(torch.tensor(tokens.inputs)[~seen]))


@pytest.mark.parametrize("layout", [pack, pad])
def test_in_a_batch_each_sequence_sees_its_own_images_in_their_order(made, layout):
    model, renderer = made
    attach(model)
    with torch.no_grad():
        for one in model.parameters():
            one.mul_(3.0)  # peaked: what is seen, and in which order, shows in what is likely
    scoring = Scoring(model)
    kinds = [(RED, BLUE), (BLUE, RED), (GREEN,), ()]
    examples = [
        Rendered(str(n), {"text": (asked(renderer, *images, text="abcdefghijklmnopqrst"),)})
        for n, images in enumerate(kinds)
    ]
    with torch.no_grad():
        apart = [scoring(layout([one])).sums("text") for one in examples]
        together = scoring(layout(examples)).sums("text")
    torch.testing.assert_close(together, torch.cat(apart), rtol=1e-4, atol=1e-4)
    assert len({round(float(one), 3) for one in apart}) == 4


def test_an_image_is_encoded_once_while_the_encoder_stays_and_anew_when_it_moves(made, monkeypatch):
    model, renderer = made
    front = fronts.of(model)
    ids = torch.tensor(asked(renderer, RED, BLUE).inputs)[None]
    seen = []
    run = type(front.encoder).forward
    monkeypatch.setattr(
        type(front.encoder), "forward", lambda self, x: (seen.append(len(x)), run(self, x))[1]
    )
    embed = model.get_input_embeddings()
    front.encoder.requires_grad_(False)
    first = embed(ids)
    torch.testing.assert_close(embed(ids), first)
    assert seen == [2]
    with torch.no_grad():
        front.encoder.conv_stem.weight.mul_(1.5)
    assert not torch.allclose(embed(ids), first)
    assert seen == [2, 2]
    front.encoder.requires_grad_(True)
    embed(ids).sum().backward()
    embed(ids)
    assert seen == [2, 2, 2, 2]
    assert front.encoder.conv_stem.weight.grad.abs().sum() > 0


def test_norms_of_the_encoder_keep_their_statistics(made):
    model, renderer = made
    front = fronts.of(model)
    before = front.encoder.bn0.running_mean.clone()
    model.train()
    front(torch.tensor(album.ids(RED, 4))) if asked(renderer, RED) else None
    assert torch.equal(front.encoder.bn0.running_mean, before)
    assert not front.encoder.training


def test_only_what_is_chosen_of_it_learns(made):
    model, _ = made
    names = learning(install(model, named, {"modules": ("projector",)}, seed=0))
    assert len(names) == 4
    assert all(".front.projector." in name for name in names)
    assert {
        name.split(".front.")[1].split(".")[0]
        for name in learning(install(model, full, {}, seed=0))
        if ".front." in name
    } == {"projector", "encoder"}


def test_an_adapter_learns_beside_the_projector_and_leaves_the_encoder_alone(made):
    model, _ = made
    whole = install(model, Lora, {"rank": 2, "whole": ("projector",)}, seed=0)
    names = list(learning(whole))
    assert len([name for name in names if "lora_" in name]) == 2 * 7 * 2
    assert len([name for name in names if ".projector.modules_to_save." in name]) == 4
    assert not any("front" in name and "lora_" in name for name in names)


def test_whole_names_a_module_that_is_there(made):
    with pytest.raises(ModelError, match="lora: whole names 'projektor'"):
        install(made[0], Lora, {"whole": ("projektor",)}, seed=0)


def test_a_tuned_adapter_is_read_back_with_its_projector(made, tmp_path):
    _, renderer = made
    make(seeing, {"size": 64}, tmp_path / "base", seed=0)
    model, words = load.load(str(tmp_path / "base"))
    whole = install(model, Lora, {"rank": 2, "whole": ("projector",)}, seed=0)
    with torch.no_grad():
        for one in learning(whole).values():
            one.add_(0.1)
    ids = torch.tensor(asked(renderer, RED).inputs)[None]
    before = whole.eval()(input_ids=ids).logits
    load.save(whole, words, tmp_path / "tuned", base=str(tmp_path / "base"))
    assert not (tmp_path / "tuned" / "front").exists()
    again, _ = load.load(str(tmp_path / "tuned"))
    torch.testing.assert_close(again(input_ids=ids).logits, before, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(load.load(str(tmp_path / "base"))[0](input_ids=ids).logits, before, atol=1e-2)


def test_a_model_that_sees_is_written_with_its_front_beside_it_and_read_back(made, tmp_path):
    model, renderer = made
    load.save(model, renderer.tokenizer, tmp_path / "seeing", base=None)
    assert fronts.of(model) is not None, "writing takes it off for a moment only"
    again, words = load.load(str(tmp_path / "seeing"))
    assert Renderer(words).sees == 4
    ids = torch.tensor(asked(renderer, RED, BLUE).inputs)[None]
    assert torch.equal(again(input_ids=ids).logits, model(input_ids=ids).logits)
    from transformers import AutoModelForCausalLM

    plain = AutoModelForCausalLM.from_pretrained(
        tmp_path / "seeing"
    )  # the language model is one for others too
    text = torch.arange(3, 20)[None]
    torch.testing.assert_close(plain(input_ids=text).logits, again(input_ids=text).logits)


def test_the_fingerprint_and_the_count_of_weights_take_the_front_in(made, tmp_path):
    model, renderer = made
    load.save(model, renderer.tokenizer, tmp_path / "one", base=None)
    with torch.no_grad():
        fronts.of(model).projector[0].bias.add_(1)
    load.save(model, renderer.tokenizer, tmp_path / "other", base=None)
    assert load.fingerprint(str(tmp_path / "one")) != load.fingerprint(str(tmp_path / "other"))
    front = sum(one.numel() for one in fronts.of(model).state_dict().values())
    with fronts.apart(model):
        assert load.parameters(str(tmp_path / "one")) == sum(p.numel() for p in model.parameters()) + front


def test_a_token_is_added_without_losing_sight(made):
    model, renderer = made
    vocab.add(model, renderer.tokenizer, ["<new>"])
    assert fronts.of(model) is not None
    assert len(model.get_input_embeddings().weight) == len(renderer.tokenizer)


def test_no_other_tool_is_given_half_of_it(made, tmp_path):
    model, renderer = made
    load.save(model, renderer.tokenizer, tmp_path / "seeing", base=None)
    with pytest.raises(ModelError, match="sees images through a front that no other tool knows"):
        export(str(tmp_path / "seeing"), tmp_path / "out", form="safetensors", renderer=Renderer)


def test_a_broken_front_is_refused(made, tmp_path):
    model, renderer = made
    load.save(model, renderer.tokenizer, tmp_path / "seeing", base=None)
    (tmp_path / "seeing" / "front" / "front.safetensors").write_bytes(b"x")
    with pytest.raises(ModelError, match="does not fit its model or is broken"):
        load.load(str(tmp_path / "seeing"))


def test_an_image_of_another_size_in_tokens_is_refused(made):
    model, _ = made
    album.keep(RED)
    with pytest.raises(ModelError, match="an image of 5 tokens was rendered, and to this model one is 4"):
        fronts.of(model)(torch.tensor(album.ids(RED, 5)))


@pytest.mark.parametrize("size", [0, 30, 33 * 32])
def test_a_size_that_cannot_be_is_refused(size):
    with pytest.raises(ModelError, match=f"size is {size}"):
        seeing(size=size)
