"""A `combine` step: what it makes, who takes it, and what is refused."""

import json
import shutil
from pathlib import Path

import pytest
import torch

import turnsmith
from turnsmith.errors import ModelError, UsageError
from turnsmith.models import combination, load
from turnsmith.models.networks.llama import CHATML
from turnsmith.recipes import start
from turnsmith.testing import conversations, directory, jsonl, model, tokenizer
from turnsmith.types import Conversation, Message, Sampling

MEMBERS = {"base": "base", "expert": "tuned", "anti": "./small"}
FIT = {"steps": 2, "batch": 4, "length": 128, "dtype": "float32", "lr": 1e-2}
GREEDY = Sampling(0.0, max_new=8)
ASKED = [Conversation((Message("user", text),)) for text in ("Hello there", "")]  # an empty one too


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TURNSMITH_HOME", str(tmp_path / "home"))
    jsonl(tmp_path / "chats.jsonl", conversations(6))
    directory(tmp_path / "large")
    directory(tmp_path / "small", seed=1)
    return tmp_path


def recipe(*more, alpha=1.0, trainable="lora", members=MEMBERS, **keys):
    train = {"name": "tuned", "start": "./small", "data": "train", "trainable": trainable, "fit": FIT}
    combined = {"name": "proxied", "decoder": {"proxy": {"alpha": alpha}}, "members": members, **keys}
    return {
        "title": "Mine",
        "base": "./large",
        "forgetting": False,
        "steps": [
            {"data": {"name": "train", "read": "chats.jsonl"}},
            {"train": train},
            {"combine": combined},
            *more,
        ],
    }


def said(reference):
    return [reply.message.ids for reply in turnsmith.chat(reference)(ASKED, sampling=GREEDY)]


def test_members_are_artefacts_adapters_and_directories_and_all_take_what_is_made(place):
    """Chats, stages, tasks of replies and of likelihoods."""
    respond = {"respond": {"by": "proxied", "max_new": 4}}
    timed = {"speed": {"count": 1, "reading": 8, "writing": 2, "repeats": 1}}
    suite = [{"heldout": {"on": "train"}}, {"replies": {"on": "train", "count": 2, "max_new": 4}}, timed]
    (found,) = start.run(
        recipe(
            {"data": {"name": "pairs", "from": "train", "stages": [respond]}},
            {"evaluate": {"model": "proxied", "suite": suite}},
        )
    )
    made = found["steps"][2]
    assert set(json.loads((Path(made["path"]) / "model" / "combination.json").read_text())["members"]) == {
        "base", "expert", "anti"
    }  # fmt: skip
    assert found["steps"][3]["examples"] == 6
    assert load.has_adapter("runs/recipe/tuned")
    assert all(said("runs/recipe/proxied"))
    figures = {row["name"]: row for row in found["steps"][4]["tasks"][0]["metrics"]}
    assert figures["loss"]["after"] != figures["loss"]["before"]


def test_alpha_0_measures_and_speaks_as_the_base(place):
    suite = [{"heldout": {"on": "train"}}, "divergence", {"stopping": {"count": 2}}]
    (found,) = start.run(recipe({"evaluate": {"model": "proxied", "suite": suite}}, alpha=0.0))
    heldout, divergence, _ = found["steps"][3]["tasks"]
    for row in heldout["metrics"]:
        assert row["after"] == pytest.approx(row["before"], rel=1e-6)
    assert divergence["metrics"][0]["after"] == pytest.approx(0, abs=1e-6)
    assert said("runs/recipe/proxied") == said("./large")


def test_an_expert_with_a_template_of_its_own_alone_sees_it(place):
    """Card 35; the base's template has no header of that kind, and an empty message is valid in both."""
    other = CHATML.replace("message['role'] + '\n'", "'the ' + message['role'] + '\n'").replace(
        "<|im_start|>assistant\n", "<|im_start|>the assistant\n"
    )
    directory(place / "expert", seed=2, template=other)
    members = {"base": "base", "expert": "./expert", "anti": "base"}
    suite = [{"heldout": {"on": "train"}}]
    (found,) = start.run(recipe({"evaluate": {"model": "proxied", "suite": suite}}, members=members))
    assert said("runs/recipe/proxied") == said("./expert")  # base - base + expert
    alone = turnsmith.evaluate("./expert", data="chats.jsonl", suite=["heldout"])[0]
    mine, theirs = (
        run["steps"][at]["tasks"][0]["metrics"][0]["after"] for run, at in ((found, 3), (alone, 1))
    )
    assert mine == pytest.approx(theirs, rel=1e-5)


