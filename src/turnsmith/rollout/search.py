"""Tree search over the ways in which an answer may go on, fragment by fragment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import log, sqrt


@dataclass(eq=False, slots=True)
class Node:
    """An answer as far as it goes. ids: its tokens, the stop token among them where it has ended (`done`).
    said: its last fragment. prior: how likely that was to the model for each of its tokens. worth: what it
    seemed worth at first sight, and all rewards since; visits: how many these were."""

    ids: tuple[int, ...] = ()
    text: str = ""
    said: str = ""
    prior: float = 1.0
    worth: float = 0.0
    done: bool = False
    parent: Node | None = None
    visits: int = 0
    children: list[Node] = field(default_factory=list["Node"])

    @property
    def value(self) -> float:
        """The mean of the first sight and the rewards."""
        return self.worth / (self.visits + 1)

    @property
    def depth(self) -> int:
        return 0 if self.parent is None else self.parent.depth + 1

    def child(self, made: Node) -> Node:
        """The child with the tokens of `made`, which it becomes where there is none."""
        for one in self.children:
            if one.ids == made.ids:
                return one
        made.parent = self
        self.children.append(made)
        return made


def selected(root: Node, explore: float) -> Node:
    """The leaf that is reached by taking at each node the child with the greatest value + explore * prior *
    sqrt(log(visits of the node) / (visits of the child + 1)); of equals the first."""
    node = root
    while node.children:
        hopes = [_hope(one, node, explore) for one in node.children]
        node = node.children[hopes.index(max(hopes))]
    return node


def ahead(node: Node, steps: int) -> Node:
    """Where one comes from a node by so many steps to the child of the greatest value, as far as there are
    any."""
    for _ in range(steps):
        if not node.children:
            break
        node = max(node.children, key=lambda one: one.value)
    return node


def credit(node: Node, reward: float) -> None:
    """Give a node and all before it the reward, once each."""
    above: Node | None = node
    while above is not None:
        above.worth += reward
        above.visits += 1
        above = above.parent


def _hope(child: Node, node: Node, explore: float) -> float:
    return child.value + explore * child.prior * sqrt(log(max(node.visits, 1)) / (child.visits + 1))


def nodes(root: Node) -> Iterator[Node]:
    """All nodes, parents first."""
    yield root
    for one in root.children:
        yield from nodes(one)


def ends(node: Node) -> tuple[Node, Node] | None:
    """The children with the greatest and the least value; None where there are no two that differ in it."""
    found: Sequence[Node] = node.children
    if len({one.value for one in found}) < 2:
        return None
    return max(found, key=lambda one: one.value), min(found, key=lambda one: one.value)
