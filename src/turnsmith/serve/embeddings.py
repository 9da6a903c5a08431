"""Embeddings: texts as points, by models that answer and by encoders, which do nothing else."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from turnsmith.errors import UsageError
from turnsmith.models.bare import bare, context
from turnsmith.models.embedding import embedded
from turnsmith.sample.joining import Joining
from turnsmith.sample.rows import BASE
from turnsmith.serve import wire
from turnsmith.serve.served import Served
from turnsmith.types import Conversation, Message

if TYPE_CHECKING:
    from torch import Tensor, nn

    from turnsmith.data.render import Renderer


@dataclass(frozen=True)
class Encoder:
    """A model that reads and answers nothing, under its name. made: seconds since 1970."""

    name: str
    model: nn.Module
    renderer: Renderer
    made: int = 0
    thread: ThreadPoolExecutor = field(default_factory=partial(ThreadPoolExecutor, 1))

    def ids(self, text: str) -> list[int]:
        """A text with the marks around it that encoders are trained with."""
        rendered = self.renderer.render(Conversation((Message("user", text),)), "all")
        return [int(id) for id in rendered[-1].inputs]


async def embeddings(of: Served | Encoder, asked: wire.EmbedAsked) -> dict[str, Any]:
    """The answer. Raises UsageError for what is empty, too long or not offered."""
    renderer = of.renderer if isinstance(of, Encoder) else of.chat.renderer
    read = of.ids if isinstance(of, Encoder) else renderer.ids
    texts = [read(one) if isinstance(one, str) else list(one) for one in asked.texts()]
    model = of.model if isinstance(of, Encoder) else of.batching.engine.model
    _check(model, texts)
    if isinstance(of, Encoder):
        work = partial(embedded, of.model, texts)
        found = await asyncio.get_running_loop().run_in_executor(of.thread, work)
    else:
        if of.batching.engine.beside is not None:
            raise UsageError(f"{of.name} combines models: together they have no states to embed by")
        adapter = None if of.reader is None else of.reader or BASE
        found = await of.batching.between(partial(_between, texts=texts, adapter=adapter))
    size = found.shape[1]
    if asked.dimensions not in (None, size):
        raise UsageError(f"dimensions: {of.name} gives {size} numbers, which were not learnt to be cut")
    data = [
        {"object": "embedding", "index": number, "embedding": _written(one, asked.encoding_format)}
        for number, one in enumerate(found)
    ]
    count = sum(map(len, texts))
    usage = {"prompt_tokens": count, "total_tokens": count}
    return {"object": "list", "data": data, "model": of.name, "usage": usage}


def _between(joining: Joining, *, texts: Sequence[Sequence[int]], adapter: str | None) -> Tensor:
    """By the model that is drawn from, while nothing is drawn."""
    with joining.engine.ready():
        return embedded(joining.engine.model, texts, adapter=adapter)


def _check(model: nn.Module, texts: Sequence[Sequence[int]]) -> None:
    """Raise UsageError for what the model cannot read."""
    if not texts or not all(texts):
        raise UsageError("input: there is nothing to embed")
    base: Any = bare(model)
    known, most = len(base.get_input_embeddings().weight), context(model)
    for number, ids in enumerate(texts):
        if most is not None and len(ids) > most:
            raise UsageError(f"input {number} has {len(ids)} tokens, and the model reads {most}: shorten it")
        if not 0 <= min(ids) <= max(ids) < known:
            raise UsageError(f"input {number} holds ids that are not below the model's {known}")


def _written(one: Tensor, form: str) -> list[float] | str:
    """The numbers, or their bytes as fp32 in little-endian order."""
    if form == "float":
        return one.tolist()
    return base64.b64encode(one.numpy().astype("<f4").tobytes()).decode("ascii")
