"""Models that speak as one, served: the same tokens as when they are asked here."""

import openai
import pytest
import torch

from turnsmith.models import combination, load
from turnsmith.recipes.serving import Sizes, opened
from turnsmith.recipes.talking import chat
from turnsmith.testing import directory
from turnsmith.types import Conversation, Message, Sampling

ASKED = [{"role": "user", "content": "What is a fjord?"}]
CONVERSATION = Conversation((Message("user", ASKED[0]["content"]),))
HOW = Sampling(max_new=12, temperature=0.9)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three models, two ways to steer the first by the others, and the two ways taken back to it alone."""
    patch = pytest.MonkeyPatch()  # whatever is fastest here: replies are compared token by token
    patch.setattr("turnsmith.train.place.arithmetic", lambda *_: ("float32", ""))
    path = tmp_path_factory.mktemp("combined")
    names = ("base", "expert", "anti")
    places = {name: str(directory(path / name, seed=seed)) for seed, name in enumerate(names)}
    members = {name: combination.Member(place, load.fingerprint(place)) for name, place in places.items()}
    for name, options in (("steered", {"alpha": 0.7}), ("alone", {"alpha": 0.0})):
        combination.write(combination.Combination("proxy", 1, options, members), path / name)
    yield path
    patch.undo()


@pytest.fixture(scope="module")
def client(folder, running):
    names = ("steered", "alone", "base")
    served = opened({name: str(folder / name) for name in names}, Sizes(rows=3, capacity=256))
    return openai.OpenAI(base_url=f"{running(served).url}/v1", api_key="none", max_retries=0)


def ask(client, name, **more):
    asked = {"messages": ASKED, "seed": 3, "max_tokens": 12, "temperature": 0.9}
    return client.chat.completions.create(model=name, **asked, **more)


def test_a_combination_answers_token_by_token_as_it_does_here(folder, client):
    (reply,) = chat(str(folder / "steered"))([CONVERSATION], sampling=HOW, seed=3)
    found = ask(client, "steered", logprobs=True)
    pieces = list(ask(client, "steered", stream=True))
    assert found.choices[0].message.content == reply.message.content
    told = [one.logprob for one in found.choices[0].logprobs.content]
    assert told == pytest.approx(list(reply.message.logprobs), abs=1e-4)
    assert "".join(one.choices[0].delta.content or "" for one in pieces) == reply.message.content


def test_where_the_others_count_nothing_it_is_the_base(client):
    base, alone, steered = (ask(client, name, n=3) for name in ("base", "alone", "steered"))
    texts = [[one.message.content for one in found.choices] for found in (base, alone, steered)]
    assert texts[0] == texts[1]
    assert texts[0] != texts[2]


def test_the_log_probs_of_a_prompt_are_those_of_all_together(folder, client):
    tables = {}
    ids = load.tokenizer(str(folder / "base"))("A fjord is long")["input_ids"]
    for name in ("base", "expert", "anti"):
        with torch.no_grad():
            tables[name] = load.load(str(folder / name))[0](input_ids=torch.tensor([ids])).logits[0]
    # arXiv:2401.08565 eq. 1: the base's logits plus alpha times what tuning added.
    after = (tables["base"] + 0.7 * (tables["expert"] - tables["anti"])).log_softmax(-1)
    found = client.completions.create(model="steered", prompt=ids, max_tokens=0, echo=True, logprobs=0)
    expected = [float(after[place, id]) for place, id in enumerate(ids[1:])]
    assert found.choices[0].logprobs.token_logprobs[1:] == pytest.approx(expected, abs=1e-4)


def test_a_combination_has_no_embeddings(client):
    with pytest.raises(openai.BadRequestError, match="together they have no states to embed by"):
        client.embeddings.create(model="steered", input="Rain.")
