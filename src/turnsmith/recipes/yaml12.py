"""YAML as people mean it: `on` and `no` are words, 1e-4 is a number (YAML 1.2's core schema, on PyYAML)."""

from __future__ import annotations

import re
from typing import Any

import yaml

BOOL = re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$")
FLOAT = re.compile(
    r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$|^[-+]?\.(?:inf|Inf|INF)$|^\.(?:nan|NaN|NAN)$"
)
INT = re.compile(r"^[-+]?[0-9]+$")


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader without the resolvers of YAML 1.1 for booleans and numbers."""


_OLD = {"tag:yaml.org,2002:bool", "tag:yaml.org,2002:float", "tag:yaml.org,2002:int"}
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _OLD]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_loader: Any = _Loader  # the stubs leave the parameters of add_implicit_resolver without types
_loader.add_implicit_resolver("tag:yaml.org,2002:bool", BOOL, list("tTfF"))
_loader.add_implicit_resolver("tag:yaml.org,2002:int", INT, list("-+0123456789"))
_loader.add_implicit_resolver("tag:yaml.org,2002:float", FLOAT, list("-+0123456789."))


def load(text: str) -> Any:
    """The plain value of a YAML text. Raises yaml.YAMLError.

    >>> load("{on: no, lr: 1e-4, n: 10}")
    {'on': 'no', 'lr': 0.0001, 'n': 10}
    """
    return yaml.load(text, _Loader)  # a safe loader


def dump(value: Any) -> str:
    """YAML text of a plain value, keys in their order."""
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
