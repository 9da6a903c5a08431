"""Adapters on one base, which is in memory once, and models that speak as one."""

import openai
import pytest
import torch
from peft import LoraConfig, get_peft_model

from turnsmith.models import load
from turnsmith.recipes.serving import Sizes, opened
from turnsmith.recipes.talking import chat
from turnsmith.testing import directory
from turnsmith.types import Conversation, Message, Sampling

QUESTION = "What is a fjord?"
CONVERSATION = Conversation((Message("user", QUESTION),))
HOW = Sampling(max_new=10, temperature=0.8)


@pytest.fixture(autouse=True, scope="module")
def single_precision():
    """Whatever is fastest here: replies are compared token by token."""
    patch = pytest.MonkeyPatch()
    patch.setattr("turnsmith.train.place.arithmetic", lambda *_: ("float32", ""))
    yield
    patch.undo()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A base, two plain adapters on it, and one that cannot be switched from row to row."""
    path = tmp_path_factory.mktemp("sharing")
    base = str(directory(path / "base"))
    for number, (name, dora) in enumerate((("a", False), ("b", False), ("dora", True))):
        model, words = load.load(base)
        config = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], use_dora=dora, init_lora_weights=False)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(number)
            whole = get_peft_model(model, config)
            for parameter in whole.parameters():
                parameter.data *= 3 if parameter.requires_grad else 1
        load.save(whole, words, path / name, base=base)
    return path


@pytest.fixture(scope="module")
def served(folder):
    names = ("a", "b", "base", "dora")
    return opened({name: str(folder / name) for name in names}, Sizes(rows=4, capacity=256))


@pytest.fixture(scope="module")
def client(served, running):
    url = running(served).url
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


def alone(folder, name, seed=1):
    (reply,) = chat(str(folder / name))([CONVERSATION], sampling=HOW, seed=seed)
    return reply.message


def ask(client, name, **more):
    asked = {"messages": [{"role": "user", "content": QUESTION}], "seed": 1, "max_tokens": 10}
    return client.chat.completions.create(model=name, temperature=0.8, **(asked | more))


def test_the_base_of_several_adapters_is_in_memory_once(served):
    models = {name: one.chat.engine.model for name, one in served.items()}
    assert models["a"] is models["b"] is models["base"]
    assert models["dora"] is not models["a"]
    assert served["a"].batching is served["b"].batching is served["base"].batching

    def weights(model):
        return [one for name, one in model.named_parameters() if "lora_" not in name]

    places = {one.untyped_storage().data_ptr() for one in weights(models["a"])}
    own = {one.untyped_storage().data_ptr() for one in weights(models["dora"])}
    assert len(places) == len(weights(models["a"]))
    assert not places & own


def test_each_answers_as_its_adapter_does_alone_also_at_once(folder, client):
    names = ["a", "b", "base", "dora"]
    texts = {name: alone(folder, name).content for name in names}
    assert len(set(texts.values())) == 4
    # In turn, so that prompts go on from what others have read, if caches were mixed; then all at once.
    for name in (*names, *reversed(names)):
        assert ask(client, name).choices[0].message.content == texts[name]
    streams = {name: ask(client, name, stream=True) for name in names}
    said = {
        name: "".join(one.choices[0].delta.content or "" for one in stream)
        for name, stream in streams.items()
    }
    assert said == texts


def test_log_probs_and_embeddings_are_those_of_the_adapter(folder, client):
    for name in ("a", "base"):
        model, words = load.load(str(folder / name))
        ids = words("A fjord is long")["input_ids"]
        with torch.no_grad():
            out = model(input_ids=torch.tensor([ids]), output_hidden_states=True)
        after = out.logits[0].log_softmax(-1)
        expected = [float(after[place, id]) for place, id in enumerate(ids[1:])]
        found = client.completions.create(model=name, prompt=ids, max_tokens=0, echo=True, logprobs=0)
        assert found.choices[0].logprobs.token_logprobs[1:] == pytest.approx(expected, abs=1e-4)
        mean = out.hidden_states[-1][0].mean(0)
        embedding = client.embeddings.create(model=name, input=ids).data[0].embedding
        assert embedding == pytest.approx((mean / mean.norm()).tolist(), abs=1e-4)
