"""What a policy over the actions of a bandit earns, and how far it went from where its data came from."""

from __future__ import annotations

import torch

from turnsmith.data.render import Renderer
from turnsmith.errors import DataError, ModelError
from turnsmith.evaluation.items import Item, Metric
from turnsmith.evaluation.likelihoods import likelihoods
from turnsmith.evaluation.suite import Bench, Subject
from turnsmith.registry import task
from turnsmith.scorers.bump import ACTIONS
from turnsmith.stages.bandit import data_policy
from turnsmith.stages.parts import conversation_of
from turnsmith.types import Conversation, Example, Message, Scorer


@task("bandit", data=True, scorers=("reward",), source="arXiv:2404.14367 sec. 4.1")
class Bandit:
    """Expected reward of the policy in each context, over all 100 actions; nothing is sampled.

    on: data whose last message of the assistant is an action; what stands before it is the context. What the
    policy says beside actions earns nothing. Its divergence from the data policy and its entropy are those of
    the policy among the actions.
    """

    title = "What a policy over 100 actions earns"
    note = "Exact sums over all actions, not samples of them. Divergence is KL(policy || data policy)."
    metrics = (
        Metric("reward", "reward", "mean reward", "higher", of="contexts"),
        Metric("divergence from the data policy", "divergence", "nats", "lower", of="contexts"),
        Metric("entropy", "entropy", "nats", "higher", of="contexts"),
    )

    def __init__(self, *, on: str, reward: Scorer) -> None:
        self.on, self.reward = on, reward

    def measure(self, subject: Subject, bench: Bench) -> list[Item]:
        examples = {example.id: example for example in bench.examples(self.on)}
        actions = _actions(subject.renderer)
        asked = {id: [_context(one).then(action) for action in actions] for id, one in examples.items()}
        found = likelihoods(subject, asked)
        behind = torch.tensor(data_policy(), dtype=torch.float64).log()
        items: list[Item] = []
        for id, answers in asked.items():
            logprobs = torch.tensor(found[id], dtype=torch.float64)
            rewards = torch.tensor(self.reward(answers, [examples[id]] * len(answers)), dtype=torch.float64)
            among = logprobs.log_softmax(0)
            values = {
                "reward": float(logprobs.exp() @ rewards),
                "divergence": float(among.exp() @ (among - behind)),
                "entropy": float(-(among.exp() @ among)),
            }
            items.append(Item(id, "", values, {"most probable": ACTIONS[int(logprobs.argmax())]}))
        return items


def _actions(renderer: Renderer) -> list[Message]:
    """Each of the actions as it is sampled: one token, with nothing said of whether the reply ends there."""
    ids = [tuple(renderer.ids(action)) for action in ACTIONS]
    if any(len(one) != 1 for one in ids):
        raise ModelError(
            "`bandit` needs a model with a token for each character, such as the network `markov`"
        )
    return [Message("assistant", action, ids=one) for action, one in zip(ACTIONS, ids, strict=True)]


def _context(example: Example) -> Conversation:
    """What stands before the action."""
    found = conversation_of(example, "text").opening
    if not found.messages:
        raise DataError(f"example {example.id!r}: `bandit` needs a context and an action in the part 'text'")
    return found
