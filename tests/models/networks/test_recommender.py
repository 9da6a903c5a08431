"""A recommender: its scores by hand, what it reads of rows, and that it is kept and read like any model."""

import subprocess
import sys

import pytest
import torch

from turnsmith.data.batch import pad
from turnsmith.data.prepare import prepare
from turnsmith.data.render import Renderer
from turnsmith.errors import DataError, UsageError
from turnsmith.models import load
from turnsmith.models.networks.markov import markov
from turnsmith.models.networks.recommender import criticised, recommender, recommender_of
from turnsmith.models.score import Scoring
from turnsmith.types import Conversation, Example, Message


def made(users=3, items=4, aspects=("hoppy", "smooth", "sour"), hidden=2):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, words = recommender(users=users, items=items, aspects=aspects, hidden=hidden)
    return model.eval(), words


def row(words, text):
    return torch.tensor([words(text)["input_ids"]])


# ------------------------------------------------------------------------------- the card's check 1


@pytest.mark.parametrize(("count", "sign", "then"), [(3, -1, 0), (0, -1, -1), (0, 1, 1), (3, 1, 6)])
def test_1_a_critique_takes_off_or_adds_what_was_said_and_once_at_least(count, sign, then):
    profile = torch.tensor([[count, 2.0, 0.0], [5.0, 1.0, 4.0]])
    before = profile.clone()
    which = torch.tensor([[True, False, False], [False, False, False]])
    found = criticised(profile, which, sign=sign)
    assert found.tolist() == [[then, 2.0, 0.0], [5.0, 1.0, 4.0]]  # all others are as they were
    assert torch.equal(profile, before)  # and the profile itself too


# ------------------------------------------------------------------------------------ what it gives


def test_a_score_is_a_product_of_the_user_with_what_was_said_and_the_item():
    model, _ = made()
    one = model.model
    with torch.no_grad():
        one.users.weight[1] = torch.tensor([1.0, 2.0])
        one.encoder.weight.copy_(torch.tensor([[1.0, 0.0, 3.0], [0.0, 1.0, -1.0]]))
        one.encoder.bias.copy_(torch.tensor([0.5, 0.0]))
        one.items.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [2.0, -1.0]]))
        one.justification.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, -1.0]]))
        one.justification.bias.copy_(torch.tensor([0.0, 0.0, 10.0]))
    users, said = torch.tensor([1]), torch.tensor([[2.0, 0.0, -1.0]])
    # z = (1, 2) + 2 (1, 0) - (3, -1) + (0.5, 0) = (0.5, 3)
    assert one.scores(users, said).tolist() == [[0.5, 3.0, 3.5, -2.0]]
    # z + gamma_3 = (2.5, 2)
    assert one.justify(users, said, torch.tensor([3])).tolist() == [[2.5, 2.0, 10.5]]


def test_a_row_is_read_as_a_user_a_profile_and_a_last_review():
    model, words = made()
    found = model.model.reviews(row(words, "u2 i1 hoppy sour i3 hoppy i0 smooth"))
    assert found.user.tolist() == [2]
    assert found.item.tolist() == [0]
    assert found.profile.tolist() == [[2.0, 0.0, 1.0]]
    assert found.aspects.tolist() == [[0.0, 1.0, 0.0]]
    assert found.reviewed.tolist() == [[True, True, False, True]]


def test_rows_of_several_lengths_end_at_minus_one():
    model, words = made()
    short, long = words("u0 i1")["input_ids"], words("u1 i0 sour i2 hoppy")["input_ids"]
    found = model.model.reviews(torch.tensor([short + [-1] * (len(long) - 2), long]))
    assert found.user.tolist() == [0, 1]
    assert found.item.tolist() == [1, 2]
    assert found.profile.tolist() == [[0.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    assert found.aspects.tolist() == [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]


@pytest.mark.parametrize("text", ["i1 hoppy", "u0 u1 i2", "u0 hoppy", "u9 i1", "hello"])
def test_a_row_without_one_known_user_and_an_item_is_refused(text):
    model, words = made()
    with pytest.raises(DataError, match="row 0 of a step names"):
        model.model.reviews(row(words, text))


def test_as_a_causal_model_its_logits_are_those_of_items_and_behind_an_item_of_aspects():
    model, words = made()
    one, ids = model.model, row(words, "u2 i1 hoppy sour i3 hoppy i0 smooth")
    seen = one.reviews(ids)
    logits = model(ids).logits[0]
    first = one.config.first + one.config.users
    torch.testing.assert_close(logits[-3, first : first + 4], one.scores(seen.user, seen.profile)[0])
    aspects = one.justify(seen.user, seen.profile, seen.item)[0]
    torch.testing.assert_close(logits[-2, first + 4 :], aspects)
    assert not logits[:, :first].any()


# --------------------------------------------------------------------------------- kept like a model


def test_names_are_whole_words_and_all_else_is_bytes():
    model, words = made(users=12)
    ids = row(words, "u11 u1 i3 hoppyish, hoppy")[0].tolist()
    first = model.config.first
    assert [one - first for one in ids if one >= first] == [11, 1, 12 + 3, 12 + 4]


def test_what_is_loaded_again_gives_the_same_logits_in_a_process_that_never_made_one(tmp_path):
    model, words = made()
    load.save(model, words, tmp_path / "model", base=None)
    again, read = load.load(str(tmp_path / "model"))
    ids = row(words, "u2 i1 hoppy sour i3 hoppy")
    assert read("u2 i1 hoppy sour i3 hoppy")["input_ids"] == ids[0].tolist()
    with torch.no_grad():
        assert torch.equal(again(ids).logits, model(ids).logits)
    assert load.parameters(str(tmp_path / "model")) == model.num_parameters()
    asked = (
        f"from turnsmith.models import load; print(type(load.load({str(tmp_path / 'model')!r})[0]).__name__)"
    )
    found = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "RecommenderForCausalLM"


def test_what_is_copied_has_weights_of_its_own():
    from copy import deepcopy

    model, words = made()
    ids, other = row(words, "u2 i1 hoppy"), deepcopy(model)
    with torch.no_grad():
        other.model.items.weight.zero_()
    assert model(ids).logits[0, 0].any()
    assert not other(ids).logits[0, 0, : -len("abc")].any()


def test_it_is_scored_like_any_other():
    model, words = made()
    said = Conversation((Message("text", "u1 i0 sour", weight=0.0), Message("text", " i2 hoppy", weight=1.0)))
    rendered, _ = prepare([Example({"text": said}, meta={"id": "one"})], Renderer(words), ["text"], length=99)
    batch = pad(rendered)
    expected = model(batch.inputs).logits.log_softmax(-1)[0]
    found = Scoring(model)(batch).logprobs
    first = model.config.first + model.config.users
    torch.testing.assert_close(found, torch.stack([expected[2, first + 2], expected[3, first + 4]]))


@pytest.mark.parametrize("aspects", [("hoppy", "hoppy"), ("u1",), ("very hoppy",), ("",), ()])
def test_aspects_that_are_no_words_of_their_own_are_refused(aspects):
    with pytest.raises(UsageError, match="recommender"):
        recommender(users=2, items=2, aspects=aspects)


def test_another_model_is_named():
    with pytest.raises(UsageError, match=r"'critiquing' is for recommenders, and this model is a Markov"):
        recommender_of(markov(hidden=4)[0], "'critiquing'")
