"""What a model's answers to held-out prompts are worth, how long they are, and how far it has come from its
start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

import torch

from turnsmith.data.batch import micro_batches
from turnsmith.errors import UsageError
from turnsmith.evaluation.items import Item, Metric
from turnsmith.evaluation.suite import Bench, Subject
from turnsmith.registry import task
from turnsmith.sample.chat import samples
from turnsmith.stages.answers import answered, prompt
from turnsmith.stages.parts import conversation_of
from turnsmith.types import Example, Failure, Rendered, Reply, Sampling, Scorer


@task("rewarded", data=True, parts=(), scorers=("reward",), source="arXiv:2203.02155 sec. 3.5")
class Rewarded:
    """Mean reward of the answers that the model draws to held-out prompts, their length, and the divergence
    from the start model on them.

    on: the data; a prompt is the conversation `to` without what the assistant says last. reward: judges each
    answer, with what the stage `answers` says of it. n: answers to each prompt, whose mean counts. stop:
    texts that end an answer. The divergence is KL(model || start), exact over the vocabulary at each token
    that was drawn, at temperature 1, and summed over the answer. A prompt that could not be answered or
    judged fails. Raises UsageError unless n is at least 1.
    """

    title = "Reward of answers"
    note = (
        "The model answers held-out prompts by sampling, and each answer is judged. The divergence from the "
        "start model is in nats per answer, exact at each token of the model's own answers."
    )
    metrics = (
        Metric("reward", "reward", "reward", "higher", of="prompts"),
        Metric("tokens", "tokens", "tokens", "lower", of="prompts"),
        Metric("divergence", "kl", "nats per answer", "lower", of="prompts"),
        Metric("answers that do not end", "cut", "share", "lower", of="prompts"),
    )

    def __init__(
        self,
        *,
        on: str,
        reward: Scorer,
        to: str = "text",
        n: int = 1,
        temperature: float = 1.0,
        max_new: int = 128,
        stop: tuple[str, ...] = (),
    ) -> None:
        if n < 1:
            raise UsageError(f"rewarded: n is {n}: each prompt needs one answer at least")
        self.on, self.reward, self.to, self.n = on, reward, to, n
        self.sampling = Sampling(temperature=temperature, max_new=max_new, stop=stop)

    def measure(self, subject: Subject, bench: Bench) -> list[Item]:
        examples = list(bench.examples(self.on))
        asked = [prompt(example, self.to) for example in examples]
        drawn = samples(subject.chat, asked, self.n, sampling=self.sampling, seed=0)
        made = {
            example.id: [answered(example, conversation, one) for one in replies if isinstance(one, Reply)]
            for example, conversation, replies in zip(examples, asked, drawn, strict=True)
        }
        flat = [one for ones in made.values() for one in ones]
        rewards = iter(self.reward([conversation_of(one, "text") for one in flat], flat))
        apart = iter(divergences(subject, bench.start(), flat))
        items: list[Item] = []
        for example, replies in zip(examples, drawn, strict=True):
            ones = made[example.id]
            scores, kl = [next(rewards) for _ in ones], [next(apart) for _ in ones]
            items.append(_item(example, replies, ones, scores, kl))
        return items


def _item(
    example: Example,
    replies: Sequence[Reply | Failure],
    ones: Sequence[Example],
    scores: Sequence[float | None],
    kl: Sequence[float],
) -> Item:
    failures = [one.reason for one in replies if isinstance(one, Failure)]
    judged = [score for score in scores if score is not None]
    if failures or len(judged) < len(scores):
        return Item(example.id, "", {}, failed=failures[0] if failures else "could not be judged")
    values: Mapping[str, float] = {
        "reward": fmean(judged),
        "kl": fmean(kl),
        **{name: fmean(_value(one, name) for one in ones) for name in ("tokens", "cut")},
    }
    first = replies[0]
    assert isinstance(first, Reply)
    said = [{"role": one.role, "text": one.content} for one in conversation_of(ones[0], "text").messages[:-1]]
    shown = {"prompt": said, "text": first.message.content, "reward": judged[0]}
    return Item(example.id, "", values, shown, finish=first.finish)


@torch.no_grad()
def divergences(subject: Subject, start: Subject, answers: Sequence[Example]) -> list[float]:
    """KL(subject || start) in nats over each answer: the sum over its drawn tokens, exact at each."""
    if subject is start:
        return [0.0] * len(answers)
    found = [0.0] * len(answers)
    given: list[Rendered] = []
    for number, one in enumerate(answers):
        (tokens,) = subject.renderer.render(conversation_of(one, "text"), "last", one.id)[-1:]
        given.append(Rendered(str(number), {"text": (tokens,)}))
    for run in micro_batches(given, subject.row):
        batch = subject.batch(run)
        scores = subject.scoring(batch, needs=("reverse_kl:start",), others={"start": start.scoring})
        sums = scores.along("text", scores.reduced["reverse_kl:start"])
        for one, number in zip(run, sums.tolist(), strict=True):
            found[int(one.id)] = number
    return found


def _value(example: Example, name: str) -> float:
    found = example.values[name]
    assert isinstance(found, float)
    return found
