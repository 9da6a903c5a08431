"""What of a `train` step learns, and by which method."""

from __future__ import annotations

from typing import TYPE_CHECKING

from turnsmith import ranks
from turnsmith.errors import UsageError
from turnsmith.models import load, own
from turnsmith.models.locate import locate
from turnsmith.models.recompute import recompute
from turnsmith.recipes import sights, wiring
from turnsmith.train.method import Method, declared
from turnsmith.train.place import Dtype
from turnsmith.trainables.install import Learner

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from turnsmith.recipes.run import Runner, Trained
    from turnsmith.recipes.schema import Train


def method_of(step: Train, runner: Runner) -> tuple[Method, list[str]]:
    """The objective with its options and traits, and the parts of an example that it needs."""
    entry = runner.registry.entry("objective", step.objective.name)
    method = declared(step.objective.name, step.objective.options, runner.registry)
    return method, list(entry.parts)


def installed(
    step: Train, runner: Runner, start: Trained, dtype: Dtype, seed: int, *, device: str
) -> tuple[Learner, PreTrainedTokenizerBase, str | None]:
    """The start with the trainable on it, its tokenizer, and the base to be named of an adapter.

    device: on `meta` nothing big is loaded, and weights have no values: RuntimeError of a trainable that
    chooses by them.
    """
    component = runner.registry.function("trainable", step.trainable.name)
    options = wiring.filled("trainable", step.trainable, runner)
    own.check_start(locate(start.reference), step.trainable.name)
    merged = load.has_adapter(start.reference) and not hasattr(component, "attach")
    # Where the start's own weights are kept with what learns, they must not lose digits.
    whole = not hasattr(component, "attach") or hasattr(component, "finish")
    exact = whole and (merged or load.holds_float32(start.reference))
    model, words = load.load(
        start.reference, dtype="float32" if exact else dtype, device=device, trainable=True
    )
    if merged:
        runner.say(
            "        the adapter is merged into its base: this trainable chooses among the base's weights"
        )
        model = model.merge_and_unload()  # pyright: ignore[reportCallIssue]
    sights.add_tokens(step, runner, model, words)
    goes_on = load.has_adapter(start.reference) and not merged
    learner = Learner(model, component, options, seed=seed)
    if step.fit.gradient_checkpointing:
        recompute(learner.model)
    if learner.every and ranks.world() > 1:
        raise UsageError(f"{step.trainable} chooses anew each epoch, which several processes cannot do yet")
    return learner, words, None if goes_on else start.reference
