"""Examples of a training as the model read them, one page at a time, with the weight of each token."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from turnsmith.errors import StorageError
from turnsmith.report import left
from turnsmith.report.words import finite
from turnsmith.types import is_object

if TYPE_CHECKING:
    from turnsmith.data.archive import Archive
    from turnsmith.data.prepare import Terms
    from turnsmith.data.render import Renderer
    from turnsmith.types import Example, Tokens, Value

SEQUENCES = 8  # of one part of an example that are shown; how many more there are is said
TOKENS = 4096  # of one sequence


class Browsing:
    """Reads examples on the shelf as the trainings of runs read them."""

    def __init__(self, shelf: Path) -> None:
        self.shelf = shelf

    def __call__(self, run: Mapping[str, Any], step: str, *, start: int, count: int) -> dict[str, Any]:
        """`count` examples of the data that the step was given, from number `start` on, counted from 0.

        run: what its run.json holds. Gives `total`, `whole`, and `examples`: id, number, values, `sequences`
        with texts and weights of their tokens, and what was `left` out of it and why. Where the run does not
        say what it read, or drew it itself, these are the few that it kept for its report, and `whole` is
        false. Raises StorageError where data or model are not on the shelf any more.
        """
        made = [one for one in left.steps(run, "train") if one.get("name") == step][-1]
        reads = made.get("reads")
        if not is_object(reads):
            return {**_kept(made, start, count), "step": step, "view": made.get("view")}
        found = self._archive(made, str(reads["data"]))
        place = self._place(str(made.get("artefact")), "the model") / "model"
        terms = _terms(reads, made["fit"])
        last = min(len(found), start + count)
        rows = [
            {"number": number, **_shown(example, _renderer(place), terms)}
            for number, example in zip(range(start, last), found.between(start, last), strict=True)
        ]
        about = {"step": step, "data": reads["data"], "view": made.get("view"), "parts": list(terms.parts)}
        return {**about, "total": len(found), "whole": True, "examples": rows}

    def _archive(self, step: Mapping[str, Any], name: str) -> Archive:
        from turnsmith.data.archive import Archive

        held: Sequence[Mapping[str, str]] = step["given"]["data"][name]
        return Archive([self._place(one["key"], f"the data {name}") / f"{one['file']}.jsonl" for one in held])

    def _place(self, key: str, what: str) -> Path:
        if place := left.artefact(self.shelf, {"artefact": key}):
            return place
        raise StorageError(f"{what} of this run, {key:.40}, is not on the shelf any more: run it again")


def _terms(reads: Mapping[str, Any], fit: Mapping[str, Any]) -> Terms:
    from turnsmith.data.prepare import Terms

    return Terms(parts=tuple(reads["parts"]), length=fit["length"], over=fit["over"], train=reads["train_on"])


@lru_cache(maxsize=8)
def _renderer(place: Path) -> Renderer:
    """The renderer of a model that a run made, which its tokenizer and template are kept with."""
    from turnsmith.recipes.rendering import renderer_of

    return renderer_of(str(place))


def _shown(example: Example, renderer: Renderer, terms: Terms) -> dict[str, Any]:
    """An example as it is trained on. left: what was cut of it, or why all of it was dropped."""
    from turnsmith.data.prepare import rendered

    counts: Counter[str] = Counter()
    made = next(iter(rendered([example], renderer, terms, counts)), None)
    sequences = [
        {"part": part, "number": number, "of": len(ones), **_tokens(one, renderer)}
        for part, ones in (made.parts.items() if made else ())
        for number, one in enumerate(ones[:SEQUENCES], start=1)
    ]
    values = {name: _finite(value) for name, value in example.values.items()}
    return {"id": example.id, "values": values, "left": list(counts), "sequences": sequences}


def _finite(value: Value) -> float | list[float | None] | None:
    """What JSON can hold of a value."""
    return [finite(one) for one in value] if isinstance(value, tuple) else finite(value)


def _tokens(one: Tokens, renderer: Renderer) -> dict[str, Any]:
    """Texts and weights of the first TOKENS. length: of all; trained: how many of these weigh anything."""
    texts = renderer.texts(one.inputs[:TOKENS].tolist())
    weights = [round(float(weight), 6) for weight in one.weights]
    return {
        "texts": texts,
        "weights": weights[: len(texts)],
        "length": len(weights),
        "trained": sum(weight != 0 for weight in weights),
    }


def _kept(step: Mapping[str, Any], start: int, count: int) -> dict[str, Any]:
    """The examples that a run kept for its report."""
    every: Sequence[Mapping[str, Any]] = step.get("shown") or ()
    rows: list[dict[str, Any]] = []
    for number, one in list(enumerate(every))[start : start + count]:
        tokens = one.get("tokens") or ()
        weights = [token["weight"] for token in tokens]
        sequence = {
            "part": "",
            "number": 1,
            "of": 1,
            "texts": [token["text"] for token in tokens],
            "weights": weights,
            "length": len(weights),
            "trained": sum(weight != 0 for weight in weights),
        }
        rows.append({"number": number, "id": one["id"], "values": {}, "left": [], "sequences": [sequence]})
    return {"data": None, "parts": [], "total": len(every), "whole": False, "examples": rows}