def test_the_member_that_guesses_changes_no_reply(place):
    start.run(recipe(), to=place / "plain")
    start.run(recipe(draft="expert"), to=place / "guessed")
    assert said(place / "plain" / "proxied") == said(place / "guessed" / "proxied")
    assert load.fingerprint(str(place / "plain" / "proxied")) == load.fingerprint(
        str(place / "guessed" / "proxied")
    )


def test_steps_make_the_same_from_python(place):
    with turnsmith.Steps("./large", name="mine", forgetting=False) as go:
        made = go.combine(
            "both", decoder="emulate", members={"base": "base", "tuned": "./small", "untuned": "base"}
        )
        assert made["verb"] == "combine"
        assert said(go.model("both")) == said("./small")


def test_versions_of_members_are_taken_by_their_numbers_and_a_name_may_be_made_again(place):
    again = {"train": {"name": "tuned", "start": "tuned", "data": "train", "fit": FIT}}
    combined = {"name": "proxied", "decoder": "proxy", "members": {**MEMBERS, "expert": "tuned@1"}}
    (found,) = start.run(recipe(again, {"combine": combined}))
    assert found["steps"][2]["artefact"] == found["steps"][4]["artefact"]  # of the same members


def test_other_options_make_another_model(place):
    """What was measured of the one must not be taken for the other's."""
    start.run(recipe(), to=place / "one")
    start.run(recipe(alpha=0.5), to=place / "other")
    assert load.fingerprint(str(place / "one" / "proxied")) != load.fingerprint(
        str(place / "other" / "proxied")
    )


def refused(match, *more, **keys):
    with pytest.raises(UsageError, match=match):
        start.run(recipe(*more, **keys))


def test_members_are_those_of_the_decoder(place):
    refused("needs a model that it calls 'anti'", members={"base": "base", "expert": "tuned"})
    refused("no member 'exprt'; did you mean 'expert'", members={**MEMBERS, "exprt": "base"})
    refused("no member 'tuned' to guess", draft="tuned")
    refused("'proxy' has no option 'alhpa'; did you mean 'alpha'", decoder={"proxy": {"alhpa": 1}})


def test_weights_are_not_taken_of_a_combination(place):
    train = {"train": {"name": "more", "start": "proxied", "data": "train", "fit": FIT}}
    refused("train more takes weights, and 'proxied' is a combination of models", train)
    merge = {"merge": {"name": "one", "models": ["proxied"], "method": "half_reset"}}
    refused("merge one takes weights, and 'proxied' is a combination", merge)
    nested = {"combine": {"name": "two", "decoder": "proxy", "members": {**MEMBERS, "anti": "proxied"}}}
    refused("combine two takes weights, and 'proxied' is a combination", nested)
    refused("this needs weights", members={**MEMBERS, "anti": "http://host.invalid/v1#m"})


def test_a_combination_by_its_path_says_what_it_is_where_weights_are_wanted(place):
    start.run(recipe())
    what = "is a combination of models by 'proxy' .* has no weights of its own"
    with pytest.raises(ModelError, match=what):
        turnsmith.load("runs/recipe/proxied")
    for form in ("safetensors", "gguf"):
        with pytest.raises(ModelError, match=what):
            turnsmith.export("runs/recipe/proxied", "out", form=form)
    train = {"train": {"name": "more", "start": "./runs/recipe/proxied", "data": "train", "fit": FIT}}
    merge = {
        "merge": {"name": "one", "models": ["./runs/recipe/proxied"], "method": {"layers": {"keep": [0]}}}
    }
    for step in (train, merge):
        with pytest.raises(ModelError, match=what):
            start.run(recipe(step), to=place / "again")


def saved(path, vocabulary, **template):
    words = tokenizer(**template)
    model(seed=3, vocabulary=vocabulary).save_pretrained(path)
    words.save_pretrained(path)


