"""Running a recipe from Python; the command line goes through the same door."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from turnsmith.recipes import components, schema
from turnsmith.recipes.run import Runner, Say


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
    after: Callable[[dict[str, Any], Path], None] | None = None,
) -> list[dict[str, Any]]:
    """Carry out every arm of a recipe; gives what each arm's run.json holds.

    recipe: a file, the name of one that comes with Turnsmith, or its content, which is then called `name`.
    settings: changes by path, e.g. {"steps.1.train.fit.lr": 1e-4}. use: files with components of your own.
    to: where reports go; runs/NAME where absent. command: what the report says to type again. say: is given
    each line of progress; silent where absent. after: is given each arm's result and directory.
    """
    near = None
    if not isinstance(recipe, Mapping):
        file = schema.find(str(recipe))
        recipe, name, near = schema.parse(file.read_text("utf-8"), file.name), file.stem, file.parent
    plain = schema.unshared(recipe)
    for path, value in (settings or {}).items():
        schema.assign(plain, path, value)
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
