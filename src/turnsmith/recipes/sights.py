"""What a model sees of its examples while it learns: the view of a `train` step."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from turnsmith import seeds
from turnsmith.errors import UsageError
from turnsmith.models import vocab
from turnsmith.recipes import wiring
from turnsmith.types import Rendered, Sight, View

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from turnsmith.recipes.run import Runner
    from turnsmith.recipes.schema import Train

See = Callable[[Rendered, int, int], Rendered]


def add_tokens(step: Train, runner: Runner, model: PreTrainedModel, words: PreTrainedTokenizerBase) -> None:
    """Add the tokens that the step's view names and the vocabulary lacks. Raises UsageError where the
    trainable is an adapter: it could not be put on its base again."""
    lacking = [token for token in _named(step, runner) if token not in words.get_vocab()]
    if not lacking:
        return
    if wiring.adds(step.trainable.name, runner.registry):
        raise UsageError(
            f"view {step.view}: the vocabulary has no token {lacking[0]!r}, and {step.trainable.name} leaves "
            "that of its base as it is: name a token that it has, or train full"
        )
    vocab.add(model, words, lacking)


def see(
    step: Train, runner: Runner, words: PreTrainedTokenizerBase, *, examples: int, seed: int
) -> See | None:
    """The step's view as a function of an example, the step's number and the example's place in the window;
    None where the model sees its examples as they are."""
    if step.view is None:
        return None
    options = runner.registry.options("view", step.view.name, step.view.options)
    view: View = functools.partial(runner.registry.function("view", step.view.name), **options)
    ids: Any = {token: words.convert_tokens_to_ids(token) for token in _named(step, runner)}
    steps, vocabulary = step.fit.total(examples), len(words)

    def seen(example: Rendered, number: int, place: int) -> Rendered:
        rng = seeds.array(seed, "view", number, place)
        sight = Sight(rng, number, steps, vocabulary, ids)
        parts = {name: tuple(view(one, sight) for one in ones) for name, ones in example.parts.items()}
        return replace(example, parts=parts)

    return seen


def _named(step: Train, runner: Runner) -> list[str]:
    """The tokens that the view's options name."""
    if step.view is None:
        return []
    options = runner.registry.options("view", step.view.name, step.view.options)
    given = (options[name] for name in runner.registry.entry("view", step.view.name).names("tokens"))
    return [str(token) for token in given if token is not None]