def test_a_member_with_fewer_ids_or_other_tokens_is_refused_and_one_with_more_is_not(place):
    size = len(tokenizer())
    saved("./wide", size + 16)
    start.run(recipe(members={**MEMBERS, "expert": "./wide"}), to=place / "one")
    assert all(said(place / "one" / "proxied"))
    with pytest.raises(ModelError, match=rf"expert knows {size} ids and base, which leads, {size + 16}"):
        start.run({**recipe(members={**MEMBERS, "expert": "./large"}), "base": "./wide"}, to=place / "two")
    network = {"title": "n", "base": {"llama": {}}, "steps": [], "forgetting": False}
    start.run(network)
    strange = shutil.copytree("./wide", "./strange")
    plain = json.loads((Path(strange) / "tokenizer.json").read_text())
    vocabulary = plain["model"]["vocab"]
    one, other = list(vocabulary)[50:52]
    vocabulary[one], vocabulary[other] = vocabulary[other], vocabulary[one]
    (Path(strange) / "tokenizer.json").write_text(json.dumps(plain))
    with pytest.raises(ModelError, match=r"expert .* and base .* have different tokenizers: .* one id"):
        start.run(recipe(members={**MEMBERS, "expert": "./strange"}), to=place / "three")


def test_a_member_that_is_gone_or_another_one_now_is_said(place):
    start.run(recipe(trainable="full"))  # which needs no base beside it
    directory(place / "other", seed=7)
    shutil.rmtree(place / "small")
    with pytest.raises(ModelError, match=r"'anti' is not at .*small: bring it back"):
        combination.read("runs/recipe/proxied")
    shutil.move(place / "other", place / "small")
    with pytest.raises(ModelError, match=r"'anti' at .*small is not the one that it was"):
        combination.read("runs/recipe/proxied")


def test_heads_are_of_the_leads_model(place):
    Path("mine.py").write_text(
        "from turnsmith.registry import decoder, objective\n"
        "from turnsmith.types import Loss\n"
        "@objective('valued', per='token', heads={'gate': 1}, source='mine')\n"
        "def valued(s):\n"
        "    return Loss(-s.logprobs + (s.heads['gate'] - 1) ** 2)\n"
        "@decoder('gated', members=('base', 'other'), heads=('gate',), source='mine')\n"
        "def gated(base, other, gate):\n"
        "    return base + gate[:, None] * other\n"
    )
    train = {"name": "valued", "data": "train", "objective": "valued", "trainable": "full", "fit": FIT}
    combined = {"name": "both", "decoder": "gated", "members": {"base": "valued", "other": "./small"}}
    plain = recipe({"train": train}, {"combine": combined})
    start.run(plain, use=["mine.py"])
    assert all(said("runs/recipe/both"))
    combined["members"]["base"] = "base"
    with pytest.raises(ModelError, match=r"has no head 'gate' beside it \(it has none\)"):
        start.run(plain, use=["mine.py"], to=place / "again")


def test_with_the_adapter_off_the_tuned_model_is_the_one_before_bit_for_bit(place):
    """Card 26: one copy suffices for static contrast."""
    start.run(recipe())
    tuned, _ = load.load("runs/recipe/tuned")
    before, _ = load.load("./small")
    ids = torch.arange(3, 30)[None]
    with torch.no_grad(), tuned.disable_adapter():
        assert torch.equal(tuned(input_ids=ids).logits, before(input_ids=ids).logits)


def test_what_was_shown_is_less_of_a_novelty_and_no_other_model_is_touched(place):
    """Card 26: after an update of `known` on a text, S of it falls; p1, and p0 on the disk, stay."""
    small = {"steps": 1, "batch": 8, "length": 128, "dtype": "float32", "lr": 1e-3}
    contrast = {"name": "contrast", "decoder": "contrast", "members": {"tuned": "tuned", "known": "known"}}
    same = {"name": "known", "start": "./small", "data": "train", "fit": {**small, "lr": 0.0}}
    written = {"write": {"by": "contrast", "count": 4, "least": 3, "most": 12}}
    update = {"name": "known", "start": "known", "data": "shown", "trainable": "full", "fit": small}
    steps = [
        {"train": same},
        {"combine": contrast},
        {"data": {"name": "shown", "stages": [written]}},
        {"train": update},
        {"combine": contrast},
        {"evaluate": {"model": "known", "against": "known@1", "suite": [{"heldout": {"on": "shown"}}]}},
    ]
    start.run(recipe(*steps))
    run = json.loads(Path("runs/recipe/run.json").read_text())
    loss = run["steps"][-1]["tasks"][0]["metrics"][1]
    assert loss["after"] < loss["before"]  # log p0 of what was shown rises, so log p1 - log p0 falls
    contrasts = [step for step in run["steps"] if step["verb"] == "combine" and step["name"] == "contrast"]
    tuned, known = ([one["members"][name] for one in contrasts] for name in ("tuned", "known"))
    assert tuned[0] == tuned[1]
    assert known[0] != known[1]
    combination.read(contrasts[0]["path"] + "/model")  # its members are what they were
