"""YAML as people mean it: `on` and `no` are words, 1e-4 is a number (YAML 1.2's core schema, on PyYAML).

Texts may come from others, so that what they become is bounded: a few lines of aliases may stand for more
values than fit into memory.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

BOOL = re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$")
FLOAT = re.compile(
    r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$|^[-+]?\.(?:inf|Inf|INF)$|^\.(?:nan|NaN|NAN)$"
)
INT = re.compile(r"^[-+]?[0-9]+$")
CHARACTERS = 2**20
DEPTH = 64  # values within values
VALUES = 100_000  # every alias counted as all that it stands for


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader without the resolvers of YAML 1.1 for booleans, numbers, days and defaults."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.depth = 0
        self.sizes: dict[int, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.depth >= DEPTH:
            raise yaml.YAMLError(f"values stand in values more than {DEPTH} deep")
        again = self.check_event(yaml.AliasEvent)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        if again and id(node) not in self.sizes:
            raise yaml.YAMLError("a value holds itself")
        if node is not None and not again:
            self.sizes[id(node)] = size = 1 + sum(self.sizes[id(one)] for one in _inner(node))
            if size > VALUES:
                raise yaml.YAMLError(f"more than {VALUES:,} values, aliases counted as what they stand for")
        return node


def _inner(node: yaml.Node) -> list[yaml.Node]:
    """The values that a value is made of."""
    found: Any = [] if isinstance(node, yaml.ScalarNode) else node.value
    return [one for pair in found for one in pair] if isinstance(node, yaml.MappingNode) else found


_OLD = {f"tag:yaml.org,2002:{name}" for name in ("bool", "float", "int", "timestamp", "value")}
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _OLD]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_loader: Any = _Loader  # the stubs leave the parameters of add_implicit_resolver without types
_loader.add_implicit_resolver("tag:yaml.org,2002:bool", BOOL, list("tTfF"))
_loader.add_implicit_resolver("tag:yaml.org,2002:int", INT, list("-+0123456789"))
_loader.add_implicit_resolver("tag:yaml.org,2002:float", FLOAT, list("-+0123456789."))


def load(text: str) -> Any:
    """The plain value of a YAML text. Raises yaml.YAMLError, also where it is larger than is sensible.

    >>> load("{on: no, lr: 1e-4, n: 10}")
    {'on': 'no', 'lr': 0.0001, 'n': 10}
    """
    if len(text) > CHARACTERS:
        raise yaml.YAMLError(f"{len(text):,} characters, and at most {CHARACTERS:,} are read")
    try:
        return yaml.load(text, _Loader)  # a safe loader
    except (ValueError, TypeError, AttributeError, KeyError, IndexError) as error:  # `!!int x`, and the like
        raise yaml.YAMLError(str(error)) from None


def dump(value: Any) -> str:
    """YAML text of a plain value, keys in their order."""
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
