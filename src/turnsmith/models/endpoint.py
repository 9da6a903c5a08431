"""A model that is asked over HTTP: how it is named, and how it may be asked."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args
from urllib.parse import parse_qsl, urlsplit

from turnsmith.errors import UsageError
from turnsmith.registry import suggest
from turnsmith.shelf import digest

Limit = Literal["max_tokens", "max_completion_tokens"]
Server = Literal["openai", "vllm", "llamacpp"]
FORM = "http://HOST:PORT/v1#MODEL?OPTION=VALUE&..."


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A model behind a server that speaks OpenAI's chat completions, named `URL#MODEL`, options after a `?`.

    url: what `/chat/completions` is put behind. key: the environment variable that holds the API key; the key
    itself is never written down. parallel: conversations asked at once. tries: of one conversation, at most.
    seconds: within which a whole reply must have come. wait: seconds before the second try, doubled for each
    further one; longest: most seconds of one wait, also where the server asks for more. bytes: of one reply,
    at most. limit: what this server calls the most tokens of a reply. server: whose spelling it reads, and so
    what can be asked of it; `openai` is what all of them have. ids: keep the token ids of replies, and their
    log-probs, where the server is vLLM. price: of a million tokens read, and of a million written. version:
    replies are recorded under it; another one asks anew.
    """

    url: str
    model: str
    key: str | None = None
    parallel: int = 8
    tries: int = 5
    seconds: float = 120.0
    wait: float = 1.0
    longest: float = 60.0
    bytes: int = 8 * 2**20
    limit: Limit = "max_tokens"
    server: Server = "openai"
    ids: bool = False
    price: tuple[float, float] | None = None
    version: str = ""

    def __post_init__(self) -> None:
        for name in ("parallel", "tries", "seconds", "bytes"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, is {getattr(self, name)}")
        for name in ("wait", "longest"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative, is {getattr(self, name)}")
        if self.limit not in get_args(Limit):
            raise ValueError(f"limit is one of {', '.join(get_args(Limit))}, not {self.limit!r}")
        if self.server not in get_args(Server):
            raise ValueError(f"server is one of {', '.join(get_args(Server))}, not {self.server!r}")
        if self.ids and self.server != "vllm":
            raise ValueError("ids: only vLLM's server gives token ids with log-probs: add server=vllm")

    @property
    def name(self) -> str:
        """The model as people read it, without its options."""
        return f"{self.url}#{self.model}"

    @property
    def fingerprint(self) -> str:
        """What stands for the model in hashes: not how it is asked, or by whom. What a known server is asked
        beyond the plain changes what it says, so that it counts."""
        beyond = [self.server, self.ids] if self.server != "openai" else []
        return digest("endpoint 1", self.url, self.model, self.version, *beyond)

    def secret(self) -> str | None:
        """The API key; None where none was named. Raises UsageError where the variable is not set."""
        if self.key is None:
            return None
        found = os.environ.get(self.key, "").strip()
        if not found:
            raise UsageError(
                f"{self.url} is to be asked with the key in {self.key}, and this environment variable is not "
                f"set: `export {self.key}=...`"
            )
        return found


def is_endpoint(reference: str) -> bool:
    """Whether a reference to a model names a server to be asked.

    >>> is_endpoint("http://localhost:8000/v1#my-model"), is_endpoint("owner/name")
    (True, False)
    """
    return reference.startswith(("http://", "https://"))


def endpoint(reference: str) -> Endpoint:
    """What `URL#MODEL` or `URL#MODEL?OPTION=VALUE&...` names. Raises UsageError where it cannot be meant.

    >>> one = endpoint("http://localhost:8000/v1#owner/model?key=MY_KEY&parallel=2")
    >>> one.url, one.model, one.key, one.parallel
    ('http://localhost:8000/v1', 'owner/model', 'MY_KEY', 2)
    """
    url, _, rest = reference.partition("#")
    model, _, options = rest.partition("?")
    parts = urlsplit(url)
    if not parts.hostname or not model:
        raise UsageError(f"{reference}: an endpoint is named {FORM}, the options may be left out")
    if parts.username or parts.password:
        raise UsageError(
            f"{parts.hostname}: a name or password in the URL would be written into reports. Put the key "
            "into an environment variable and name that: URL#MODEL?key=VARIABLE"
        )
    given = dict(parse_qsl(options, keep_blank_values=True))
    try:
        return Endpoint(url=url.rstrip("/"), model=model, **_read(given))
    except ValueError as error:
        raise UsageError(f"{reference}: {error}") from None


def _read(given: Mapping[str, str]) -> dict[str, Any]:
    """The options, each as its type; ValueError names the first that is none, or of the wrong type."""
    found: dict[str, Any] = {}
    for name, text in given.items():
        if name not in _KINDS:
            raise ValueError(f"an endpoint has no option {name!r}{suggest(name, list(_KINDS))}")
        try:
            found[name] = _KINDS[name](text)
        except ValueError:
            raise ValueError(f"option {name}: {text!r} cannot be read as {_KINDS[name].__name__}") from None
    return found


def prices(text: str) -> tuple[float, float]:
    """
    >>> prices("0.15,0.6")
    (0.15, 0.6)
    """
    read, written = map(float, text.split(","))
    return read, written


def true_or_false(text: str) -> bool:
    """
    >>> true_or_false("true")
    True
    """
    if text not in ("true", "false"):
        raise ValueError(text)
    return text == "true"


_KINDS: dict[str, Callable[[str], Any]] = {
    **dict.fromkeys(("key", "limit", "server", "version"), str),
    **dict.fromkeys(("parallel", "tries", "bytes"), int),
    **dict.fromkeys(("seconds", "wait", "longest"), float),
    "ids": true_or_false,
    "price": prices,
}
