"""Questions with options, by how likely the model finds each whole option."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from turnsmith.evaluation.items import Item, Metric
from turnsmith.evaluation.likelihoods import as_text, in_chat, likelihoods
from turnsmith.evaluation.questions import Question, questions
from turnsmith.evaluation.suite import Bench, Subject
from turnsmith.registry import task
from turnsmith.types import Conversation, Json


@task("choice", files=("file",))
class Choice:
    """Share of questions of which the model finds the right option most likely, with its chat template and as
    plain text, each also after dividing log-likelihoods by the characters of the option.

    The chat is asked the question, and an option is its whole reply, stop token included; options are not
    listed. Plain text is `Question: ...`, a line `Answer:` and the option. Of equal options the first counts.

    file: rows with `question`, `options` and the index `answer`; or ARC, OpenBookQA, HellaSwag, MMLU, as
    published or on the hub, TruthfulQA's table, or the "instruction" form of LLM-Adapters. count: how many,
    from the first.
    """

    title = "Multiple choice"
    note = (
        "The option that the model finds most likely as a whole answer, with the chat template and as plain "
        "text. By length: log-likelihoods are divided by the characters of the option, since long options "
        "are unlikely."
    )
    metrics = (
        Metric("right in chat", "chat", "share", "higher", of="questions", chance=True),
        Metric("right in chat, by length", "chat_by_length", "share", "higher", of="questions", chance=True),
        Metric("right as text", "text", "share", "higher", of="questions", chance=True),
        Metric("right as text, by length", "text_by_length", "share", "higher", of="questions", chance=True),
    )

    def __init__(self, *, file: str, count: int | None = None) -> None:
        self.questions = questions(file, count)
        self.title = f"{Choice.title}: {Path(file).name}"

    def measure(self, subject: Subject, bench: Bench) -> list[Item]:
        chat = self._likelihoods(subject, lambda question, option: in_chat(question.prompt, option))
        text = self._likelihoods(subject, lambda question, option: as_text(question.text, option))
        items = []
        for number, question in enumerate(self.questions, start=1):
            id, options = str(number), question.options
            shown: dict[str, Json] = {
                "prompt": question.prompt,
                "text": options[likeliest(chat[id])],
                "reference": options[question.answer],
            }
            items.append(Item(id, "", judged(question, chat[id], text[id]), shown))
        return items

    def _likelihoods(
        self, subject: Subject, said: Callable[[Question, str], Conversation]
    ) -> dict[str, list[float]]:
        asked = {
            str(number): [said(question, option) for option in question.options]
            for number, question in enumerate(self.questions, start=1)
        }
        return likelihoods(subject, asked)


def judged(question: Question, chat: Sequence[float], text: Sequence[float]) -> dict[str, float]:
    """Whether the right option is chosen in each of the four ways. chat, text: nats of each option."""
    scores = {
        "chat": chat,
        "chat_by_length": by_length(chat, question.options),
        "text": text,
        "text_by_length": by_length(text, question.options),
    }
    right = {way: float(likeliest(ones) == question.answer) for way, ones in scores.items()}
    return {**right, "chance": 1 / len(question.options)}


def likeliest(scores: Sequence[float]) -> int:
    """The place of the greatest, of equal ones the first."""
    return max(range(len(scores)), key=scores.__getitem__)


def by_length(scores: Sequence[float], options: Sequence[str]) -> list[float]:
    """Log-likelihoods per character of the options, as `acc_norm` of the LM Evaluation Harness has it.

    >>> by_length([-6.0, -8.0], ["abc", "äbcd"])
    [-2.0, -2.0]
    """
    return [score / len(option) for score, option in zip(scores, options, strict=True)]
