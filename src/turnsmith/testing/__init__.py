"""What the tests of Turnsmith are built with, public so that your own components can be tested the same way.

Builders make small real things: `model`, `tokenizer`, `directory`, `chat`, `picture`, `conversations`,
`variety`, `jsonl`, `examples`, `scores` with given log-probs and references, and `Told`, a run that gives
them.
Contracts are tuples of checks, each a function that raises AssertionError: OBJECTIVE, TRAINABLE, STAGE,
DECODER, FORMAT, AGENT, SCORER, TASK and RECIPE. An objective of your own is held to its contract by a
parametrised test:

    from pathlib import Path
    import pytest
    from turnsmith.registry import Registry
    from turnsmith.testing import OBJECTIVE, method

    registry = Registry()
    registry.use(Path("mine.py"))

    @pytest.mark.parametrize("check", OBJECTIVE, ids=lambda check: check.__name__)
    def test_contract(check):
        check(method("focal", {"gamma": 1.0}, registry=registry), ("text",))

and a stage by `check(stage("shorten", {"most": 3}, registry=registry), variety())` over STAGE.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from turnsmith.testing.builders import (
    Figures,
    Told,
    chat,
    conversations,
    directory,
    examples,
    jsonl,
    model,
    picture,
    scores,
    tokenizer,
    tokens,
    variety,
)

if TYPE_CHECKING:
    from turnsmith.testing.components import agent, method, scorer, stage, task
    from turnsmith.testing.contracts import OBJECTIVE, TRAINABLE
    from turnsmith.testing.decoders import DECODER, the_lead_speaks_alone
    from turnsmith.testing.formats import FORMAT
    from turnsmith.testing.recipes import RECIPE
    from turnsmith.testing.speakers import AGENT, SCORER
    from turnsmith.testing.stages import STAGE
    from turnsmith.testing.tasks import TASK, TinyBench, subject
    from turnsmith.testing.templates import properties

__all__ = [
    "AGENT",
    "DECODER",
    "FORMAT",
    "OBJECTIVE",
    "RECIPE",
    "SCORER",
    "STAGE",
    "TASK",
    "TRAINABLE",
    "Figures",
    "TinyBench",
    "Told",
    "agent",
    "chat",
    "conversations",
    "directory",
    "examples",
    "jsonl",
    "method",
    "model",
    "picture",
    "properties",
    "scorer",
    "scores",
    "stage",
    "subject",
    "task",
    "the_lead_speaks_alone",
    "tokenizer",
    "tokens",
    "variety",
]

LATER = {
    **dict.fromkeys(("agent", "method", "scorer", "stage", "task"), "components"),
    **dict.fromkeys(("OBJECTIVE", "TRAINABLE"), "contracts"),
    "FORMAT": "formats",
    "RECIPE": "recipes",
    **dict.fromkeys(("AGENT", "SCORER"), "speakers"),
    "STAGE": "stages",
    **dict.fromkeys(("DECODER", "the_lead_speaks_alone"), "decoders"),
    "properties": "templates",
    **dict.fromkeys(("TASK", "TinyBench", "subject"), "tasks"),
}


def __getattr__(name: str) -> Any:
    """Contracts are imported when they are first used: they lean on most of the toolkit."""
    if name not in LATER:
        raise AttributeError(f"module 'turnsmith.testing' has no attribute {name!r}")
    return getattr(import_module(f"turnsmith.testing.{LATER[name]}"), name)
