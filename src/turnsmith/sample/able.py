"""What a sampling asks of an engine beyond the plain, and which engines give it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Literal

from turnsmith.errors import UsageError
from turnsmith.models.answering import is_llamacpp
from turnsmith.models.endpoint import endpoint, is_endpoint
from turnsmith.types import Sampling

# A model loaded here, a file that llama.cpp runs here, and the servers that an endpoint may name.
Kind = Literal["local", "gguf", "openai", "vllm", "llamacpp"]
PLAIN = ("temperature", "top_p", "max_new")  # every engine has these, and takes a seed
OFF = {one.name: getattr(Sampling(), one.name) for one in fields(Sampling)}
BEYOND = frozenset(OFF) - set(PLAIN)
STOPS = 4  # texts to stop at, of which OpenAI's protocol allows no more
GIVES: dict[Kind, frozenset[str]] = {
    "local": BEYOND,
    "gguf": BEYOND - {"schema", "grammar"},
    "openai": frozenset({"frequency_penalty", "presence_penalty", "stop", "schema"}),
    "vllm": BEYOND,
    # Its two other penalties count the prompt too, its grammars are not Lark's, and whether a reply repeats
    # its prefill depends on the release.
    "llamacpp": frozenset({"top_k", "min_p", "repetition_penalty", "stop", "schema"}),
}
NAMED: dict[Kind, str] = {
    "local": "a model that is loaded here",
    "gguf": "llama.cpp in this process",
    "openai": "OpenAI's protocol",
    "vllm": "vLLM's server (server=vllm)",
    "llamacpp": "llama.cpp's server (server=llamacpp)",
}


def kind(reference: str) -> Kind:
    """What answers for a reference to a model."""
    if is_endpoint(reference):
        return endpoint(reference).server
    return "gguf" if is_llamacpp(reference) else "local"


def asked(given: Sampling | Mapping[str, object]) -> frozenset[str]:
    """What is asked for beyond the plain, by the names of Sampling's fields.

    given: a sampling, or options of a component, of which those count that are called as a field is.

    >>> sorted(asked(Sampling(top_k=5, temperature=0.0, min_new=1)))
    ['top_k']
    """
    values = {name: getattr(given, name) for name in BEYOND} if isinstance(given, Sampling) else given
    return frozenset(name for name in BEYOND & values.keys() if _on(name, values[name]))


def refuse(given: Sampling | Mapping[str, object], of: Kind, who: str) -> None:
    """Raise UsageError where more is asked than an engine of this kind gives. who: the model, for the
    error."""
    wanted = asked(given)
    lacking = sorted(wanted - GIVES[of])
    if lacking:
        others = [NAMED[other] for other in GIVES if other != of and wanted <= GIVES[other]]
        raise UsageError(
            f"{who} is asked for {', '.join(lacking)}, which {NAMED[of]} does not have: leave it out, or ask "
            f"what has it: {' or '.join(others)}"
        )
    stops = given.stop if isinstance(given, Sampling) else given.get("stop")
    if of == "openai" and isinstance(stops, list | tuple) and len(stops) > STOPS:
        raise UsageError(
            f"{who} is asked to stop at {len(stops)} texts, and {NAMED[of]} allows {STOPS}: leave some out, "
            f"or say which server it is, if it is {NAMED['vllm']}"
        )


def _on(name: str, value: object) -> bool:
    """Whether a value asks for anything: an empty list of texts does not, nor a reply of one token."""
    return value is not None and value not in (OFF[name], []) and (name, value) != ("min_new", 1)
