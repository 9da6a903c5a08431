"""What is written to a server that speaks chat completions, in its own spelling, and what its answer says.

Sources: OpenAI's API reference, Create chat completion; vLLM's OpenAI-Compatible Server, Extra parameters;
llama.cpp's tools/server/README.md.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from turnsmith import album
from turnsmith.data.messages import message, say
from turnsmith.errors import DataError
from turnsmith.models.endpoint import Endpoint, Server
from turnsmith.types import Conversation, Finish, Json, Message, Reply, Sampling, Usage, is_list, is_object

# How servers name the two ends of a reply, beside OpenAI's own words for them.
ENDS: dict[str, Finish] = {
    **dict.fromkeys(("stop", "tool_calls", "function_call", "eos_token", "stop_sequence"), "stop"),
    **dict.fromkeys(("length", "max_tokens"), "length"),
}
SAID = 200  # characters of a server's words that are passed on
THOUGHTS = ("reasoning_content", "reasoning")


class Trouble(Exception):
    """Why a try gave no reply. final: another one would fare no better. pause: seconds that the server asks
    to wait."""

    def __init__(
        self, reason: str, *, final: bool = False, pause: float = 0.0, unreachable: bool = False
    ) -> None:
        super().__init__(reason)
        self.final, self.pause, self.unreachable = final, pause, unreachable


def request(endpoint: Endpoint, conversation: Conversation, sampling: Sampling) -> dict[str, Any]:
    """The body of the request, without its seed."""
    messages = [_wire(one) for one in conversation.messages]
    if sampling.prefill:
        messages.append({"role": "assistant", "content": sampling.prefill})
    body: dict[str, Any] = {
        "model": endpoint.model,
        "messages": messages,
        "temperature": sampling.temperature,
        endpoint.limit: sampling.max_new,
        **SPELLED[endpoint.server](sampling),
    }
    body |= {"logprobs": True, "return_token_ids": True} if endpoint.ids else {}
    return body | ({"tools": list(conversation.tools)} if conversation.tools else {})


def _openai(sampling: Sampling) -> dict[str, Any]:
    """What a server may not know is left out where it says nothing."""
    body: dict[str, Any] = {"top_p": sampling.top_p} if sampling.top_p < 1 else {}
    for name in ("frequency_penalty", "presence_penalty"):
        body |= {name: getattr(sampling, name)} if getattr(sampling, name) else {}
    return body | _stop(sampling) | _format(sampling)


def _vllm(sampling: Sampling) -> dict[str, Any]:
    """What is off is said to be off: the server would take it from the model's generation_config.json."""
    body: dict[str, Any] = {
        "top_p": sampling.top_p,
        "top_k": sampling.top_k or -1,
        "min_p": sampling.min_p,
        "repetition_penalty": sampling.repetition_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "presence_penalty": sampling.presence_penalty,
    }
    if sampling.min_new > 1:  # vLLM counts the tokens before the one that ends the reply
        body["min_tokens"] = sampling.min_new - 1
    if sampling.grammar is not None:
        body["structured_outputs"] = {"grammar": sampling.grammar}
    if sampling.prefill:
        body |= {"continue_final_message": True, "add_generation_prompt": False}
    return body | _stop(sampling) | _format(sampling)


def _llamacpp(sampling: Sampling) -> dict[str, Any]:
    """What is off is said to be off: the server has 40, 0.95 and 0.05 for the first three. By itself it also
    truncates before the temperature, and looks for repetitions in the last 64 tokens only."""
    body: dict[str, Any] = {
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
        "min_p": sampling.min_p,
        "repeat_penalty": sampling.repetition_penalty,
        "repeat_last_n": -1,
        "frequency_penalty": 0.0,
        "presence_penalty": 0.0,
        "samplers": ["penalties", "temperature", "top_k", "top_p", "min_p"],
    }
    return body | _stop(sampling) | ({"json_schema": sampling.schema} if sampling.schema is not None else {})


SPELLED: dict[Server, Callable[[Sampling], dict[str, Any]]] = {
    "openai": _openai,
    "vllm": _vllm,
    "llamacpp": _llamacpp,
}


def _stop(sampling: Sampling) -> dict[str, Any]:
    return {"stop": list(sampling.stop)} if sampling.stop else {}


def _format(sampling: Sampling) -> dict[str, Any]:
    if sampling.schema is None:
        return {}
    named = {"name": "reply", "schema": sampling.schema, "strict": True}
    return {"response_format": {"type": "json_schema", "json_schema": named}}


