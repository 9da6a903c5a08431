"""What concerns people taken out of texts: addresses and numbers by which somebody can be reached or paid."""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from turnsmith.data.suspicions import ADDRESS, CARD, PHONE, luhn
from turnsmith.types import Json, is_list, is_object

ACCOUNT = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b")
EMAIL = re.compile(ADDRESS.pattern + r"(?<![.-])")  # the full stop after it is the sentence's
HOST = re.compile(
    r"(?<![\w.:-])(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7})(?![\w:-])"
)
# Written in a link before the host: a name and its password.
LOGIN = re.compile(r"(?<=://)[^\s/@:]+:[^\s/@]+(?=@)")
SHORTEST = 3  # letters of a name that is looked for: shorter ones are parts of other words


def account(text: str) -> bool:
    """Whether the two digits check the rest, as in account numbers (ISO 13616).

    >>> account("GB82 WEST 1234 5698 7654 32"), account("GB83 WEST 1234 5698 7654 32")
    (True, False)
    """
    plain = text.replace(" ", "")
    return int("".join(str(int(one, 36)) for one in plain[4:] + plain[:4])) % 97 == 1


def host(text: str) -> bool:
    """Whether this is an address of a machine that others could reach.

    >>> host("8.8.8.8"), host("127.0.0.1"), host("1.2.3.999"), host("2001:4860::1")
    (True, False, False, True)
    """
    try:
        return not (found := ipaddress.ip_address(text)).is_loopback and not found.is_unspecified
    except ValueError:
        return False


# In this order: what is longer and checks itself comes before what looks like a part of it.
KINDS: Mapping[str, tuple[re.Pattern[str], Callable[[str], bool]]] = {
    "login": (LOGIN, lambda text: True),
    "email": (EMAIL, lambda text: True),
    "account": (ACCOUNT, account),
    "card": (CARD, luhn),
    "ip": (HOST, host),
    "phone": (PHONE, lambda text: True),
}


@dataclass
class Scrubber:
    """Puts `[KIND_1]` and so on in place of what concerns people, the same for the same in one conversation.

    names: of people who are to be taken out by name, whole words, in any spelling of case. What has no form,
    such as the names of others or an address in the street, is not found. counts: what was taken out. kept:
    keys of objects whose values are no texts.
    """

    names: Iterable[str] = ()
    counts: Counter[str] = field(default_factory=Counter[str])
    kept: Collection[str] = ()
    _known: dict[str, dict[str, str]] = field(default_factory=dict[str, dict[str, str]])

    def text(self, text: str) -> str:
        """The text without them."""
        for kind, (pattern, holds) in KINDS.items():
            text = pattern.sub(
                lambda found, kind=kind, holds=holds: (
                    self._mark(kind, found[0]) if holds(found[0]) else found[0]
                ),
                text,
            )
        for name in self.names:
            if len(name) >= SHORTEST:
                pattern = re.compile(rf"(?<!\w){re.escape(name)}(?!\w)", re.IGNORECASE)
                text = pattern.sub(lambda found: self._mark("name", found[0].lower()), text)
        return text

    def json(self, value: Json) -> Json:
        """The same for all texts of a value of JSON; keys stay."""
        if isinstance(value, str):
            return self.text(value)
        if is_list(value):
            return [self.json(one) for one in value]
        if is_object(value):
            return {key: one if key in self.kept else self.json(one) for key, one in value.items()}
        return value

    def _mark(self, kind: str, found: str) -> str:
        self.counts[kind] += 1
        known = self._known.setdefault(kind, {})
        return known.setdefault(found, f"[{kind.upper()}_{len(known) + 1}]")
