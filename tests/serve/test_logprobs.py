"""Log-probs of what was drawn, of what might have been, and of a prompt."""

import openai
import pytest
import torch

from turnsmith.types import Conversation, Message, Sampling

ASKED = [{"role": "user", "content": "What is a fjord?"}]
CONVERSATION = Conversation((Message("user", "What is a fjord?"),))


def table(local, ids, temperature=1.0):
    """(T, V): log-probs of what comes after each of the ids, by one plain forward pass."""
    with torch.no_grad():
        logits = local.engine.base(input_ids=torch.tensor([ids])).logits[0]
    return (logits.float() / temperature).log_softmax(-1)


def test_the_most_probable_tokens_stand_beside_the_one_that_was_drawn(local, client):
    found = client.chat.completions.create(
        model="tiny", messages=ASKED, seed=5, max_tokens=6, temperature=0.5, logprobs=True, top_logprobs=7,
        frequency_penalty=1.0,
    )  # fmt: skip
    sampling = Sampling(max_new=6, temperature=0.5, frequency_penalty=1.0)
    (reply,) = local([CONVERSATION], sampling=sampling, seed=5)
    prompt = local.prompt(CONVERSATION, Sampling()).ids
    after = table(local, [*prompt, *reply.message.ids], 0.5)[len(prompt) - 1 : -1]
    best, ids = after.topk(7)
    told = found.choices[0].logprobs.content
    assert len(told) == len(reply.message.ids)
    for place, one in enumerate(told):
        assert [other.logprob for other in one.top_logprobs] == pytest.approx(best[place].tolist(), abs=1e-4)
        names = [local.renderer.token(id) for id in ids[place].tolist()]
        assert [other.token for other in one.top_logprobs] == names
        assert one.logprob == pytest.approx(float(after[place, reply.message.ids[place]]), abs=1e-4)


def test_without_top_logprobs_there_are_none(client):
    found = client.chat.completions.create(model="tiny", messages=ASKED, seed=5, max_tokens=2, logprobs=True)
    assert [one.top_logprobs for one in found.choices[0].logprobs.content] == [[], []]


def test_a_text_tells_of_the_most_probable_tokens_and_of_its_own(local, client):
    ids = local.renderer.ids("A fjord")
    found = client.completions.create(model="tiny", prompt=ids, seed=2, max_tokens=5, logprobs=2)
    streamed = client.completions.create(
        model="tiny", prompt=ids, seed=2, max_tokens=5, logprobs=2, stream=True
    )
    told = found.choices[0].logprobs
    last = list(streamed)[-1].choices[0].logprobs
    assert last.tokens == told.tokens
    assert last.token_logprobs == pytest.approx(told.token_logprobs, abs=1e-4)
    for logprob, top in zip(told.token_logprobs, told.top_logprobs, strict=True):
        assert len(top) in (2, 3)  # the one that was drawn may be among them
        assert logprob in top.values()
        assert max(top.values()) >= logprob


@pytest.mark.parametrize("most", [0, 3])
def test_the_prompt_is_told_of_with_its_log_probs(local, client, most):
    text = "A fjord is a long"
    found = client.completions.create(
        model="tiny", prompt=[text, "Is"], max_tokens=most, echo=True, logprobs=1, temperature=0
    )
    ids = local.renderer.ids(text)
    told = found.choices[0].logprobs
    assert len(told.tokens) == len(ids) + most
    assert "".join(told.tokens).startswith(text)
    assert found.choices[0].text.startswith(text)
    assert (told.token_logprobs[0], told.top_logprobs[0]) == (None, None)
    after = table(local, ids)
    expected = [float(after[place, id]) for place, id in enumerate(ids[1:])]
    assert told.token_logprobs[1 : len(ids)] == pytest.approx(expected, abs=1e-4)
    greedy = after.max(-1).values.tolist()
    best = [max(top.values()) for top in told.top_logprobs[1 : len(ids) + 1]]
    assert best[: len(ids) - 1] == pytest.approx(greedy[:-1], abs=1e-4)
    # What is drawn at temperature 0 is the most probable, to the last bit: harnesses ask just that.
    assert told.token_logprobs[len(ids) :] == [max(top.values()) for top in told.top_logprobs[len(ids) :]]
    starts = [0]
    for piece in told.tokens[:-1]:
        starts.append(starts[-1] + len(piece))
    assert told.text_offset == starts
    assert found.usage.completion_tokens <= 2 * most
    assert found.choices[0].finish_reason == "length"


def test_a_long_prompt_is_told_of_in_pieces(local, client, monkeypatch):
    monkeypatch.setattr("turnsmith.sample.joining.PIECE", 4)
    ids = local.renderer.ids("A fjord is a long narrow arm of the sea")
    asked = {"model": "tiny", "prompt": ids, "max_tokens": 0, "echo": True, "logprobs": 0}
    told = client.completions.create(**asked).choices[0].logprobs
    expected = [float(table(local, ids)[place, id]) for place, id in enumerate(ids[1:])]
    assert told.token_logprobs[1:] == pytest.approx(expected, abs=1e-4)
    *_, last = client.completions.create(**asked, stream=True)
    assert last.choices[0].logprobs.token_logprobs[1:] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"max_tokens": 0}, "without `echo` there is nothing to say"),
        ({"logprobs": 6}, "logprobs: Input should be less than or equal to 5"),
        ({"prompt": [7] * 600, "max_tokens": 0, "echo": True, "logprobs": 1}, "a row has 512|context ends"),
    ],
)
def test_what_of_it_makes_no_sense_is_refused(client, asked, said):
    with pytest.raises(openai.BadRequestError, match=said):
        client.completions.create(**({"model": "tiny", "prompt": "A"} | asked))
