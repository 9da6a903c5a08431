"""LLaMA-Factory's `dataset_info.json`: an index of data sets, each a file with the names of its columns.

A data set of it is referred to as `dataset_info.json#NAME`, or as `FOLDER#NAME`. Its rows come out with the
columns that our formats know, so that the format is guessed as for any other file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from turnsmith.data.cells import unpacked
from turnsmith.errors import DataError, UsageError
from turnsmith.registry import suggest
from turnsmith.types import is_list, is_object

FILE = "dataset_info.json"
MARK = "#"
ALPACA = {
    "prompt": "instruction",
    "query": "input",
    "response": "output",
}  # its names, and those of our formats
SAME = ("history", "system", "tools", "chosen", "rejected", "kto_tag")
OPTIONAL = ("input", "history", "system", "tools")
OURS = (*ALPACA.values(), *SAME, "conversations", "messages")
UNSEEN = ("images", "videos", "audios")
ROLES = {"user": "human", "assistant": "gpt", "observation": "observation", "function": "function_call"}
ROLES |= {"system": "system"}
TAGS = {"role_tag": "from", "content_tag": "value", **{f"{role}_tag": name for role, name in ROLES.items()}}
HUBS = ("hf_hub_url", "ms_hub_url", "om_hub_url", "script_url", "cloud_file_name")
OF_HUBS = ("subset", "split", "folder", "load_from")
KEYS = ("file_name", "formatting", "ranking", "columns", "tags", "num_samples", *HUBS, *OF_HUBS)
FORMATTING = ("alpaca", "sharegpt", "openai")


@dataclass(frozen=True, slots=True)
class Entry:
    """A data set of an index. file: where its rows are. columns: what each column of them is called by our
    formats. tags: names in turns, and what ShareGPT calls them. said: all that the index says of it."""

    file: Path
    columns: Mapping[str, str]
    tags: Mapping[str, str]
    said: Mapping[str, Any]

    def row(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The row under the names of our formats. A column of such a name that the index does not speak of
        gets an underscore, so that it is kept and not taken for what it is not."""
        for name, ours in self.columns.items():
            if name not in row and "columns" in self.said and ours not in OPTIONAL:
                raise DataError(f"{FILE} names the column {name!r}, and the row has {', '.join(row)}")
        found = {self.columns[name]: one for name, one in row.items() if name in self.columns}
        for name, one in row.items():
            if name not in self.columns:
                found[f"{name}_" if name in OURS else name] = one
        for name in ("conversations", "messages", "chosen", "rejected"):
            if self.tags and name in found:
                found[name] = self._turns(unpacked(found[name]))
        return found

    def _turns(self, value: Any) -> Any:
        if is_list(value):
            return [self._turns(one) for one in value]
        if not is_object(value):
            return value
        turn = {self.tags.get(str(key), key): one for key, one in value.items()}
        role = turn.get("from", turn.get("role"))
        key = "from" if "from" in turn else "role"
        return turn if role is None else {**turn, key: self.tags.get(f"={role}", role)}


def located(reference: str, near: Path | None) -> Path | None:
    """`FILE#NAME` of a reference to a data set of an index; None where it is none.

    Raises UsageError, listing the names, where it says no name or one that is not there.
    """
    place, mark, name = reference.partition(MARK)
    for path in (Path(place).expanduser(), *([near / place] if near else [])):
        index = path / FILE if path.is_dir() else path
        if index.is_file() and (index.name == FILE or mark):
            entry(Path(f"{index}{MARK}{name}"))
            return Path(f"{index}{MARK}{name}")
    return None


def entry(path: Path) -> Entry | None:
    """The data set that a path made by `located` means; None for any other path.

    Raises UsageError naming what in the index cannot be meant.
    """
    index, mark, name = str(path).partition(MARK)
    if not mark or not Path(index).is_file():
        return None
    sets = _read(Path(index))
    if not name:
        names = ", ".join(sets)
        raise UsageError(
            f"{index} is an index of {len(sets)} data sets: write {index}{MARK}NAME, with a NAME of {names}"
        )
    if name not in sets:
        raise UsageError(f"{index} has no data set {name!r}{suggest(name, list(sets))}")
    return _entry(sets[name], f"{index}, {name!r}", Path(index).parent)


def _read(index: Path) -> dict[str, Any]:
    try:
        found: Any = json.loads(index.read_text("utf-8-sig"))
    except ValueError as error:
        raise DataError(f"{index}: no JSON ({error})") from None
    if not is_object(found) or not all(is_object(one) for one in found.values()):
        raise DataError(f"{index}: an index must be an object with an object for each data set")
    return found


def _entry(said: Mapping[str, Any], where: str, folder: Path) -> Entry:
    for key in said:
        if key not in KEYS:
            raise UsageError(f"{where}: unknown key {key!r}{suggest(str(key), list(KEYS))}")
    hubs = [key for key in HUBS if key in said]
    if "file_name" not in said:
        raise UsageError(f"{where} lies elsewhere ({', '.join(hubs)}): fetch it and give it a file_name")
    file = folder / str(said["file_name"])
    if not file.exists():
        raise UsageError(f"{where}: there is no file {file}")
    if said.get("num_samples"):
        raise UsageError(
            f"{where}: num_samples is not read; leave it out, and use the stage head in a recipe"
        )
    formatting = said.get("formatting", "alpaca")
    if formatting not in FORMATTING:
        raise UsageError(f"{where}: formatting must be one of {', '.join(FORMATTING)}, not {formatting!r}")
    columns, tags = said.get("columns") or {}, said.get("tags") or {}
    if not is_object(columns) or not is_object(tags):
        raise UsageError(f"{where}: columns and tags must be objects")
    return Entry(file, _columns(columns, formatting, where), _tags(tags, formatting, where), said)


def _columns(given: Mapping[str, Any], formatting: str, where: str) -> dict[str, str]:
    """Column of the file -> column of our formats."""
    turns = "messages" if formatting == "openai" else "conversations"
    ours = {**ALPACA, "messages": turns, **{name: name for name in SAME}}
    for key in given:
        if key in UNSEEN:
            raise UsageError(f"{where} has {key}: a model of text would learn answers to what it cannot see")
        if key not in ours:
            raise UsageError(f"{where}: unknown column {key!r}{suggest(str(key), list(ours))}")
    if not given:  # the usual names
        return {ours[key]: ours[key] for key in (*ALPACA, "messages")}
    if set(given) == {"prompt"} and formatting == "alpaca":
        return {str(given["prompt"]): "text"}  # for pretraining
    return {str(name): ours[key] for key, name in given.items()}


def _tags(given: Mapping[str, Any], formatting: str, where: str) -> dict[str, str]:
    """Name in a turn -> ShareGPT's or OpenAI's; the values of roles stand behind an equals sign."""
    for key in given:
        if key not in TAGS:
            raise UsageError(f"{where}: unknown tag {key!r}{suggest(str(key), list(TAGS))}")
    openai = {"role_tag": "role", "content_tag": "content", **{f"{role}_tag": role for role in ROLES}}
    ours = (
        {**openai, "observation_tag": "tool", "function_tag": "assistant"} if formatting == "openai" else TAGS
    )
    roles = {f"={name}": ours[key] for key, name in given.items() if key not in ("role_tag", "content_tag")}
    return {**{str(given[key]): ours[key] for key in ("role_tag", "content_tag") if key in given}, **roles}
