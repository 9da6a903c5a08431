"""How likely a model finds each of several answers: as a reply in a chat, or as the end of plain text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from turnsmith.data.batch import micro_batches
from turnsmith.errors import ModelError
from turnsmith.evaluation.suite import Subject
from turnsmith.models.bare import context
from turnsmith.types import Conversation, Message, Rendered, Tokens


def in_chat(prompt: str, option: str) -> Conversation:
    """A user asks `prompt`, and the whole reply is `option`."""
    return Conversation((Message("user", prompt), Message("assistant", option)))


def as_text(prompt: str, option: str) -> Conversation:
    """`prompt`, a blank and `option` as plain text, of which the blank and the option count."""
    return Conversation((Message("text", prompt, weight=0.0), Message("text", f" {option}")))


@torch.no_grad()
def likelihoods(subject: Subject, asked: Mapping[str, Sequence[Conversation]]) -> dict[str, list[float]]:
    """Log-probability of what counts of each conversation, in nats, by the id that they stand under.

    In a chat the last reply counts, its stop token included. What the conversations of one id share is
    computed once. Raises ModelError naming the id where a conversation is longer than the model's context, or
    where the model's numbers are none.
    """
    rendered = [
        Rendered(id, {"options": tuple(_tokens(subject, one, id) for one in ones)})
        for id, ones in asked.items()
    ]
    found: dict[str, list[float]] = {}
    for run in micro_batches(rendered, subject.row):
        scores = subject.scoring(subject.batch(run))
        if not bool(scores.logprobs.isfinite().all()):
            among = ", ".join(one.id for one in run)
            raise ModelError(f"{subject.name} gives log-probs that are no numbers, among the items {among}")
        owners = scores.owner("options").tolist()
        for owner, value in zip(owners, scores.sums("options").tolist(), strict=True):
            found.setdefault(run[owner].id, []).append(value)
    return found


def _tokens(subject: Subject, conversation: Conversation, id: str) -> Tokens:
    rendered = subject.renderer.render(conversation, "last", id)[-1]
    tokens = rendered if conversation.messages[-1].role == "assistant" else _begun(subject, rendered)
    most = context(subject.scoring.base)
    if most is not None and len(tokens) > most:
        raise ModelError(
            f"item {id} has {len(tokens)} tokens with its answer, and the context of {subject.name} ends at "
            f"{most}: leave it out of the file"
        )
    return tokens


def _begun(subject: Subject, tokens: Tokens) -> Tokens:
    """Plain text behind the token that this tokenizer puts before every text, where it has one."""
    tokenizer = subject.renderer.tokenizer
    start = [id for id in tokenizer("")["input_ids"] if id == tokenizer.bos_token_id]
    ids = np.array([*start, *tokens.inputs], np.int32)
    weights = np.array([*[0.0] * len(start), *tokens.weights], np.float32)
    turns = np.array([*[0] * len(start), *tokens.turns], np.int32)
    beside = {name: _begun(subject, one) for name, one in tokens.beside.items()}
    return replace(tokens, inputs=ids, targets=ids, weights=weights, turns=turns, beside=beside)
