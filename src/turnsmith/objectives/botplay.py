"""A recommender learns from reviews, and from conversations that it holds with a scripted seeker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from turnsmith.models.networks.recommender import Recommender, criticised, recommender_of
from turnsmith.registry import objective
from turnsmith.types import Loss, Run

Behaviour = Literal["coop", "random", "diff"]
Feedback = Literal["negative", "positive", "both"]
SIGNS: dict[str, tuple[int, ...]] = {"negative": (-1,), "positive": (1,), "both": (-1, 1)}


@objective("bpr", per="example", network="recommender", source="shuyangli94/convrec_botplay, bpr_user_kp.py")
def bpr(model: nn.Module, run: Run, *, aspects: float = 0.5) -> Loss:
    """A reviewed item above one that the user has not reviewed, and what the review says of aspects.

    -log sigmoid(x_ui - x_uj) + aspects * BCE(justification of u and i, aspects of the review), with j drawn
    anew each time, c what the user's other reviews of the row name, and the BCE a mean over all aspects.
    aspects: the paper's lambda_KP. Gives (E,). Raises ValueError where a user has reviewed every item.
    """
    recommender = recommender_of(model, "bpr")
    seen = recommender.reviews(run.rows())
    if bool(seen.reviewed.all(1).any()):
        raise ValueError("bpr: a user has reviewed every item, so that none is left to be ranked below")
    scores = recommender.scores(seen.user, seen.profile)
    drawn = run.uniform("another item", scores.shape[1])
    other = drawn.masked_fill(seen.reviewed, -1.0).argmax(1)
    margin = (_at(scores, seen.item) - _at(scores, other)).float()
    said = _said(recommender.justify(seen.user, seen.profile, seen.item), seen.aspects)
    metrics = {"accuracy": (margin > 0).float(), "aspects": said}
    return Loss(-F.logsigmoid(margin) + aspects * said, metrics)


@objective("bot_play", per="example", network="recommender", source="shuyangli94/convrec_botplay, ft_proj.py")
def bot_play(
    model: nn.Module,
    run: Run,
    *,
    turns: int = 5,
    discount: float = 0.9,
    aspects: float = 0.0,
    seeker: Literal["coop", "random", "diff"] = "coop",
    feedback: Literal["negative", "positive", "both"] = "negative",
    critiques: int = 1,
) -> Loss:
    """In conversations with a seeker who wants the reviewed item: its cross-entropy among all items at each
    turn, discounted by turns.

    sum over t < turns - 1 of discount**t * (CE(scores from c_t, item) + aspects * BCE(justification of what
    is recommended, aspects of the review)). The last turn has no term, as in the authors' code. What is
    recommended is the best item, reviewed ones too; what the seeker is shown are aspects drawn from its
    justification; `seeker`, `feedback` and `critiques` (at each turn, of a sign) are as of `Seeker`, who
    knows the aspects of the review alone. Who is recommended the item criticises no more, though its terms go
    on. Gradients go through the scores of each turn, none through what was drawn or criticised. Gives (E,).
    Raises ValueError for fewer than two turns, and unless 0 <= discount <= 1.
    """
    if turns < 2:
        raise ValueError(f"bot_play: of {turns} turns none has a loss term, as the last one has none: take 2")
    if not 0 <= discount <= 1:
        raise ValueError(f"bot_play: discount is {discount}, and has to be between 0 and 1")
    recommender = recommender_of(model, "bot_play")
    seen = recommender.reviews(run.rows())
    size = recommender.config.aspects
    asking = Seeker(seeker, feedback, critiques)
    talk = Talk.begun(seen.item, seen.aspects > 0, seen.profile)
    values = torch.zeros(len(seen.item), device=seen.item.device)
    for turn in range(turns - 1):
        scores = recommender.scores(seen.user, talk.critiques).float()
        best = scores.argmax(1)
        term = F.cross_entropy(scores, seen.item, reduction="none")
        if aspects:
            term = term + aspects * _said(recommender.justify(seen.user, talk.critiques, best), seen.aspects)
        values = values + discount**turn * term
        drawn = run.uniform(f"turn {turn}", DRAWS, size)
        talk = asking.answered(recommender, seen.user, talk, best, drawn)
    return Loss(values, {"found": talk.found.float()})


# -------------------------------------------------------------------------------------- the seeker

DRAWS = 3  # rows of random numbers in a turn: what is shown, and what is criticised of each sign


@dataclass(frozen=True, slots=True)
class Talk:
    """E conversations between two turns.

    item: (E,), what the seekers want. wanted: (E, K), whether they know it to have each aspect. critiques:
    (E, K), the recommender's c. named: (E, K), what was criticised so far. found: (E,), whether the item was
    recommended.
    """

    item: Tensor
    wanted: Tensor
    critiques: Tensor
    named: Tensor
    found: Tensor

    @classmethod
    def begun(cls, item: Tensor, wanted: Tensor, profile: Tensor) -> Talk:
        """Before the first turn."""
        none = torch.zeros_like(wanted)
        return cls(item, wanted, profile, none, none[:, 0])


@dataclass(frozen=True, slots=True)
class Seeker:
    """Who wants an item and says what is wrong with another one.

    feedback: `negative` names aspects that are shown and not wanted, `positive` those that are wanted and not
    shown. None is named twice. behaviour: which of these, `coop` the one that reviews name most often (the
    first in the vocabulary), `diff` the one in which the two items differ most, `random` any. critiques: how
    many of each sign at a turn.

    How often reviews name an aspect of an item is taken from the recommender, whose justification has learnt
    that; the authors count reviews.
    """

    behaviour: Behaviour = "coop"
    feedback: Feedback = "negative"
    critiques: int = 1

    def __post_init__(self) -> None:
        if self.behaviour not in ("coop", "random", "diff") or self.feedback not in SIGNS:
            raise ValueError(f"no seeker is {self.behaviour!r} with {self.feedback!r} feedback")
        if self.critiques < 1:
            raise ValueError(f"a seeker names {self.critiques} aspects at a turn: at least 1 is needed")

    @torch.no_grad()
    def answered(
        self, recommender: Recommender, users: Tensor, talk: Talk, best: Tensor, drawn: Tensor
    ) -> Talk:
        """The conversations after the items `best` (E,) were recommended. drawn: (E, DRAWS, K), from 0 to 1,
        what each turn draws anew."""
        likely = recommender.justify(users, talk.critiques, best).sigmoid()
        shown = drawn[:, 0] < likely
        found = talk.found | (best == talk.item)
        critiques, named = talk.critiques, talk.named
        for number, sign in enumerate(SIGNS[self.feedback], start=1):
            wrong = (shown & ~talk.wanted) if sign < 0 else (talk.wanted & ~shown)
            open_to = wrong & ~named & ~found[:, None]
            if self.behaviour == "diff":
                between = likely - recommender.justify(users, talk.critiques, talk.item).sigmoid()
                order = between if sign < 0 else -between
            else:
                order = drawn[:, number] if self.behaviour == "random" else _earlier(likely)
            chosen = _first(order, open_to, self.critiques)
            critiques, named = criticised(critiques, chosen, sign=sign), named | chosen
        return Talk(talk.item, talk.wanted, critiques, named, found)


def _earlier(like: Tensor) -> Tensor:
    """(E, K): higher for what stands earlier in the vocabulary."""
    return -torch.arange(like.shape[1], device=like.device).expand_as(like).to(like.dtype)


def _first(order: Tensor, among: Tensor, count: int) -> Tensor:
    """(E, K): the `count` highest of `order` where `among` is True, or as many as there are."""
    ranked = order.masked_fill(~among, -torch.inf)
    top = ranked.topk(min(count, ranked.shape[1]), dim=1).indices
    return torch.zeros_like(among).scatter(1, top, torch.ones_like(top, dtype=torch.bool)) & among


def _at(scores: Tensor, items: Tensor) -> Tensor:
    return scores.gather(1, items[:, None])[:, 0]


def _said(logits: Tensor, aspects: Tensor) -> Tensor:
    """(E,): the binary cross-entropy of each row, a mean over aspects."""
    return F.binary_cross_entropy_with_logits(logits.float(), aspects, reduction="none").mean(1)