def _wire(said: Message) -> dict[str, Json]:
    """A message as a server takes it: without weights, thoughts and fields of our own."""
    images = tuple(map(album.carried, said.images))  # the server cannot read our files
    return say(replace(said, weight=None, spans=(), fields={}, thinking=None, images=images))


# -------------------------------------------------------------------------------- what comes back


def answer(content: bytes, clean: Callable[[str], str]) -> dict[str, Any]:
    """The choice and the usage of a whole answer; Trouble where it is none.

    clean: makes a server's words fit to show.
    """
    try:
        found: Any = json.loads(content)
    except ValueError as error:
        raise Trouble(f"the reply is no JSON ({error})") from None
    choices: Any = found.get("choices") if is_object(found) else None
    if not is_list(choices) or not choices:
        raise Trouble(f"the reply has no choices: {clean(content.decode('utf-8', 'replace'))}")
    return writable({"choice": choices[0], "usage": found.get("usage")})


def writable(said: dict[str, Any]) -> dict[str, Any]:
    """The same without halves of surrogate pairs, which a server may escape: they are no UTF-8."""
    return json.loads(json.dumps(said, ensure_ascii=False).encode("utf-8", "replace"))


def reply(said: Mapping[str, Any], sampling: Sampling, *, ids: bool = False) -> Reply:
    """What a recorded or fresh choice says; Trouble where it is no reply.

    ids: keep those of the tokens, and their log-probs.
    """
    choice: Any = said["choice"]
    given: Any = choice.get("message") if is_object(choice) else None
    if not is_object(given):
        raise Trouble(f"the reply has no message: {choice!r:.{SAID}}")
    finish: Any = choice.get("finish_reason")
    if finish == "content_filter":
        raise Trouble("the server's filter withheld the reply", final=True)
    if not isinstance(finish, str) or finish not in ENDS:
        raise Trouble(f"the reply ended for the reason {finish!r}, which is not known")
    kept = {key: given[key] for key in ("tool_calls", "function_call", *THOUGHTS) if given.get(key)}
    content = given.get("content")
    if sampling.prefill and isinstance(content, str | None):
        content = sampling.prefill + (content or "")
    try:
        found = message({"role": "assistant", "content": "" if content is None else content, **kept}, "reply")
    except DataError as error:
        raise Trouble(f"the reply cannot be read: {error}") from None
    found = _thoughtful(found)
    return Reply(_sampled(found, choice, sampling) if ids else found, ENDS[finish], _usage(said["usage"]))


def _sampled(said: Message, choice: Mapping[str, Any], sampling: Sampling) -> Message:
    """The message with its token ids, and with their log-probs where they are those at the temperature: vLLM
    gives them as they are at 1. What begins with a prefill, or was cut at a text, is not what the ids say."""
    ids, given = choice.get("token_ids"), choice.get("logprobs")
    tokens: Any = given.get("content") if is_object(given) else None
    if not is_list(ids) or not is_list(tokens) or len(ids) != len(tokens):
        raise Trouble(
            "the server gives no token ids with a log-prob for each: leave out ids=true", final=True
        )
    if sampling.prefill or sampling.stop:
        return said
    plain = sampling.temperature in (0, 1)
    return replace(said, ids=tuple(ids), logprobs=tuple(one["logprob"] for one in tokens) if plain else None)


def _thoughtful(said: Message) -> Message:
    """The message with thoughts that the server left in the content taken out of it."""
    text = said.content.lstrip()
    thoughts, end, rest = text.partition("</think>")
    if said.thinking is not None or not (end or text.startswith("<think>")):
        return said
    return replace(said, content=rest.lstrip(), thinking=thoughts.removeprefix("<think>").strip())


def _usage(found: Any) -> Usage:
    """Tokens as the server counts them; 0 where it does not."""
    counts: Any = found if is_object(found) else {}
    numbers = [counts.get(name) for name in ("prompt_tokens", "completion_tokens")]
    read, written = (number if isinstance(number, int) else 0 for number in numbers)
    return Usage(read, written)


def asked_pause(after: str | None) -> float:
    """Seconds that `Retry-After` asks for, given as a number or as a date; 0 where it says neither."""
    if after is None:
        return 0.0
    try:
        return max(0.0, float(after))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(after) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):  # no date, or one without a zone
        return 0.0
