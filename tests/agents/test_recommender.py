"""A recommender that is talked to: what it understands, and what it says then."""

import pytest
import torch

from turnsmith.agents.recommender import RecommenderAgent
from turnsmith.errors import UsageError
from turnsmith.models import load
from turnsmith.models.networks.markov import markov
from turnsmith.models.networks.recommender import recommender
from turnsmith.types import Conversation, Failure, Message, Sampling

GREEDY = Sampling(temperature=0)
TOLD = "u0 i3 hoppy i2 hoppy"


@pytest.fixture
def agent(tmp_path):
    """i0 for those who like what is hoppy, i1 for those who like what is sour, and i4 else; all are hoppy."""
    model, words = recommender(users=1, items=5, aspects=("hoppy", "sour"), hidden=2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.model.encoder.weight.copy_(torch.eye(2))
        model.model.items.weight[:2] = torch.eye(2)
        model.model.justification.bias.copy_(torch.tensor([99.0, 0.0]))
    load.save(model, words, tmp_path / "model", base=None)
    return RecommenderAgent(model=str(tmp_path / "model"))


def asked(agent, *said, told=TOLD, sampling=GREEDY, seed=0):
    roles = ("user", "assistant")
    messages = [Message(roles[number % 2], text) for number, text in enumerate(said)]
    (reply,) = agent([Conversation((Message("system", told), *messages))], sampling=sampling, seed=seed)
    return reply.message.content if not isinstance(reply, Failure) else reply


def test_it_names_an_item_and_its_aspects(agent):
    assert asked(agent, "What do you recommend?") == "How about i0? It is hoppy."


@pytest.mark.parametrize("words", ["Not so hoppy.", "less hoppy, please", "That is too Hoppy"])
def test_critiques_move_it_to_another_item(agent, words):
    """Two times hoppy is 0 after one critique; then more sour is 1, for i1."""
    said = ("Hello", "How about i0? It is hoppy.", words, "How about i0? It is hoppy.", "More sour.")
    assert asked(agent, *said) == "How about i1? It is hoppy."


def test_less_of_what_was_never_said_counts_too(agent):
    """c = (-1, -1): what is neither is left, of which i4 alone has not been reviewed."""
    assert asked(agent, "not so hoppy and less sour", told="u0 i3 i2") == "How about i4? It is hoppy."


def test_it_says_that_it_did_not_understand(agent):
    said = asked(agent, "Hello", "How about i0? It is hoppy.", "Not so foggy.")
    assert said.startswith("I only understand such things as 'not so hoppy' and 'more hoppy'. ")
    assert said.endswith("How about i0? It is hoppy.")


def test_aspects_are_drawn_by_the_seed_of_the_conversation(agent):
    """Sour is half likely: in 200 conversations some 100 have it, within six standard deviations."""
    one = Conversation((Message("system", TOLD), Message("user", "Hello")))
    replies = agent.by_seeds([one] * 200, seeds=range(200))
    again = agent.by_seeds([one], seeds=[7])[0]
    assert again == replies[7]
    count = sum("sour" in reply.message.content for reply in replies)
    assert 58 <= count <= 142
    assert agent([one] * 3, seed=1) == agent([one] * 3, seed=1)


def test_who_is_told_of_no_user_fails_alone(agent):
    good = Conversation((Message("system", TOLD), Message("user", "Hello")))
    bad, fine = agent([Conversation((Message("user", "Hello"),)), good], sampling=GREEDY)
    assert isinstance(bad, Failure)
    assert "not told of a user" in bad.reason
    assert fine.message.content == "How about i0? It is hoppy."


def test_another_model_is_refused(tmp_path):
    load.save(*markov(hidden=4), tmp_path / "model", base=None)
    with pytest.raises(UsageError, match="the agent 'recommender' is for recommenders"):
        RecommenderAgent(model=str(tmp_path / "model"))
