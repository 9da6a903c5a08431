"""What the command line does, as functions; the commands themselves go through the same doors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from turnsmith.data.quarantine import BadRows
from turnsmith.recipes import components, references, schema
from turnsmith.recipes.run import Runner, Say
from turnsmith.recipes.tuning import plan

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
    model: str | Path,
    *,
    against: str | Path,
    suite: Sequence[str | Mapping[str, Any]] = (),
    data: str | Path | None = None,
    use: Sequence[Path | str] = (),
    to: Path | str | None = None,
    say: Say | None = None,
) -> list[dict[str, Any]]:
    """Compare a model with another one item by item, as `turnsmith evaluate` does.

    suite: tasks, all general ones where absent. data: conversations for held-out loss and replies. The
    others as of `run`; so is what comes back.
    """
    plain, name = comparison(model, against=against, suite=suite, data=data)
    command = f"turnsmith.evaluate({str(model)!r}, against={str(against)!r})"
    return run(plain, name=name, use=use, to=to, say=say, command=command)


def comparison(
    model: str | Path,
    *,
    against: str | Path,
    suite: Sequence[str | Mapping[str, Any]] = (),
    data: str | Path | None = None,
) -> tuple[dict[str, Any], str]:
    """The recipe that measures one model against another, and its name."""
    with_data = ["heldout", "replies"] if data else []
    tasks = list(suite) or [*with_data, *schema.FORGETTING]
    steps: list[dict[str, Any]] = []
    if data:
        steps.append({"data": {"name": "data", "read": references.absolute(data)}})
    named = [{task: {"on": "data"}} if task in ("heldout", "replies") else task for task in tasks]
    steps.append({"evaluate": {"model": str(model), "suite": named}})
    plain = {"title": f"{model} against {against}", "base": str(against), "steps": steps}
    return plain, f"evaluate-{Path(model).name}"


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
    it belongs to.
    """
    from turnsmith.data.render import Renderer
    from turnsmith.models.export import export

    return export(str(model), out, form=form, renderer=Renderer, dtype=dtype, quantise=quantise)
