"""What the command line does, as functions; the commands themselves go through the same doors."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from turnsmith import ranks
from turnsmith.data.quarantine import BadRows
from turnsmith.errors import UsageError
from turnsmith.models.answering import LLAMACPP, only_answers
from turnsmith.models.endpoint import endpoint, is_endpoint
from turnsmith.recipes import asking, components, references, schema
from turnsmith.recipes.run import Runner, Say
from turnsmith.recipes.tuning import plan
from turnsmith.registry import Registry
from turnsmith.types import is_object

if TYPE_CHECKING:
    from turnsmith.models.export import Form, Quantisation
    from turnsmith.models.load import Dtype
    from turnsmith.models.writers import Exported

After = Callable[[dict[str, Any], Path], None]


def run(
    recipe: str | Path | Mapping[str, Any],
    *,
    name: str = "recipe",
    settings: Mapping[str, Any] | None = None,
    use: Sequence[Path | str] = (),
    to: Path | str | None = None,
    tiny: bool = False,
    command: str | None = None,
    say: Say | None = None,
    after: After | None = None,
) -> list[dict[str, Any]]:
    """Carry out every arm of a recipe; gives what each arm's run.json holds.

    recipe: a file, the name of one that comes with Turnsmith, or its content, which is then called `name`.
    settings: changes by path, e.g. {"steps.1.train.fit.lr": 1e-4}. use: files with components of your own.
    to: where reports go; runs/NAME where absent. command: what the report says to type again. say: is given
    each line of progress; silent where absent. after: is given each arm's result and directory.
    """
    plain, name, near = references.content(recipe, name, settings)
    known = components(use)
    say = say if ranks.is_main() else None
    root = Path(to) if to else Path("runs") / (f"{name}-tiny" if tiny else name)
    results: list[dict[str, Any]] = []
    for arm in schema.arms(plain, name, known, tiny=tiny):
        runner = Runner(
            arm,
            name,
            root / arm.name,
            known,
            command or f"turnsmith.run({name!r})",
            say or (lambda text: None),
            quiet=say is None,
            tiny=tiny,
            near=near,
        )
        results.append(runner.run())
        if after is not None:
            after(results[-1], runner.directory)
    return results


def tune(
    model: str | Path,
    data: str | Path,
    *,
    objective: str | None = None,
    trainable: str = "lora",
    steps: int | None = None,
    lr: float | None = None,
    length: int | None = None,
    name: str = "tuned",
    bad_rows: BadRows = "stop",
    settings: Mapping[str, Any] | None = None,
    use: Sequence[Path | str] = (),
    to: Path | str | None = None,
    say: Say | None = None,
) -> list[dict[str, Any]]:
    """Tune a model on data with settings that are chosen by size and told to `say` with their reasons.

    data: a file of chats, completions or preference pairs, or shipped data. objective: by the data where
    absent. name: what the result is called. bad_rows: as of a `data` step. The others as of `run`; so is
    what comes back.
    """
    made = plan(
        model, data, objective=objective, trainable=trainable, steps=steps, lr=lr, length=length,
        name=name, bad_rows=bad_rows, settings=settings, use=use,
    )  # fmt: skip
    for choice in made.choices:
        if say is not None:
            say(f"chosen  {choice}")
    command = f"turnsmith.tune({str(model)!r}, {str(data)!r})"
    return run(made.recipe, name=made.name, use=use, to=to, say=say, command=command)


def evaluate(
    *models: str | Path,
    against: str | Path | None = None,
    suite: Sequence[str | Mapping[str, Any]] = (),
    data: str | Path | None = None,
    max_failed: float = 0.05,
    use: Sequence[Path | str] = (),
    to: Path | str | None = None,
    say: Say | None = None,
) -> list[dict[str, Any]]:
    """Measure models, each compared item by item with another one where `against` names it, as `turnsmith
    evaluate` does.

    suite: tasks as a recipe spells them, all general ones where absent, of a model that only answers those
    that need no more than replies. data: conversations for the tasks that measure on such, e.g. held-out loss
    and replies. max_failed: share of a task's items that a model may fail to answer. The others as of `run`;
    so is what comes back.
    """
    plain, name = comparison(models, against=against, suite=suite, data=data, max_failed=max_failed, use=use)
    spoken = [*(repr(str(model)) for model in models), *([f"against={str(against)!r}"] if against else [])]
    command = f"turnsmith.evaluate({', '.join(spoken)})"
    return run(plain, name=name, use=use, to=to, say=say, command=command)


def comparison(
    models: Sequence[str | Path],
    *,
    against: str | Path | None = None,
    suite: Sequence[str | Mapping[str, Any]] = (),
    data: str | Path | None = None,
    max_failed: float = 0.05,
    use: Sequence[Path | str] = (),
) -> tuple[dict[str, Any], str]:
    """The recipe that measures models, against another one where there is one, and its name.

    Raises UsageError where a task needs data, or a model to compare with, that was not given.
    """
    if not models:
        raise UsageError("no model to measure: name at least one")
    if against is not None and str(against) in map(str, models):
        raise UsageError(f"{against} would be compared with itself: leave it out of the models")
    known = components(use)
    tasks = [*(["heldout", "replies"] if data else []), *schema.FORGETTING]
    if any(only_answers(str(one)) for one in (*models, against)):
        tasks = asking.replies_only(tasks, known)
    if against is None:
        tasks = [name for name in tasks if not known.entry("task", name).names("needs")]
    named = [_measuring(one, known, data=data, against=against) for one in suite or tasks]
    steps: list[dict[str, Any]] = []
    if data:
        steps.append({"data": {"name": "data", "read": references.absolute(data)}})
    for model in models:
        beside: dict[str, Any] = {"max_failed": max_failed}
        beside |= {} if against is not None else {"against": None}
        steps.append({"evaluate": {"model": references.model(model), **beside, "suite": named}})
    said = ", ".join(map(str, models))
    title = f"{said} against {against}" if against is not None else said
    name = "-".join(["evaluate", *(_short(str(model)) for model in models)])
    base = str(models[0] if against is None else against)
    return {"title": title, "base": base, "steps": steps}, name[:100]


def _measuring(
    given: str | Mapping[str, Any],
    known: Registry,
    *,
    data: str | Path | None,
    against: str | Path | None,
) -> str | Mapping[str, Any]:
    """A task as the recipe names it, with the data put in and its files by whole paths."""
    if not isinstance(given, str) and len(given) != 1:
        return given  # what is wrong with it the recipe says
    name, options = (given, None) if isinstance(given, str) else next(iter(given.items()))
    entry = known.entry("task", str(name))
    filled: dict[str, Any] = dict(options) if is_object(options) else {}
    if options is not None and not is_object(options):
        return given
    if against is None and entry.names("needs"):
        raise UsageError(f"the task {name!r} compares with the start model: name one with --against")
    if entry.traits.get("data") and data is None:
        raise UsageError(f"the task {name!r} measures on conversations: give them with --data")
    if entry.traits.get("data"):
        filled["on"] = "data"
    for option in entry.names("files"):
        if isinstance(filled.get(option), str):
            filled[option] = references.absolute(filled[option])
    return {str(name): filled} if filled else str(name)


def _short(model: str) -> str:
    """A name for files."""
    if is_endpoint(model):
        return re.sub(r"[^\w.-]+", "-", endpoint(model).model)
    return Path(model.removeprefix(LLAMACPP)).name


def export(
    model: str | Path,
    out: str | Path,
    *,
    form: Form = "safetensors",
    dtype: Dtype | None = None,
    quantise: Quantisation | None = None,
) -> Exported:
    """Write a model for other tools into a new or empty directory, and read it back to prove it.

    form: safetensors, adapter, gguf, ollama or vllm. dtype, quantise: of the weights, each for the forms that
    it belongs to. Of a run's model a line beside its run.json says where it went.
    """
    from turnsmith.data.render import Renderer
    from turnsmith.models.export import export
    from turnsmith.recipes import deployed

    done = export(str(model), out, form=form, renderer=Renderer, dtype=dtype, quantise=quantise)
    deployed.note(str(model), form, Path(out).absolute())
    return done
