"""Which models are served: those that are named, and all of other servers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeAlias

from turnsmith.serve.embeddings import Encoder
from turnsmith.serve.guarding import Guard
from turnsmith.serve.passing import Backend, Behind
from turnsmith.serve.refusals import Refused
from turnsmith.serve.served import Served

Model: TypeAlias = "Served | Encoder | Behind"


class Finding:
    """Models by their names. backends: servers that are asked for the names that are not known here."""

    def __init__(self, served: Mapping[str, Model], backends: Sequence[Backend]) -> None:
        self.served, self.backends = served, backends
        self._found: dict[str, Model] = dict(served)

    async def find(self, name: str) -> Model:
        """The model of this name. Raises Refused where there is none, or who may have it is away."""
        away: Refused | None = None
        for backend in self.backends if name not in self._found else ():
            try:
                if any(one["id"] == name for one in await backend.models()):
                    self._found[name] = Behind(name, backend, name)
            except Refused as refused:
                away = refused
        if name in self._found:
            return self._found[name]
        if away:
            raise away
        there = ", ".join(self._found)
        raise Refused(
            404, f"no model {name!r} is served; there are: {there}", param="model", code="model_not_found"
        )

    async def all(self) -> list[dict[str, Any]]:
        """All of them, described; those of a server that is away are not served now."""
        data = {one.name: described(one) for one in self.served.values()}
        for backend in self.backends:
            with suppress(Refused):
                data = {one["id"]: one for one in await backend.models()} | data
        return list(data.values())

    async def close(self, guards: Sequence[Guard]) -> None:
        """End what is under way, and close what is open."""
        for one in self.served.values():
            if isinstance(one, Served):
                one.batching.close()
            elif isinstance(one, Encoder):
                one.thread.shutdown()
            else:
                await one.backend.close()
        for backend in self.backends:
            await backend.close()
        for guard in guards:
            guard.thread.shutdown()


def described(one: Model) -> dict[str, Any]:
    """A model as OpenAI's API has it."""
    return {"id": one.name, "object": "model", "created": one.made, "owned_by": "turnsmith"}


def answering(one: Served | Encoder) -> Served:
    """A model that answers. Raises Refused for an encoder."""
    if isinstance(one, Encoder):
        raise Refused(
            400,
            f"{one.name} is an encoder: it reads texts and answers none. Ask it for embeddings",
            param="model",
        )
    return one
