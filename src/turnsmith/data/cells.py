"""What a cell of a table may hold in place of JSON's own types: lists, flags and numbers written as text."""

from __future__ import annotations

import json
import math
from typing import Any

from turnsmith.errors import DataError


def unpacked(value: Any) -> Any:
    """A list or an object that was written into a cell as JSON text; anything else as it is."""
    if isinstance(value, str) and value.lstrip().startswith(("[", "{")):
        try:
            return json.loads(value)
        except ValueError:
            pass
    return value


def flag(value: Any, where: str) -> bool:
    """A yes or no: true, 1, or its text. Raises DataError for anything else."""
    said = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}
    found = said.get(str(value).strip().lower())
    if found is None:
        raise DataError(f"{where} must be true or false, not {value!r:.60}")
    return found


def number(value: Any, where: str) -> float:
    """A finite number, or its text. Raises DataError for anything else."""
    try:
        found = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        found = math.nan
    if not math.isfinite(found):
        raise DataError(f"{where} must be a number, not {value!r:.60}")
    return found
