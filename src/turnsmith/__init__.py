"""Turnsmith fine-tunes conversational language models, and shows what was gained, forgotten and paid.

>>> import turnsmith
>>> results = turnsmith.run("quickstart", tiny=True)                                      # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from turnsmith.data.render import Renderer as Renderer
    from turnsmith.errors import TurnsmithError as TurnsmithError
    from turnsmith.models.load import load as load
    from turnsmith.models.score import Scoring as Scoring
    from turnsmith.recipes.checking import check as check
    from turnsmith.recipes.claims import claims as claims
    from turnsmith.recipes.compare import compare as compare
    from turnsmith.recipes.converting import convert as convert
    from turnsmith.recipes.describing import describe as describe
    from turnsmith.recipes.start import evaluate as evaluate
    from turnsmith.recipes.start import export as export
    from turnsmith.recipes.start import run as run
    from turnsmith.recipes.start import tune as tune
    from turnsmith.recipes.steps import Steps as Steps
    from turnsmith.recipes.talking import chat as chat
    from turnsmith.registry import Registry as Registry
    from turnsmith.registry import format as format
    from turnsmith.registry import merge as merge
    from turnsmith.registry import network as network
    from turnsmith.registry import objective as objective
    from turnsmith.registry import stage as stage
    from turnsmith.registry import task as task
    from turnsmith.registry import trainable as trainable
    from turnsmith.registry import view as view
    from turnsmith.rollout.converse import Speaker as Speaker
    from turnsmith.rollout.converse import converse as converse
    from turnsmith.sample.chat import LocalChat as LocalChat
    from turnsmith.sample.chat import samples as samples
    from turnsmith.sample.engine import LocalEngine as LocalEngine
    from turnsmith.sample.talk import Talk as Talk
    from turnsmith.types import Conversation as Conversation
    from turnsmith.types import Example as Example
    from turnsmith.types import Loss as Loss
    from turnsmith.types import Message as Message
    from turnsmith.types import Sampling as Sampling
    from turnsmith.types import Scores as Scores

PUBLIC = {
    "Renderer": "data.render",
    "TurnsmithError": "errors",
    "load": "models.load",
    "Scoring": "models.score",
    "check": "recipes.checking",
    "claims": "recipes.claims",
    "compare": "recipes.compare",
    "convert": "recipes.converting",
    "describe": "recipes.describing",
    **dict.fromkeys(("evaluate", "export", "run", "tune"), "recipes.start"),
    "Steps": "recipes.steps",
    "chat": "recipes.talking",
    **dict.fromkeys(
        (
            "Registry",
            "agent",
            "decoder",
            "format",
            "merge",
            "network",
            "objective",
            "scorer",
            "stage",
            "task",
            "trainable",
            "view",
        ),
        "registry",
    ),
    **dict.fromkeys(("Speaker", "converse"), "rollout.converse"),
    **dict.fromkeys(("LocalChat", "samples"), "sample.chat"),
    "LocalEngine": "sample.engine",
    "Talk": "sample.talk",
    **dict.fromkeys(("Conversation", "Example", "Loss", "Message", "Sampling", "Scores"), "types"),
}


def __getattr__(name: str) -> Any:
    """Public names are imported when they are first used, so that `import turnsmith` costs nothing."""
    if name not in PUBLIC:
        raise AttributeError(f"module 'turnsmith' has no attribute {name!r}")
    return getattr(import_module(f"turnsmith.{PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return sorted(PUBLIC)
