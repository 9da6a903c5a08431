"""What mkdocs asks while it builds the site: the navigation, from the pages that are there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from turnsmith.registry import KINDS

PAGES = ("index", "architecture", "performance", "reliability", "contributing", "changes")
# In this order; others follow by name.
GUIDES = ("first-hour", "your-data", "masks", "your-method", "comparing", "from-python")


def on_config(config: Any) -> Any:
    """The navigation. A guide or a page of the reference appears in it by being there."""
    root = Path(str(config["docs_dir"]))
    reference = root / "reference"
    kinds = [folder.name for folder in reference.iterdir() if folder.is_dir()]
    kinds = _ordered([kind for kind in kinds if kind not in ("recipe", "command")], KINDS)
    config["nav"] = [
        {"Turnsmith": [f"{name}.md" for name in PAGES]},
        {"Guides": [f"guides/{name}.md" for name in _ordered(_names(root / "guides"), GUIDES)]},
        {"Recipes": _pages(reference, "recipe")},
        {"Components": ["reference/index.md", *({f"{kind}s": _pages(reference, kind)} for kind in kinds)]},
        {"Commands": _pages(reference, "command")},
        {"Papers": "reference/papers.md"},
        {"Templates": "reference/templates.md"},
        {"Results": "results.md"},
    ]
    return config


def _names(folder: Path) -> list[str]:
    return sorted(file.stem for file in folder.glob("*.md"))


def _pages(reference: Path, folder: str) -> list[str]:
    return [f"reference/{folder}/{name}.md" for name in _names(reference / folder)]


def _ordered(names: list[str], first: tuple[str, ...]) -> list[str]:
    return [name for name in first if name in names] + sorted(name for name in names if name not in first)
