"""Writes what holds for each real chat template into tests/data/templates.json.

The templates come out of the wheel of trl, a development dependency; each is given SmolLM2's tokenizer, to
which the special tokens that it writes were added.
"""

from __future__ import annotations

import copy
import importlib.util
import json
import re
from pathlib import Path
from typing import Any

from turnsmith.models import load
from turnsmith.testing import properties

TABLE = Path(__file__).parents[1] / "tests" / "data" / "templates.json"
MARK = re.compile(
    r"<\|[a-zA-Z0-9_/]+\|?>|<[a-z_]+\|>|<\uff5c[^\uff5c<>]+\uff5c>"
    r"|<(?:start|end)_of_(?:turn|image)>|<end_of_utterance>|</?s>|\[gMASK\]|<sop>"
)


def templates() -> dict[str, str]:
    """Name -> text of every template in the wheel."""
    found = importlib.util.find_spec("trl")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("trl is not installed: pip install -e '.[dev]'")
    folder = Path(found.submodule_search_locations[0]) / "chat_templates"
    return {file.stem: file.read_text("utf-8") for file in sorted(folder.glob("*.jinja"))}


def speaking(words: Any, template: str) -> Any:
    """A copy of a tokenizer with this template and its markers."""
    made = copy.deepcopy(words)
    made.bos_token = made.bos_token or made.eos_token
    made.add_special_tokens({"additional_special_tokens": sorted(set(MARK.findall(template)))})
    made.chat_template = template
    return made


def table(words: Any, *, count: int = 40) -> dict[str, dict[str, str]]:
    """Template -> property -> outcome, over `count` conversations of each sort."""
    return {name: properties(speaking(words, text), count=count) for name, text in templates().items()}


if __name__ == "__main__":
    made = table(load.tokenizer("smollm2-135m-instruct"))
    TABLE.write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n", "utf-8")
