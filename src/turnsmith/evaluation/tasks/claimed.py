"""How many true and false things a model's answers claim, and whether a scorer can tell them apart."""

from __future__ import annotations

from collections.abc import Sequence

from turnsmith.errors import UsageError
from turnsmith.evaluation.items import Item, Metric
from turnsmith.evaluation.suite import Bench, Subject
from turnsmith.registry import task
from turnsmith.sample.chat import samples
from turnsmith.scorers.claimed import claims_of
from turnsmith.stages.answers import answered, prompt
from turnsmith.stages.parts import conversation_of
from turnsmith.types import Chat, Conversation, Example, Failure, Message, Reply, Sampling, Score, Scorer


@task("claims", data=True, chats=("splitter",), scorers=("by",), source="arXiv:2311.08401 sec. 4")
class Claims:
    """What the model claims in answers that it draws to held-out prompts: right claims and wrong ones to an
    answer, and the share of right ones, a mean over answers.

    on: the data; a prompt is the conversation `text` without what the assistant says last. by: judges each
    claim, put as the whole answer, e.g. `supported`; more than 0.5 is right, and a claim that it cannot judge
    does not count. splitter: as of `supported`. n: answers to each prompt. Fewer claims can raise the share:
    read all three figures. An answer that claims nothing is counted and has no share, never one of 1.
    """

    title = "Claims that are right"
    note = (
        "The model answers held-out prompts by sampling, and each claim is judged by itself. Answers that "
        "claim nothing have no share of right claims and are counted."
    )
    metrics = (
        Metric("right claims", "right", "claims per answer", "higher", size="answers", of="answers"),
        Metric("wrong claims", "wrong", "claims per answer", "lower", size="answers", of="answers"),
        Metric("share of right claims", "share", "share", "higher", size="judged", of="answers"),
        Metric("answers without a claim", "silent", "share", "lower", size="answers", of="answers"),
    )

    def __init__(
        self,
        *,
        on: str,
        by: Scorer,
        splitter: Chat | None = None,
        n: int = 1,
        temperature: float = 1.0,
        max_new: int = 128,
    ) -> None:
        if n < 1:
            raise UsageError(f"claims: n is {n}: each prompt needs one answer at least")
        self.on, self.by, self.splitter, self.n = on, by, splitter, n
        self.sampling = Sampling(temperature=temperature, max_new=max_new)

    def measure(self, subject: Subject, bench: Bench) -> list[Item]:
        examples = bench.examples(self.on)
        asked = [prompt(example, "text") for example in examples]
        drawn = samples(subject.chat, asked, self.n, sampling=self.sampling, seed=0)
        made = [
            [conversation_of(answered(*both, one), "text") for one in replies if isinstance(one, Reply)]
            for both, replies in zip(zip(examples, asked, strict=True), drawn, strict=True)
        ]
        flat = [(one, example) for ones, example in zip(made, examples, strict=True) for one in ones]
        judged = iter(each_claim(flat, self.by, self.splitter))
        return [
            _item(example, replies, [next(judged) for _ in ones])
            for example, replies, ones in zip(examples, drawn, made, strict=True)
        ]


@task("trusted", data=True, chats=("splitter",), scorers=("by", "truth"), source="arXiv:2311.08401 sec. 3.2")
class Trusted:
    """Whether a scorer puts what is right above what is wrong: AUROC over the claims of given answers.

    on: the data, e.g. drawn by the stages `answers` and `each_answer`; what is said last is taken apart. by:
    the scorer, e.g. `consistent`, whatever model is measured. truth: says of each claim whether it is right,
    as `by` of the task `claims` does. Claims that one of the two cannot judge fail.
    """

    title = "Right claims told from wrong ones"
    note = "AUROC of a scorer over claims: 0.5 is no better than chance."
    metrics = (
        Metric(
            "right claims found", "score", "AUROC", "higher", of="claims", reduce="auroc", others=("label",)
        ),
    )

    def __init__(self, *, on: str, by: Scorer, truth: Scorer, splitter: Chat | None = None) -> None:
        self.on, self.by, self.truth, self.splitter = on, by, truth, splitter

    def measure(self, subject: Subject, bench: Bench) -> list[Item]:
        given = [(conversation_of(one, "text"), one) for one in bench.examples(self.on)]
        scores = each_claim(given, self.by, self.splitter)
        labels = each_claim(given, self.truth, self.splitter)
        found: list[Item] = []
        for (_, example), own, true in zip(given, scores, labels, strict=True):
            for number, ((claim, score), (_, label)) in enumerate(zip(own, true, strict=True)):
                id, shown = f"{example.id}/{number}", {"text": claim}
                if score is None or label is None:
                    found.append(Item(id, "", {}, shown, failed="could not be judged"))
                else:
                    found.append(Item(id, "", {"score": score, "label": float(label > 0.5)}, shown))
        return found


def each_claim(
    given: Sequence[tuple[Conversation, Example]], by: Scorer, splitter: Chat | None
) -> list[list[tuple[str, Score]]]:
    """What each conversation claims in its last message, and what the scorer says of each claim when it is
    all that was answered."""
    claims = claims_of([one for one, _ in given], splitter)
    alone = [
        (one.upto(-1).then(Message("assistant", claim)), example)
        for (one, example), own in zip(given, claims, strict=True)
        for claim in own
    ]
    scores = iter(by([one for one, _ in alone], [example for _, example in alone]) if alone else [])
    return [[(claim, next(scores)) for claim in own] for own in claims]


def _item(
    example: Example, replies: Sequence[Reply | Failure], judged: Sequence[Sequence[tuple[str, Score]]]
) -> Item:
    if failures := [one.reason for one in replies if isinstance(one, Failure)]:
        return Item(example.id, "", {}, failed=failures[0])
    right, wrong, shares = 0, 0, list[float]()
    for own in judged:
        known = [score > 0.5 for _, score in own if score is not None]
        right, wrong = right + sum(known), wrong + len(known) - sum(known)
        shares += [sum(known) / len(known)] if known else []
    values = {
        "right": float(right),
        "wrong": float(wrong),
        "share": sum(shares),
        "silent": float(len(judged) - len(shares)),
        "judged": float(len(shares)),
        "answers": float(len(judged)),
    }
    first = replies[0]
    assert isinstance(first, Reply)
    shown = {"text": first.message.content, "judged": [[claim, score] for claim, score in judged[0]]}
    return Item(example.id, "", values, shown, finish=first.finish)
