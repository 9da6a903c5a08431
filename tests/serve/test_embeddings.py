"""Embeddings, by a model that answers and by an encoder."""

import base64

import numpy as np
import openai
import pytest
import torch

from turnsmith.recipes.serving import Sizes, opened
from turnsmith.serve.embeddings import Encoder
from turnsmith.testing import tokenizer

TEXTS = ["A fjord is a long narrow arm of the sea.", "Rain."]


def encoder(path):
    """A directory with a two-layer BERT in it, which reads between marks."""
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer().backend_tokenizer,
        cls_token="<|im_start|>", sep_token="<|im_end|>", pad_token="<|endoftext|>",
    )  # fmt: skip
    config = BertConfig(
        vocab_size=len(made), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=64,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        BertModel(config).save_pretrained(path)
    made.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    served = opened({"bert": str(encoder(tmp_path_factory.mktemp("bert")))}, Sizes())
    assert isinstance(served["bert"], Encoder)
    served["bert"].model.float()  # whatever is fastest here
    return served["bert"]


@pytest.fixture(scope="module")
def both(server, local, batching, bert, running):
    from turnsmith.serve.served import Served

    url = running({"tiny": Served("tiny", local, batching), "bert": bert}).url
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


def unit(states):
    """The mean of (T, H), of length 1."""
    mean = states.float().mean(0)
    return (mean / mean.norm()).tolist()


def test_an_embedding_is_the_mean_of_the_last_states_over_all_tokens(local, both):
    found = both.embeddings.create(model="tiny", input=TEXTS)  # the client asks for base64
    ids = [local.renderer.ids(text) for text in TEXTS]
    with torch.no_grad():
        states = [local.engine.base.model(torch.tensor([one])).last_hidden_state[0] for one in ids]
    for one, expected in zip(found.data, states, strict=True):
        assert one.embedding == pytest.approx(unit(expected), abs=1e-5)
    assert [one.index for one in found.data] == [0, 1]
    assert found.usage.prompt_tokens == found.usage.total_tokens == sum(map(len, ids))


def test_an_encoder_embeds_between_its_marks(bert, both):
    found = both.embeddings.create(model="bert", input=TEXTS[1], encoding_format="float")
    words = bert.renderer.tokenizer
    ids = [words.cls_token_id, *words("Rain.", add_special_tokens=False)["input_ids"], words.sep_token_id]
    with torch.no_grad():
        states = bert.model(torch.tensor([ids])).last_hidden_state[0]
    assert found.data[0].embedding == pytest.approx(unit(states), abs=1e-5)
    assert found.usage.prompt_tokens == len(ids)


def test_base64_holds_the_same_numbers_in_single_precision(both):
    asked = {"model": "tiny", "input": [[40, 41, 42], [7, 8]]}
    plain = both.post("/embeddings", body={**asked, "encoding_format": "float"}, cast_to=object)
    packed = both.post("/embeddings", body={**asked, "encoding_format": "base64"}, cast_to=object)
    for one, other in zip(plain["data"], packed["data"], strict=True):
        numbers = np.frombuffer(base64.b64decode(other["embedding"]), "<f4")
        assert numbers.tolist() == one["embedding"]
        assert float(np.square(numbers).sum()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"dimensions": 8}, "tiny gives 32 numbers, which were not learnt to be cut"),
        ({"input": []}, "there is nothing to embed"),
        ({"input": "x", "model": "other"}, "no model 'other'"),
        ({"input": [5000]}, "input 0 holds ids that are not below the model's 320"),
        ({"model": "bert", "input": ["Rain.", "x " * 99]}, "input 1 has .* tokens, and the model reads 64"),
    ],
)
def test_what_cannot_be_embedded_is_refused(both, asked, said):
    with pytest.raises((openai.BadRequestError, openai.NotFoundError), match=said):
        both.embeddings.create(**({"model": "tiny", "input": "Rain."} | asked))


def test_an_encoder_answers_nothing(both):
    with pytest.raises(openai.BadRequestError, match="bert is an encoder: it reads texts and answers none"):
        both.chat.completions.create(model="bert", messages=[{"role": "user", "content": "Hi"}])
