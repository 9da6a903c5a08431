"""How models write the tools that they call: the notations in use, read back."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from turnsmith.types import Call, Json, is_list, is_object

Types: TypeAlias = "Mapping[str, Mapping[str, Any]]"  # of the arguments: tool -> argument -> schema


class Block(NamedTuple):
    """Characters `start:end` of a reply and the calls that they are."""

    start: int
    end: int
    calls: tuple[Call, ...]


Notation: TypeAlias = "Callable[[str, Types], list[Block]]"


def types_of(tools: Sequence[Mapping[str, Json]]) -> Types:
    """The schema of each argument of each tool."""
    found: dict[str, Mapping[str, Any]] = {}
    for tool in tools:
        function: Any = tool.get("function", tool)
        parameters: Any = function.get("parameters") if is_object(function) else None
        properties: Any = parameters.get("properties") if is_object(parameters) else None
        if is_object(function) and is_object(properties):
            found[str(function.get("name"))] = properties
    return found


def tagged_json(text: str, types: Types) -> list[Block]:
    """`<tool_call>{"name": ..., "arguments": ...}</tool_call>`, as Qwen and Hermes write it."""
    found: list[Block] = []
    for match in re.finditer(r"<tool_call>\s*(\{.*?\})\s*</tool_call>", text, re.DOTALL):
        call = _object_call(match[1])
        if call:
            found.append(Block(match.start(), match.end(), (call,)))
    return found


def bare_json(text: str, types: Types) -> list[Block]:
    """`{"name": ..., "parameters": ...}` and nothing else, as Llama 3 writes it."""
    call = _object_call(text.strip())
    return [Block(0, len(text), (call,))] if call else []


def tagged_xml(text: str, types: Types) -> list[Block]:
    """`<tool_call><function=NAME><parameter=KEY>VALUE</parameter></function></tool_call>`, as Qwen 3 Coder
    and Nemotron write it."""
    return _nested(
        text,
        types,
        r"<tool_call>\s*<function=([^>\n]+)>\n?(.*?)</function>\s*</tool_call>",
        r"<parameter=([^>\n]+)>\n(.*?)\n</parameter>",
    )


def tagged_pairs(text: str, types: Types) -> list[Block]:
    """`<tool_call>NAME<arg_key>KEY</arg_key><arg_value>VALUE</arg_value></tool_call>`, as GLM writes it."""
    return _nested(
        text,
        types,
        r"<tool_call>([^<\n]+)\n?(.*?)</tool_call>",
        r"<arg_key>(.*?)</arg_key>\s*<arg_value>(.*?)</arg_value>",
    )


def invoked(text: str, types: Types) -> list[Block]:
    """` to=NAME<|message|><X:invoke name="NAME"><X:parameter name="KEY">VALUE</X:parameter></X:invoke>`."""
    return _nested(
        text,
        types,
        r"(?:<\|eom\|><\|start\|>assistant)? to=[^<\n]+<\|message\|><(?:\w+:)?function_calls>\s*"
        r"<(?:\w+:)?invoke name=\"([^\"]+)\">\n?(.*?)</(?:\w+:)?invoke>\s*</(?:\w+:)?function_calls>",
        r"<(?:\w+:)?parameter name=\"([^\"]+)\">(.*?)</(?:\w+:)?parameter>",
    )


def python_list(text: str, types: Types) -> list[Block]:
    """`<|tool_call_start|>[name(key='value')]<|tool_call_end|>`, as LFM 2 writes it."""
    found: list[Block] = []
    for match in re.finditer(r"<\|tool_call_start\|>(\[.*?\])<\|tool_call_end\|>", text, re.DOTALL):
        calls = _python_calls(match[1])
        if calls:
            found.append(Block(match.start(), match.end(), calls))
    return found


def channels(text: str, types: Types) -> list[Block]:
    """` to=functions.NAME<|channel|>commentary json<|message|>{...}`, as gpt-oss writes it."""
    pattern = (
        r"(?:<\|start\|>assistant)? to=functions\.([^<\s]+)<\|channel\|>commentary(?: ?<\|constrain\|>)?"
        r" ?json<\|message\|>(\{.*?\})(?=<\||$)"
    )
    found: list[Block] = []
    for match in re.finditer(pattern, text, re.DOTALL):
        arguments = _json(match[2])
        if is_object(arguments):
            found.append(Block(match.start(), match.end(), (Call(match[1], arguments),)))
    return found


def quoted(text: str, types: Types) -> list[Block]:
    """`<|tool_call>call:NAME{key:<|"|>value<|"|>}<tool_call|>`, as Gemma 4 writes it."""
    found: list[Block] = []
    for match in re.finditer(r"<\|tool_call>call:([^{]+)(\{.*?\})<tool_call\|>", text, re.DOTALL):
        arguments = _json(_unquoted(match[2]))
        if is_object(arguments):
            found.append(Block(match.start(), match.end(), (Call(match[1], arguments),)))
    return found


NOTATIONS: tuple[Notation, ...] = (
    tagged_json,
    tagged_xml,
    tagged_pairs,
    python_list,
    channels,
    quoted,
    invoked,
    bare_json,
)


# ------------------------------------------------------------------------------------------- details


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _object_call(text: str) -> Call | None:
    made = _json(text)
    if not is_object(made) or not isinstance(made.get("name"), str):
        return None
    arguments: Any = made.get("arguments", made.get("parameters"))
    arguments = _json(arguments) if isinstance(arguments, str) else arguments
    return Call(made["name"], arguments) if is_object(arguments) else None


def _nested(text: str, types: Types, outer: str, inner: str) -> list[Block]:
    found: list[Block] = []
    for match in re.finditer(outer, text, re.DOTALL):
        name = match[1].strip()
        given = re.findall(inner, match[2], re.DOTALL)
        known = types.get(name, {})
        arguments = {key: _value(value, known.get(key)) for key, value in given}
        found.append(Block(match.start(), match.end(), (Call(name, arguments),)))
    return found


WORDS: dict[str, Any] = {"null": None, "None": None, "True": True, "False": False}


def _value(text: str, schema: Any) -> Any:
    """A text that may stand for itself or be JSON: what its schema says, else JSON where it is that."""
    if is_object(schema) and schema.get("type") == "string":
        return text
    made = _json(text)
    return WORDS.get(text, text) if made is None else made


def _python_calls(text: str) -> tuple[Call, ...]:
    try:
        tree = ast.parse(text, mode="eval").body
        return tuple(_python_call(node) for node in tree.elts)  # pyright: ignore[reportAttributeAccessIssue]
    except (SyntaxError, ValueError, AttributeError):
        return ()


def _python_call(node: Any) -> Call:
    return Call(ast.unparse(node.func), {one.arg: _python_value(one.value) for one in node.keywords})


def _python_value(node: ast.expr) -> Any:
    """A literal, in Python's spelling or in JSON's."""
    words = {"true": True, "false": False, "null": None}
    for inner in ast.walk(node):
        for name, value in ast.iter_fields(inner):
            if isinstance(value, ast.Name) and value.id in words:
                setattr(inner, name, ast.Constant(words[value.id]))
            elif is_list(value):
                value[:] = [
                    ast.Constant(words[one.id]) if isinstance(one, ast.Name) and one.id in words else one
                    for one in value
                ]
    if isinstance(node, ast.Name) and node.id in words:
        return words[node.id]
    return ast.literal_eval(node)


def _unquoted(text: str) -> str:
    """The notation with <|"|> around texts, as JSON: keys get quotes, texts get JSON's."""
    return "".join(_unquoted_parts(text))


def _unquoted_parts(text: str) -> Iterator[str]:
    for number, part in enumerate(text.split('<|"|>')):
        if number % 2:
            yield json.dumps(part)
        else:
            yield re.sub(r"(?<=[{,])\s*([^\s{}\[\],:\"]+)\s*:", r'"\1":', part)
