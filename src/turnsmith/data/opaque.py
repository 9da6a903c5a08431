"""Whether a chat template only passes on what messages say, so that its text follows from roles alone.

Such a template is run once for each sequence of roles, and what messages say is put into the gaps. The check
is of the template's syntax tree and errs on the safe side: content may be printed, joined, stripped, and
asked whether it is there. Whatever else is done with it, or with a message as a whole, counts as looking into
it.
"""

from __future__ import annotations

from typing import Literal

from jinja2 import Environment, TemplateError, nodes

Kind = Literal["plain", "content", "messages"]
ASKED = ("string", "none", "defined", "undefined")


class _Looks(Exception):
    """The template looks into what a message says."""


def is_opaque(source: str) -> bool:
    """Whether the text of a template follows from roles, and from which contents are empty, alone."""
    try:
        tree = Environment(extensions=["jinja2.ext.loopcontrols"]).parse(source)
    except (TemplateError, RecursionError, ValueError):  # ValueError: a number of more than 4,300 digits
        return False
    flow = _Flow()
    try:
        for _ in range(8):  # names get their kinds from names: until nothing changes
            before = dict(flow.kinds)
            flow.statements(tree.body)
            if flow.kinds == before:
                return True
    except _Looks:
        pass
    return False


class _Flow:
    """What each name of a template may hold: nothing of interest, what a message says, or messages."""

    def __init__(self) -> None:
        self.kinds: dict[str, Kind] = {"messages": "messages"}

    def statements(self, body: list[nodes.Node]) -> None:
        for node in body:
            self._statement(node)

    def _statement(self, node: nodes.Node) -> None:
        if isinstance(node, nodes.Output):
            for one in node.nodes:
                if self._kind(one) == "messages":
                    raise _Looks
        elif isinstance(node, nodes.If):
            self._test(node.test)
            self.statements([*node.body, *node.elif_, *node.else_])
        elif isinstance(node, nodes.For):
            self._for(node)
        elif isinstance(node, nodes.Assign):
            self._assign(node.target, self._kind(node.node))
        elif isinstance(node, nodes.Macro):
            self.statements(node.body)
        elif not isinstance(node, nodes.Continue | nodes.Break):
            raise _Looks

    def _for(self, node: nodes.For) -> None:
        kind = self._kind(node.iter)
        if kind == "content" or node.recursive:
            raise _Looks
        if node.test is not None:
            self._test(node.test)
        self._assign(node.target, kind)
        self.statements([*node.body, *node.else_])

    def _assign(self, target: nodes.Node, kind: Kind) -> None:
        if isinstance(target, nodes.NSRef):
            name = f"{target.name}.{target.attr}"
        elif isinstance(target, nodes.Name):
            name = target.name
        elif kind == "plain":
            return
        else:
            raise _Looks
        if kind != "plain":
            if self.kinds.get(name, kind) != kind:
                raise _Looks
            self.kinds[name] = kind

    def _test(self, node: nodes.Node) -> None:
        """A condition: content may be asked whether it is empty."""
        if isinstance(node, nodes.And | nodes.Or):
            self._test(node.left)
            self._test(node.right)
        elif isinstance(node, nodes.Not):
            self._test(node.node)
        else:
            self._kind(node)

    def _kind(self, node: nodes.Node) -> Kind:
        """What an expression gives; _Looks where it does more with content than pass it on."""
        if isinstance(node, nodes.Name):
            return self.kinds.get(node.name, "plain")
        if isinstance(node, nodes.Getattr):
            return self._member(node.node, node.attr)
        if isinstance(node, nodes.Getitem):
            return self._item(node)
        if isinstance(node, nodes.Add):
            return self._joined([node.left, node.right])
        if isinstance(node, nodes.Concat):
            return self._joined(node.nodes)
        if isinstance(node, nodes.CondExpr):
            self._test(node.test)
            return self._joined([node.expr1, *([node.expr2] if node.expr2 else [])])
        if isinstance(node, nodes.Filter):
            return self._filtered(node)
        if isinstance(node, nodes.Test):
            return self._asked(node)
        if isinstance(node, nodes.Call) and isinstance(node.node, nodes.Getattr):
            kind = self._kind(node.node.node)
            stripped = node.node.attr == "strip" and not (node.args or node.kwargs)
            if kind == "content" and stripped:
                return "content"
            if kind != "plain":
                raise _Looks
        for child in node.iter_child_nodes():
            if self._kind(child) != "plain":
                raise _Looks
        return "plain"

    def _member(self, of: nodes.Node, name: str) -> Kind:
        if isinstance(of, nodes.Name) and f"{of.name}.{name}" in self.kinds:
            return self.kinds[f"{of.name}.{name}"]
        kind = self._kind(of)
        if kind == "content":
            raise _Looks
        if kind == "messages":
            return "content" if name == "content" else "plain"
        return "plain"

    def _item(self, node: nodes.Getitem) -> Kind:
        if isinstance(node.arg, nodes.Const) and isinstance(node.arg.value, str):
            return self._member(node.node, node.arg.value)
        for child in node.arg.iter_child_nodes():
            if self._kind(child) != "plain":
                raise _Looks
        kind = self._kind(node.node)
        if kind == "content":
            raise _Looks
        return kind

    def _joined(self, parts: list[nodes.Expr]) -> Kind:
        kinds = {self._kind(part) for part in parts}
        if "messages" in kinds:
            raise _Looks
        return "content" if "content" in kinds else "plain"

    def _filtered(self, node: nodes.Filter) -> Kind:
        kind: Kind = self._kind(node.node) if node.node is not None else "plain"
        given = [*node.args, *(pair.value for pair in node.kwargs)]
        if any(self._kind(one) != "plain" for one in given):
            raise _Looks
        if kind == "plain" or (kind == "messages" and node.name in ("length", "count")):
            return "plain"
        if kind == "content" and node.name == "trim" and not given:
            return "content"
        raise _Looks

    def _asked(self, node: nodes.Test) -> Kind:
        if self._kind(node.node) == "content" and node.name not in ASKED:
            raise _Looks
        if any(self._kind(one) != "plain" for one in node.args):
            raise _Looks
        return "plain"
