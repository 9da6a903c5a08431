"""An encoder as a model like others: what it reads, what it cannot do, and its read-outs."""

from string import ascii_lowercase

import numpy as np
import pytest
import torch

from turnsmith.data.batch import pad
from turnsmith.data.render import Renderer
from turnsmith.errors import ModelError
from turnsmith.models import forest, heads, load
from turnsmith.models.networks.encoder import encoder
from turnsmith.models.score import Scoring
from turnsmith.sample.chat import mute
from turnsmith.testing import chat
from turnsmith.types import Rendered

TALK = chat("a: ab", "u: cd", "a: ef")


@pytest.fixture(scope="module")
def made():
    torch.manual_seed(0)
    return encoder(hidden=16, wide=32)


def rendered(words, *conversations):
    renderer = Renderer(words)
    return [
        Rendered(str(at), {"text": (renderer.render(one, "last")[-1],)})
        for at, one in enumerate(conversations)
    ]


def test_a_context_and_a_reply_are_read_as_a_pair_and_the_reply_counts(made):
    _, words = made
    (found,) = Renderer(words).render(TALK, "last")
    assert words.decode(found.inputs.tolist()) == "[CLS]ab cd[SEP]ef[SEP]"
    assert found.weights.tolist() == [0] * 7 + [1, 1, 1]


def test_the_ids_of_a_pair_are_those_of_berts_own_code(made, tmp_path):
    """A word-piece tokenizer without case, against its own way with two texts."""
    from transformers import BertTokenizer

    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = [*marks, *ascii_lowercase, *"?!.,[]", *(f"##{letter}" for letter in ascii_lowercase)]
    (tmp_path / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    words = BertTokenizer(str(tmp_path / "vocab.txt"))
    found = Renderer(words).render(chat("u: Are you in?", "a: Yes, I am."), "last")[-1]
    assert found.inputs.tolist() == words("Are you in?", "Yes, I am.")["input_ids"]


def test_a_mark_in_what_is_said_stays_text(made):
    _, words = made
    forged = chat("u: a [SEP] b", "a: c")
    (found,) = Renderer(words).render(forged, "last")
    assert (found.inputs == words.sep_token_id).sum() == 2


def test_an_empty_reply_has_a_score(made):
    """Check 6 of card 36, its second part."""
    model, words = made
    (data,) = rendered(words, chat("u: Are you in?", "a:"))
    said = Scoring(model, heads={"rating": ("mean", "narrow", 1)})(pad([data]), words=False).heads["rating"]
    assert said.isfinite().all()


def test_it_sees_what_comes_later_and_no_padding(made):
    model, words = made
    short, other, long = rendered(
        words, TALK, chat("a: ab", "u: cd", "a: eg"), chat("u: " + "x" * 40, "a: y")
    )
    scoring = Scoring(model.eval())
    with torch.no_grad():
        alone, beside, changed = (
            scoring(pad(ones), words=False, reads=("first", "mean")).read
            for ones in ([short], [short, long], [other])
        )
    assert "no causal attention" in str(forest.refusal(model))
    for read in ("first", "mean"):
        torch.testing.assert_close(alone[read][0], beside[read][0], rtol=0, atol=1e-5)
    assert (alone["first"] - changed["first"]).abs().max() > 1e-4  # a causal model's first state is the same


def test_the_first_read_out_is_the_state_of_the_first_token(made):
    model, words = made
    data = rendered(words, TALK, chat("u: x", "a: y"))
    scoring, batch = Scoring(model.eval()), pad(data)
    with torch.no_grad():
        states = scoring.hidden(batch).reshape(2, batch.inputs.shape[1], -1)
        found = scoring(batch, words=False, reads=("first",)).read["first"]
    assert torch.equal(found, states[:, 0])


def test_it_says_no_words(made):
    model, words = made
    scoring, batch = Scoring(model), pad(rendered(words, TALK))
    assert not scoring.speaks
    assert scoring.vocabulary == len(words)
    with pytest.raises(
        ModelError, match="BertModel is an encoder: it reads and judges, and predicts no words"
    ):
        scoring(batch)
    assert scoring(batch, words=False).logprobs.isnan().all()
    with pytest.raises(ModelError, match="minilm is an encoder"):
        mute("minilm")([TALK])


def test_a_narrow_head_is_saved_with_what_it_sits_on_and_read_again(made, tmp_path):
    model, words = made
    load.save(model, words, tmp_path / "m", base=None)
    found = Scoring(model, heads={"rating": ("first", "narrow", 2)}, seed=3)
    assert [p.shape for p in found.heads["rating"].parameters() if p.dim() == 2] == [(8, 16), (4, 8), (2, 4)]
    heads.save(found.heads, tmp_path / "m")
    assert heads.sizes(str(tmp_path / "m")) == {"rating": ("first", "narrow", 2)}
    states = torch.randn(5, 16)
    back = heads.projections(str(tmp_path / "m"), ["rating"])["rating"]
    assert torch.equal(back(states), found.heads["rating"](states))
    again, _ = load.load(str(tmp_path / "m"))
    assert np.array_equal(*(m.get_input_embeddings().weight.detach().numpy() for m in (again, model)))


def test_two_models_that_differ_in_their_heads_alone_are_told_apart(made, tmp_path):
    model, words = made
    prints = []
    for seed in (1, 2):
        load.save(model, words, tmp_path / str(seed), base=None)
        heads.save(Scoring(model, heads={"rating": ("mean", 1)}, seed=seed).heads, tmp_path / str(seed))
        prints.append(load.fingerprint(str(tmp_path / str(seed))))
    assert prints[0] != prints[1]
