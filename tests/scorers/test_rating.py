"""Judges of replies: one that was trained to rate, one that compares embeddings, and one that counts."""

import pytest
import torch

from turnsmith.errors import DataError, ModelError
from turnsmith.models import heads, load
from turnsmith.models.networks.encoder import encoder
from turnsmith.models.score import Scoring
from turnsmith.scorers.length import words
from turnsmith.scorers.likeness import Likeness
from turnsmith.scorers.rating import Rating
from turnsmith.testing import SCORER, chat, conversations, directory
from turnsmith.types import Example

pytestmark = pytest.mark.usefixtures("home")
SIZE = {"rating": ("mean", "narrow", 1)}


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    """The directory of a small encoder with a head, and both."""
    where = tmp_path_factory.mktemp("judge")
    torch.manual_seed(0)
    model, tokens = encoder(hidden=16, wide=32)
    load.save(model.eval(), tokens, where / "m", base=None)
    scoring = Scoring(model, heads=SIZE).eval()
    heads.save(scoring.heads, where / "m")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TURNSMITH_HOME", str(where))
        (where / "arithmetic.json").write_text('{"dtype": "float32", "seconds": {}}')
        yield str(where / "m"), scoring, tokens


def asked(*said):
    return list(said), [Example({"text": one}, {}, {"id": str(at)}) for at, one in enumerate(said)]


@torch.no_grad()
def test_a_rating_is_what_the_head_says_of_the_mean_over_the_reply_on_the_scale_of_people(judge):
    where, scoring, tokens = judge
    ids = torch.tensor([tokens.convert_tokens_to_ids(["[CLS]", "a", "b", "[SEP]", "c", "d", "[SEP]"])])
    states = scoring.model(input_ids=ids).last_hidden_state[0]
    wanted = 1 + 4 * torch.sigmoid(scoring.heads["rating"](states[4:].mean(0)))
    (found,) = Rating(by=where)(*asked(chat("u: ab", "a: cd")))
    assert found == pytest.approx(wanted.item(), abs=1e-5)


def test_what_is_too_long_keeps_its_reply_and_nothing_goes_unjudged(judge):
    """Check 6 of card 36."""
    where, *_ = judge
    long = chat("u: " + "x" * 300, "a: cd")
    short = chat("u: " + "x" * (20 - 5), "a: cd")
    empty = chat("u: ab", "a:")
    found = Rating(by=where, length=20)(*asked(long, short, empty))
    assert found[0] == pytest.approx(found[1], abs=1e-5)
    assert all(1 < one < 5 for one in found)


@torch.no_grad()
def test_likeness_is_the_cosine_of_two_texts_read_apart(judge):
    where, scoring, tokens = judge
    pair = []
    for text in (["a", "b", "\u0120", "c", "d"], ["e"]):
        ids = torch.tensor([tokens.convert_tokens_to_ids(["[CLS]", *text, "[SEP]"])])
        pair.append(scoring.model(input_ids=ids).last_hidden_state[0].mean(0))
    wanted = torch.nn.functional.cosine_similarity(*pair, dim=0).item()
    same, other = Likeness(by=where)(*asked(chat("u: ab", "a: ab"), chat("a: ab", "u: cd", "a: e")))
    assert same == pytest.approx(1, abs=1e-6)
    assert other == pytest.approx(wanted, abs=1e-5)


def test_likeness_needs_something_to_compare_with(judge):
    with pytest.raises(DataError, match="'0': nothing was said before"):
        Likeness(by=judge[0])(*asked(chat("a: ab")))


def test_a_model_that_was_not_trained_to_rate_is_refused(tmp_path):
    with pytest.raises(ModelError, match="no head that rates: train it under an objective"):
        Rating(by=str(directory(tmp_path / "plain")))(*asked(chat("u: ab", "a: cd")))


def test_words_are_counted():
    assert words(*asked(chat("u: a b c", "a: d  e"), chat("u: a", "a:"))) == [2.0, 0.0]


@pytest.mark.parametrize("check", SCORER, ids=lambda check: check.__name__)
@pytest.mark.parametrize("made", [Rating, Likeness])
def test_it_keeps_the_contract_of_scorers(judge, made, check):
    examples = conversations(4)
    check(made(by=judge[0], length=100), [one.parts["text"] for one in examples], examples)
