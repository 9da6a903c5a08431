"""How a model's conversations were rendered when it was tuned, kept beside it and compared when it is
used."""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import Protocol

from turnsmith.errors import ModelError
from turnsmith.models.directory import read_object
from turnsmith.models.locate import locate

FILE = "renderer.json"
SHOWN = 12  # lines of a difference


class Rendering(Protocol):
    """What is known of a renderer. fingerprint: of the template, its stop tokens, and the ids of a fixed
    conversation. template: the text of the template."""

    @property
    def fingerprint(self) -> str: ...

    @property
    def template(self) -> str: ...


def write(directory: Path, renderer: Rendering) -> None:
    """Keep with a model how its conversations are rendered."""
    known = {"fingerprint": renderer.fingerprint, "template": renderer.template}
    (directory / FILE).write_text(json.dumps(known, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def check(reference: str, renderer: Rendering) -> None:
    """Raises ModelError, showing both sides, where a model was tuned with another rendering than this one.

    A model that was never tuned here has nothing to compare.
    """
    place = locate(reference)
    file = place / FILE
    if not place.is_dir() or not file.is_file():
        return
    known = read_object(file)
    if known.get("fingerprint") == renderer.fingerprint:
        return
    before, now = str(known.get("template", "")), renderer.template
    lines = list(
        difflib.unified_diff(before.splitlines(), now.splitlines(), "when tuned", "now", lineterm="", n=0)
    )
    shown = (
        "\n".join(lines[:SHOWN])
        or "the template is the same: its tokenizer or version of transformers is not"
    )
    raise ModelError(
        f"{reference} was tuned on conversations rendered as {known.get('fingerprint')}, and its tokenizer "
        f"now renders them as {renderer.fingerprint}: it would be asked in a form that it was never taught. "
        f"Bring the tokenizer files back, or, if the change is meant, remove {file}.\n{shown}"
    )
