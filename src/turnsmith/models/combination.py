"""Models that decode in step, as a directory: which they are, and the decoder that makes one of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from turnsmith import wheels
from turnsmith.errors import ModelError
from turnsmith.models import load
from turnsmith.models.directory import COMBINATION, is_combination, read_object
from turnsmith.models.locate import foundation, locate
from turnsmith.registry import loaded
from turnsmith.types import Json

if TYPE_CHECKING:
    from torch import Tensor

# The lead's logits (..., V), those of the other members and numbers of the lead's heads, by name, to logits.
Mix = Callable[["Tensor", Mapping[str, "Tensor"], Mapping[str, "Tensor"]], "Tensor"]
PROBE = "Say 12 + 30 = 42, café naïve!\n\tdef f(x):  return x\u4e2d\u6587"


@dataclass(frozen=True, slots=True)
class Member:
    """A model of a combination, and the hash of what it was when it was taken in."""

    reference: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Combination:
    """Models by the names that the decoder has for them, the one that leads first.

    version: of the decoder. heads: of the lead's model, which the decoder asks for. draft: the member that
    guesses ahead, which changes the time and not the tokens.
    """

    decoder: str
    version: int
    options: Mapping[str, Json]
    members: Mapping[str, Member]
    heads: tuple[str, ...] = ()
    draft: str | None = None

    @property
    def lead(self) -> str:
        return next(iter(self.members))

    def __str__(self) -> str:
        named = ", ".join(f"{name} {member.reference}" for name, member in self.members.items())
        return f"a combination of models by {self.decoder!r} ({named})"


def write(combination: Combination, directory: Path) -> None:
    """Write it into the new directory. Raises ModelError where its members cannot decode in step."""
    prove(combination)
    with wheels.aside(directory, needed=0) as written:
        written.mkdir()
        text = json.dumps(asdict(combination), indent=1, ensure_ascii=False)
        (written / COMBINATION).write_text(text + "\n", encoding="utf-8")


def read(reference: str) -> Combination:
    """The combination that the reference names. Raises ModelError where a member is gone or is another one
    now."""
    found = _read(locate(reference))
    for name, member in found.members.items():
        if Path(member.reference).is_absolute() and not Path(member.reference).exists():
            raise ModelError(
                f"{reference} combines models, and {name!r} is not at {member.reference}: bring it back, or "
                "combine anew"
            )
        if load.fingerprint(member.reference) != member.fingerprint:
            raise ModelError(
                f"{reference} combines models, and {name!r} at {member.reference} is not the one that it "
                "was: bring it back, or combine anew"
            )
    return found


def fingerprint(directory: Path) -> str:
    """A sha256 over decoder, options and members, wherever these lie; the draft does not count."""
    found = _read(directory)
    said: list[Any] = [found.decoder, found.version, found.options]
    said += [[name, load.fingerprint(member.reference)] for name, member in found.members.items()]
    return sha256(f"combination 1 {json.dumps(said, sort_keys=True)}".encode()).hexdigest()


def lead_of(directory: Path) -> str:
    """The reference of the member that leads."""
    found = _read(directory)
    return found.members[found.lead].reference


def refuse(reference: str, directory: Path) -> None:
    """Raise ModelError where weights are wanted of a combination."""
    if is_combination(directory):
        raise ModelError(
            f"{reference} is {_read(directory)}: it has no weights of its own. It can be asked and measured "
            "(`chat`, `evaluate`, chats of stages); train, merge or export one of its members"
        )


def mixing(combination: Combination) -> Mix:
    """The decoder with its options. Raises ModelError where it is not known, or does not give logits."""
    found = loaded("decoder", combination.decoder)
    if found is None:
        raise ModelError(
            f"no decoder is called {combination.decoder!r} here: name the file that has it, --use FILE.py"
        )
    return partial(mixed, partial(found, **combination.options), combination.lead)


def mixed(
    function: Callable[..., Tensor],
    name: str,
    lead: Tensor,
    others: Mapping[str, Tensor],
    said: Mapping[str, Tensor],
) -> Tensor:
    """The function's logits, in fp32 at least; longer vocabularies of other members end with the lead's."""
    from turnsmith.models.head import wide

    vocabulary = lead.shape[-1]
    for other, logits in others.items():
        if logits.shape[-1] < vocabulary:
            raise ModelError(_shorter(other, logits.shape[-1], name, vocabulary))
    flat = {one: wide(logits[..., :vocabulary]).reshape(-1, vocabulary) for one, logits in others.items()}
    flat[name] = wide(lead).reshape(-1, vocabulary)
    rows = lead.shape[:-1]
    numbers = {one: each.reshape(rows.numel(), *each.shape[len(rows) :]) for one, each in said.items()}
    made = function(**flat, **numbers)
    if made.shape != flat[name].shape:
        raise ModelError(
            f"the decoder gives {tuple(made.shape)} for logits of {tuple(flat[name].shape)}: it must give "
            "one number for each token of the lead's vocabulary"
        )
    return made.reshape(lead.shape)


def prove(combination: Combination) -> None:
    """Raise ModelError where a member has other tokens than the lead or fewer ids, is a combination itself,
    or where the lead lacks a head."""
    import torch

    from turnsmith.models.heads import projections

    references = {name: member.reference for name, member in combination.members.items()}
    for reference in references.values():
        refuse(reference, locate(reference))
    sizes = {name: _vocabulary(reference) for name, reference in references.items()}
    lead = combination.lead
    words = {name: load.tokenizer(reference) for name, reference in references.items()}
    known = {text: id for text, id in words[lead].get_vocab().items() if id < sizes[lead]}
    for name, other in words.items():
        if sizes[name] < sizes[lead]:
            raise ModelError(_shorter(name, sizes[name], lead, sizes[lead]))
        theirs = other.get_vocab()
        strange = next((text for text, id in known.items() if theirs.get(text) != id), None)
        if strange is not None or other(PROBE)["input_ids"] != words[lead](PROBE)["input_ids"]:
            told = f"{strange!r} is no token of both with one id" if strange else "they cut texts differently"
            raise ModelError(
                f"{name} ({references[name]}) and {lead} ({references[lead]}) have different tokenizers: "
                f"{told}. Models that decode in step share every token: take members of one family"
            )
    heads = projections(references[lead], combination.heads)
    made = torch.zeros(1, sizes[lead])  # options that make no sense are known of before anything is loaded
    said = {name: torch.zeros(1, head.out_features).squeeze(1) for name, head in heads.items()}
    mixing(combination)(made, {name: made for name in references if name != lead}, said)


def _shorter(name: str, size: int, lead: str, vocabulary: int) -> str:
    return (
        f"{name} knows {size:,} ids and {lead}, which leads, {vocabulary:,}: tokens that only one of them "
        f"knows have no common probability. Let {name} lead, or take a member with as many ids at least"
    )


def _vocabulary(reference: str) -> int:
    config = read_object(foundation(reference) / "config.json")
    found = config.get("vocab_size") or config.get("text_config", {}).get("vocab_size")
    if not isinstance(found, int):
        raise ModelError(f"{reference} does not say how many ids it knows (vocab_size in config.json)")
    return found


def _read(directory: Path) -> Combination:
    if not is_combination(directory):
        raise ModelError(f"{directory} is no combination of models: it has no {COMBINATION}")
    plain = read_object(directory / COMBINATION)
    try:
        members = {name: Member(**member) for name, member in plain.pop("members").items()}
        return Combination(**{**plain, "members": members, "heads": tuple(plain["heads"])})
    except (KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{directory / COMBINATION} is broken ({error}): combine anew") from None
