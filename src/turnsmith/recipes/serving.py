"""What is to be served, opened: models that are loaded here, encoders, and models of other servers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import yaml

from turnsmith.data.render import Renderer
from turnsmith.errors import UsageError
from turnsmith.models.answering import is_llamacpp
from turnsmith.models.bare import bare
from turnsmith.models.directory import is_combination
from turnsmith.models.endpoint import endpoint, is_endpoint
from turnsmith.models.locate import foundation, locate
from turnsmith.models.several import base_shared, on_one_base
from turnsmith.recipes import yaml12
from turnsmith.recipes.rendering import renderer_of
from turnsmith.recipes.talking import chat
from turnsmith.registry import Registry, bound
from turnsmith.sample.chat import LocalChat
from turnsmith.sample.engine import KEPT, LocalEngine
from turnsmith.serve.batching import Batching
from turnsmith.serve.embeddings import Encoder
from turnsmith.serve.guarding import Guard
from turnsmith.serve.passing import Backend, Behind
from turnsmith.serve.served import Served
from turnsmith.types import Json

if TYPE_CHECKING:
    from torch import nn

Model: TypeAlias = Served | Encoder | Behind


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of each model that is drawn from: replies at once, requests that may wait, and tokens of a row."""

    rows: int = 16
    waiting: int = 64
    capacity: int = 4096

    def batching(self, engine: LocalEngine) -> Batching:
        """What draws for many at once."""
        held = min(self.capacity, engine.context or self.capacity)
        return Batching(engine, rows=self.rows, capacity=held, waiting=self.waiting)


def opened(references: Mapping[str, str], sizes: Sizes = Sizes()) -> dict[str, Model]:
    """The models under these names. Plain LoRA adapters on one base, and the base itself where it is among
    them, share its weights and are drawn for together. Raises UsageError for what cannot be served."""
    found: dict[str, Model] = {}
    local: dict[str, str] = {}
    for name, reference in references.items():
        if is_llamacpp(reference):
            raise UsageError(
                f"{reference} is run by llama.cpp: only models that are loaded can be served. Start "
                "llama.cpp's own server and serve that, NAME=URL#MODEL"
            )
        if is_endpoint(reference):
            found[name] = _behind(name, reference)
        else:
            local[name] = reference
    for names in _sharing(local):
        found |= _together({name: local[name] for name in names}, sizes)
    return {name: found[name] for name in references}


def backend(url: str) -> Backend:
    """A server all of whose models are served: its URL, options behind a `?`. Raises UsageError."""
    address, _, options = url.partition("?")
    return Backend(endpoint(f"{address}#every?{options}"))


def policy_in(file: Path) -> dict[str, str]:
    """The categories of a YAML file, each with its description. Raises UsageError."""
    try:
        found = yaml12.load(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"{file} cannot be read: {error}") from None
    if not isinstance(found, dict) or not all(isinstance(one, str) for one in found.values()):
        raise UsageError(f"{file} is no policy: write a line `Category: description` for each category")
    return {str(name): text for name, text in found.items()}


def guard(named: str, policy: Mapping[str, str] | None = None, threshold: float = 0.5) -> Guard:
    """What `NAME` or `NAME=MODEL` names: a scorer whose numbers say how bad the last message is, and the
    model that it asks. policy: of a scorer that has one. Raises UsageError for what it does not take."""
    name, _, model = named.partition("=")
    known = Registry()
    entry = known.entry("scorer", name)
    given: dict[str, Json] = dict.fromkeys(entry.names("models"), model) if model else {}
    given |= {"policy": dict(policy)} if policy is not None else {}
    if not 0 <= threshold <= 1:
        raise UsageError(f"the guard's threshold is {threshold}, and has to be between 0 and 1")
    if model and not entry.names("models"):
        raise UsageError(f"the scorer {name} asks no model: leave out ={model}")
    options = known.options("scorer", name, given)
    return Guard(name, bound(known.function("scorer", name), options), threshold)


def _behind(name: str, reference: str) -> Behind:
    named = endpoint(reference)
    return Behind(name, Backend(named), named.model, int(time.time()))


def _sharing(references: Mapping[str, str]) -> list[list[str]]:
    """Names of the models that share a base and end replies on the same tokens, or that stand alone."""
    groups: dict[tuple[Any, ...], list[str]] = {}
    for name, reference in references.items():
        base = base_shared(reference)
        key: tuple[Any, ...] = (name,)
        if base is not None and len(references) > 1:
            key = (base, renderer_of(reference).stops)
        groups.setdefault(key, []).append(name)
    return list(groups.values())


def _together(references: Mapping[str, str], sizes: Sizes) -> dict[str, Model]:
    """Models of one base."""
    from turnsmith.models.directory import base_of, rests_on_base

    adapters = {name: one for name, one in references.items() if rests_on_base(locate(one))}
    if len(references) == 1 or not adapters:
        return {name: _alone(name, one, sizes) for name, one in references.items()}
    import torch

    dtype, device = _arithmetic()
    own = {name: f"adapter_{number}" for number, name in enumerate(adapters)}
    base = base_of(locate(next(iter(adapters.values()))))
    named = {own[name]: one for name, one in adapters.items()}
    whole: Any = on_one_base(base, named, dtype=dtype, device=device)
    whole.to(getattr(torch, dtype)).eval()  # the adapters too
    renderers = {name: renderer_of(one) for name, one in references.items()}
    stops = next(iter(renderers.values())).stops
    engine = LocalEngine(whole, stop=stops, kept=KEPT)
    batching, made = sizes.batching(engine), int(time.time())
    return {
        name: Served(
            name, LocalChat(engine, renderer), batching, made, *_prints(references[name]), own.get(name, "")
        )
        for name, renderer in renderers.items()
    }


def _alone(name: str, reference: str, sizes: Sizes) -> Model:
    """One model, with weights of its own."""
    if not is_combination(locate(reference)) and not _speaks(reference):
        model, renderer = _encoder(reference)
        return Encoder(name, model, renderer, int(time.time()))
    made = chat(reference)
    assert isinstance(made, LocalChat)
    assert isinstance(made.engine, LocalEngine)
    return Served(name, made, sizes.batching(made.engine), int(time.time()), *_prints(reference))


def _prints(reference: str) -> tuple[str, str | None]:
    """Fingerprints of the base, and of what was tuned upon it and is kept apart."""
    from turnsmith.models.load import fingerprint

    base = foundation(reference)
    return fingerprint(str(base)), None if base == locate(reference) else fingerprint(reference)


def _speaks(reference: str) -> bool:
    """Whether the model predicts words; read off its shape alone."""
    from turnsmith.models import load

    model: Any = load.load(str(foundation(reference)), device="meta")[0]
    base: Any = bare(model)
    return base.get_output_embeddings() is not None


def _encoder(reference: str) -> tuple[nn.Module, Renderer]:
    import torch

    from turnsmith.models import load

    dtype, device = _arithmetic()
    model, words = load.load(reference, dtype=dtype, device=device)  # pyright: ignore[reportArgumentType]
    whole: Any = model
    return whole.to(getattr(torch, dtype)).eval(), renderer_of(reference, words)


def _arithmetic() -> tuple[str, str]:
    """The dtype that is fastest here, and the device."""
    from turnsmith import wheels
    from turnsmith.train.place import arithmetic, device

    return arithmetic("auto", wheels.home() / "arithmetic.json")[0], device()
