"""The model card: what a model is, where it comes from, what was measured, and how it is used."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from turnsmith import wheels
from turnsmith.errors import ModelError

LICENCES = {"Apache-2.0": "apache-2.0", "MIT": "mit"}  # as the hub spells them


@dataclass(frozen=True, slots=True)
class History:
    """The run that made a model: what run.json holds, and the step that trained it."""

    run: Mapping[str, Any]
    step: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Card:
    """What differs between the forms of one model.

    library: as the hub calls it. relation: to the base (finetune, adapter, quantized); None where it is the
    base itself. proof: what was found when it was read back, in sentences. use: Markdown.
    """

    title: str
    library: str
    relation: str | None
    proof: Sequence[str]
    use: str


def history(reference: str) -> History | None:
    """The run that the reference leads to; None where it does not name a run's model.

    reference: `runs/NAME/MODEL` as a run leaves it, a link with run.json beside it. The run counts if its
    step of that name made what the link leads to: a link that somebody set elsewhere has no history.
    Raises ModelError if run.json is broken.
    """
    link = Path(reference).expanduser()
    file = link.parent / "run.json"
    if not link.is_symlink() or not file.is_file():
        return None
    try:
        run = json.loads(file.read_text(encoding="utf-8"))
        made = [step for step in run["steps"] if step["verb"] == "train" and step["name"] == link.name]
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{file} is broken ({error}): run the recipe again, or export {link.resolve()}"
        ) from error
    artefact = link.resolve().parent.name
    step = next((step for step in reversed(made) if step["artefact"] == artefact), None)
    return History(run, step) if step is not None else None


def write(card: Card, target: Path, *, base: str, known: History | None) -> None:
    """Writes README.md. base: the reference of the model that was tuned, or of this one if it was not."""
    parts = [
        _front(card, base, known),
        f"# {card.title}\n",
        _about(base, known),
        "## What was checked when it was written\n",
        "".join(f"- {sentence}\n" for sentence in card.proof),
        "## Use\n",
        card.use,
        "## Data\n",
        _data(known),
        "## Figures\n",
        _figures(known),
        "## Recipe\n",
        _recipe(known),
    ]
    target.joinpath("README.md").write_text("\n".join(parts), encoding="utf-8")


def origin(base: str) -> str:
    """The base as the hub names it, as far as that is known; never a path of this machine."""
    shipped = wheels.shipped(base)
    if shipped and (named := re.search(r"from ([\w.-]+/[\w.-]+)$", shipped.source)):
        return named[1]
    path = Path(base).expanduser()
    return path.name if path.is_absolute() or path.exists() else base


def licence(base: str, known: History | None) -> str | None:
    """The base's licence, where it comes with Turnsmith."""
    shipped = wheels.shipped(base)
    return shipped.licence if shipped else (known.run["base"].get("licence") if known else None)


def _front(card: Card, base: str, known: History | None) -> str:
    """The YAML that the hub reads."""
    held = licence(base, known)
    found: dict[str, Any] = {"base_model": origin(base)}
    if card.relation is not None:
        found["base_model_relation"] = card.relation
    if held is not None:
        found["license"] = LICENCES.get(held, "other")
        if found["license"] == "other":
            found["license_name"] = held
    found |= {"library_name": card.library, "pipeline_tag": "text-generation"}
    found["tags"] = ["turnsmith", "conversational"]
    if known:
        found["tags"] += [known.step["objective"], known.step["trainable"]]
        found["datasets"] = [_named(step["read"]) for step in _data_steps(known)]
    return f"---\n{yaml.safe_dump(found, sort_keys=False, allow_unicode=True)}---\n"


def _about(base: str, known: History | None) -> str:
    shipped = wheels.shipped(base)
    source = f" ({shipped.source})" if shipped else ""
    held = licence(base, known) or "not known to Turnsmith; look at where it came from"
    lines = [f"- Base: `{origin(base)}`{source}", f"- Licence of the base: {held}"]
    if known is None:
        return "\n".join(["Written by Turnsmith. Which run made it is not known.", "", *lines, ""])
    step, run = known.step, known.run
    lines += [
        f"- Fingerprint of the base: `{run['base'].get('fingerprint', 'unknown')}`",
        f"- Trained: {step['trainable']}, objective {step['objective']}, {step['steps']} steps",
        f"- Tokens: {step['tokens']:,}, of which {step['supervised']:,} carried the loss",
        f"- Seed {run['seed']}; turnsmith {run['version']}; finished {run['finished']}",
    ]
    if run["tiny"]:
        lines.append("- **A tiny run, made to see that everything works: not for use.**")
    title = run.get("title") or run["recipe"]
    return "\n".join([f"{title} (recipe `{run['recipe']}`, made with Turnsmith).", "", *lines, ""])


def _data_steps(known: History) -> list[Mapping[str, Any]]:
    return [step for step in known.run["steps"] if step["verb"] == "data" and "sha256" in step]


def _data(known: History | None) -> str:
    if known is None:
        return "Unknown: see above.\n"
    lines = ["| data | sha256 | licence | examples |", "|---|---|---|---|"]
    for step in _data_steps(known):
        held = step.get("licence", "not known to Turnsmith")
        sizes = ", ".join(f"{count:,} {name}" for name, count in step["sizes"].items())
        lines.append(f"| {_named(step['read'])} | `{step['sha256']}` | {held} | {sizes} |")
    return "\n".join([*lines, ""])


def _figures(known: History | None) -> str:
    """Every figure that the run measured on this model, with its interval."""
    steps = known.run["steps"] if known else []
    name = known.step["name"] if known else ""
    measured = [step for step in steps if step["verb"] == "evaluate" and step["model"] == name]
    if not measured:
        return "Unknown: no run has measured this model, or the export was not given its place in the run.\n"
    lines = ["| figure | before | after | change | interval | n | verdict |", "|---|---|---|---|---|---|---|"]
    for step in measured:
        for task in step["tasks"]:
            lines += [_figure(task["task"], metric) for metric in task["metrics"]]
    before = [step["against"] for step in measured if step["against"] is not None]
    note = "Measured before this export, on the weights as they were trained."
    note = f"Before is `{before[0]}`. {note}" if before else note
    return "\n".join([*lines, "", note, ""])


def _figure(task: str, metric: Mapping[str, Any]) -> str:
    interval = f"{metric['low']:+.3f} to {metric['high']:+.3f} ({metric['level']:.0%})"
    alone = metric["difference"] is None
    before, change = ("", "") if alone else (f"{metric['before']:.3f}", f"{metric['difference']:+.3f}")
    return (
        f"| {task}: {metric['name']}, {metric['unit']} | {before} | {metric['after']:.3f} | {change} | "
        f"{interval} | {metric['n']} {metric['of']} | {metric['verdict'] or ''} |"
    )


def _recipe(known: History | None) -> str:
    if known is None:
        return "Unknown: see above.\n"
    resolved = _without_paths(known.run["resolved"])
    return (
        f"Made by `{_without_paths(known.run['command'])}`. With every default:\n\n```yaml\n{resolved}```\n"
    )


def _named(reference: str) -> str:
    """A data reference without the directories of this machine."""
    path = Path(reference).expanduser()
    return path.name if path.is_absolute() else reference


def _without_paths(text: str) -> str:
    """The text with absolute paths cut to their last name: a card goes to others."""
    return re.sub(r"(?<![\w.:/])~?/(?:[^\s/'\"]+/)+([^\s/'\"]+)", r"\1", text)
