"""A network that reads one token: its logits by hand, and that the token before it does not matter."""

import torch

from turnsmith.data.batch import pad
from turnsmith.data.render import Renderer
from turnsmith.models import forest, load
from turnsmith.models.networks.markov import markov
from turnsmith.models.score import Scoring
from turnsmith.sample.engine import LocalEngine
from turnsmith.testing import examples
from turnsmith.train.optim import adamw
from turnsmith.train.options import Fit
from turnsmith.types import Sampling


def made(hidden=8):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, words = markov(hidden=hidden)
    return model.eval(), words


def test_two_layers_over_the_embedding_of_one_token():
    model, _ = made()
    table, one, two = model.model.embed_tokens.weight, model.model.layer, model.lm_head
    hidden = (table[65] @ one.weight.T + one.bias).clamp_min(0)
    expected = hidden @ two.weight.T + two.bias
    ids = torch.tensor([[7, 65, 9]])
    torch.testing.assert_close(model(ids).logits[0, 1], expected)
    torch.testing.assert_close(model(inputs_embeds=table[ids]).logits[0, 1], expected)
    assert model.num_parameters() == 259 * 8 + (8 * 8 + 8) + (259 * 8 + 259)


def test_what_stands_before_a_token_does_not_matter():
    model, _ = made()
    with torch.no_grad():
        behind, alone = model(torch.tensor([[3, 4, 5]])).logits[0, 2], model(torch.tensor([[5]])).logits[0, 0]
    torch.testing.assert_close(behind, alone)


def test_what_is_loaded_again_gives_the_same_logits(tmp_path):
    model, words = made()
    load.save(model, words, tmp_path / "model", base=None)
    again, read = load.load(str(tmp_path / "model"))
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        assert torch.equal(again(ids).logits, model(ids).logits)
    assert read("a b")["input_ids"] == words("a b")["input_ids"]
    assert load.parameters(str(tmp_path / "model")) == model.num_parameters()


def test_a_process_that_has_never_made_one_loads_it(tmp_path):
    import subprocess
    import sys

    model, words = made()
    load.save(model, words, tmp_path / "model", base=None)
    asked = (
        f"from turnsmith.models import load; print(type(load.load({str(tmp_path / 'model')!r})[0]).__name__)"
    )
    found = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "MarkovForCausalLM"


def test_it_is_read_in_padded_rows_scored_and_learns():
    model, words = made()
    assert forest.refusal(model)
    assert Renderer(words).stop == words.convert_tokens_to_ids("<|im_end|>")
    scoring, batch = Scoring(model), pad(examples(4, vocabulary=259))
    expected = model(batch.inputs).logits.log_softmax(-1).flatten(0, 1)[batch.source, batch.targets]
    before = scoring(batch).logprobs
    torch.testing.assert_close(before, expected[batch.entry])
    optimizer = adamw(model.parameters(), Fit(steps=9, lr=1e-2))
    for _ in range(9):
        optimizer.zero_grad()
        (-scoring(batch).logprobs.mean()).backward()
        optimizer.step()
    assert scoring(batch).logprobs.mean() > before.mean() + 0.1


def test_it_is_sampled_from_like_any_other():
    """Each letter has one that follows it for sure."""
    model, words = made(hidden=259)
    ids = dict(zip("abc", words("abc")["input_ids"], strict=True))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.model.embed_tokens.weight.copy_(torch.eye(259))
        model.model.layer.weight.copy_(torch.eye(259))
        for at, to in ("ab", "bc", "ca"):
            model.lm_head.weight[ids[to], ids[at]] = 50.0
    prompts = [[ids["a"]], [ids["a"], ids["a"], ids["b"]]]
    drawn = LocalEngine(model, stop=(2,)).generate(prompts, sampling=Sampling(max_new=4), seeds=[0, 1])
    assert [words.decode(one.ids) for one in drawn] == ["bcab", "cabc"]
    assert all(abs(logprob) < 1e-3 for one in drawn for logprob in one.logprobs)


def test_several_replies_are_drawn_to_one_prompt():
    """There are no keys and values that they could share."""
    model, _ = made()
    engine = LocalEngine(model, stop=(2,))
    several = engine.generate([(5, 6, 7)] * 3, sampling=Sampling(max_new=2), seeds=[1, 2, 3])
    alone = [
        engine.generate([(5, 6, 7)], sampling=Sampling(max_new=2), seeds=[seed])[0] for seed in (1, 2, 3)
    ]
    assert [one.ids for one in several] == [one.ids for one in alone]
