"""A recommender that is no language model: what a user is like and has said of aspects, against items."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput, CausalLMOutput

from turnsmith.errors import DataError, UsageError
from turnsmith.models.networks.llama import bytes_as_tokens, with_words
from turnsmith.registry import network

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

KIND = "turnsmith_recommender"  # `model_type` in config.json, by which `load` finds this module


@network("recommender", source="shuyangli94/convrec_botplay, bpr_user_kp.py")
def recommender(
    *, users: int, items: int, aspects: tuple[str, ...], hidden: int = 10
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Users, items and what is said of aspects, embedded in `hidden` numbers; a score is a product of two.

    It reads reviews as text in which each user (u0, u1, ...), item (i0, ...) and aspect is a token, e.g.
    `u17 i3 hoppy smooth i42 sour`. aspects: words, those that reviews name most often first. Everything else
    is read as bytes, which say nothing. Raises UsageError where a word is none, stands twice, or names a
    user or an item.
    """
    _refuse(aspects)
    words = bytes_as_tokens()
    first = len(words)
    named = [*(f"u{n}" for n in range(users)), *(f"i{n}" for n in range(items)), *aspects]
    with_words(words, named)
    config = RecommenderConfig(
        vocab_size=len(words),
        hidden_size=hidden,
        first=first,
        users=users,
        items=items,
        bos_token_id=None,
        eos_token_id=words.convert_tokens_to_ids("<|im_end|>"),
        pad_token_id=words.convert_tokens_to_ids("<|endoftext|>"),
    )
    return RecommenderForCausalLM(config), words


class RecommenderConfig(PreTrainedConfig):
    """first: the id of the first user; behind the users stand the items, then the aspects, to the end of the
    vocabulary."""

    model_type = KIND
    num_hidden_layers = 1

    def __init__(
        self,
        vocab_size: int = 262,
        hidden_size: int = 10,
        first: int = 259,
        users: int = 1,
        items: int = 1,
        initializer_range: float = 0.1,
        tie_word_embeddings: bool = False,
        **others: Any,
    ) -> None:
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.first = first
        self.users = users
        self.items = items
        self.initializer_range = initializer_range
        self.tie_word_embeddings = tie_word_embeddings
        super().__init__(**others)

    @property
    def aspects(self) -> int:
        """How many there are."""
        return self.vocab_size - self.first - self.users - self.items


class Reviews(NamedTuple):
    """What rows of reviews say, each of one user whose last review is the one that is asked for.

    user, item: (E,), of the last review. aspects: (E, K), 1 where it names one. profile: (E, K), how often
    the reviews before it name each. reviewed: (E, I), whether the row names the item, the last one included.
    """

    user: Tensor
    profile: Tensor
    item: Tensor
    aspects: Tensor
    reviewed: Tensor


class Recommender(PreTrainedModel):
    """z = gamma_u + W c + b, where c is what the user has said of each aspect; x_ui = z . gamma_i.

    As a causal model of reviews it reads each row up to each of its tokens: the state there is z of what was
    said so far, plus gamma_i where the token is an item, so that the state at an item speaks of its aspects.
    E: rows, I: items, K: aspects.
    """

    config_class = RecommenderConfig
    base_model_prefix = "model"

    def __init__(self, config: RecommenderConfig) -> None:
        super().__init__(config)
        width = config.hidden_size
        self.users = nn.Embedding(config.users, width)
        self.items = nn.Embedding(config.items, width)
        self.encoder = nn.Linear(config.aspects, width)
        self.justification = nn.Linear(width, config.aspects)
        self.embed = (_Read(self),)  # in a tuple: it has no weights of its own that would be stored twice
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.embed[0]

    def user(self, users: Tensor, critiques: Tensor) -> Tensor:
        """(E, H): z of users (E,) who have said `critiques` (E, K)."""
        return self.users(users) + self.encoder(critiques.to(self.encoder.weight.dtype))

    def scores(self, users: Tensor, critiques: Tensor) -> Tensor:
        """(E, I): x of every item."""
        return self.user(users, critiques) @ self.items.weight.T

    def justify(self, users: Tensor, critiques: Tensor, items: Tensor) -> Tensor:
        """(E, K): logits of the aspects that the user would name in a review of `items` (E,)."""
        return self.justification(self.user(users, critiques) + self.items(items))

    def reviews(self, rows: Tensor) -> Reviews:
        """What rows of ids (E, T) say; -1 behind their end.

        Raises DataError where a row does not name one user and an item.
        """
        known = self.config
        named = rows - known.first
        user, item = named.clamp(0, known.users), (named - known.users).clamp(-1, known.items)
        is_user = (named >= 0) & (named < known.users)
        is_item = (item >= 0) & (item < known.items)
        wrong = ((is_user.sum(1) != 1) | ~is_item.any(1)).nonzero()
        if len(wrong):
            raise DataError(
                f"row {int(wrong[0])} of a step names {int(is_user[wrong[0]].sum())} users and "
                f"{int(is_item[wrong[0]].sum())} items: each has to be a text such as "
                "'u17 i3 hoppy i42 sour', of one user, who is known to the network, and reviews"
            )
        place = torch.arange(rows.shape[1], device=rows.device)
        last = (place * is_item).max(1).values
        aspect = named - known.users - known.items
        before = place < last[:, None]
        return Reviews(
            user=(user * is_user).sum(1),
            item=item.gather(1, last[:, None])[:, 0],
            profile=_counted(aspect, (aspect >= 0) & before, known.aspects),
            aspects=_counted(aspect, (aspect >= 0) & ~before, known.aspects).clamp(max=1),
            reviewed=_counted(item, is_item, known.items) > 0,
        )

    def forward(
        self, input_ids: Tensor | None = None, inputs_embeds: Tensor | None = None, **unneeded: Any
    ) -> BaseModelOutput:
        """(B, T) ids to (B, T, H). Raises NotImplementedError for embeddings: they do not say what is an
        item."""
        if input_ids is None or inputs_embeds is not None:
            raise NotImplementedError("a recommender reads ids")
        embeds = self.embed[0](input_ids)
        first = self.config.first + self.config.users
        item = ((input_ids >= first) & (input_ids < first + self.config.items))[..., None]
        said = embeds.masked_fill(item, 0).cumsum(1) + self.encoder.bias
        return BaseModelOutput(last_hidden_state=torch.where(item, said + embeds, said))


class RecommenderForCausalLM(PreTrainedModel):
    """Logits of the item, or aspect, that comes next; 0 of tokens that are neither."""

    config_class = RecommenderConfig
    base_model_prefix = "model"

    def __init__(self, config: RecommenderConfig) -> None:
        super().__init__(config)
        self.model = Recommender(config)
        self.head = (_Said(self.model),)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.model.get_input_embeddings()

    def get_output_embeddings(self) -> nn.Module:
        return self.head[0]

    def forward(
        self,
        input_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        logits_to_keep: int = 0,
        **unneeded: Any,
    ) -> CausalLMOutput:
        """(B, T) ids to logits (B, T, V), or those of the last `logits_to_keep`."""
        states = self.model(input_ids=input_ids).last_hidden_state
        return CausalLMOutput(logits=self.head[0](states[:, -logits_to_keep:]))


class _Read(nn.Module):
    """The embeddings of all tokens, made of those of users, items and aspects."""

    def __init__(self, of: Recommender) -> None:
        super().__init__()
        self.of = (of,)

    @property
    def weight(self) -> Tensor:
        """(V, H)."""
        (of,) = self.of
        none = of.items.weight.new_zeros(of.config.first, of.config.hidden_size)
        return torch.cat([none, of.users.weight, of.items.weight, of.encoder.weight.T])

    def forward(self, ids: Tensor) -> Tensor:
        """(..., H)."""
        return F.embedding(ids, self.weight)


class _Said(nn.Module):
    """The output projection: items by their embeddings, aspects by the justification."""

    def __init__(self, of: Recommender) -> None:
        super().__init__()
        self.of = (of,)

    @property
    def weight(self) -> Tensor:
        """(V, H)."""
        (of,) = self.of
        none = of.items.weight.new_zeros(of.config.first + of.config.users, of.config.hidden_size)
        return torch.cat([none, of.items.weight, of.justification.weight])

    def forward(self, states: Tensor) -> Tensor:
        """(..., H) to (..., V)."""
        (of,) = self.of
        bias = F.pad(of.justification.bias, (of.config.vocab_size - of.config.aspects, 0))
        return F.linear(states, self.weight, bias)


def criticised(critiques: Tensor, aspects: Tensor, *, sign: int) -> Tensor:
    """What a user has said of aspects, after a critique of those where `aspects` (E, K) is True.

    sign: 1 for more of it, -1 for less. c + sign * max(c, 1): less of what was said 3 times is 0, of what
    was never said -1. Gives new counts (E, K).
    """
    return torch.where(aspects, critiques + sign * critiques.clamp(min=1), critiques)


def recommender_of(model: nn.Module, what: str) -> Recommender:
    """The recommender in a model. Raises UsageError, which says that `what` needs one, where it is another
    model."""
    found = model if isinstance(model, Recommender) else getattr(model, "model", None)
    if isinstance(found, Recommender):
        return found
    raise UsageError(
        f"{what} is for recommenders, and this model is a {type(model).__name__}: start from "
        "`base: {recommender: {users: ..., items: ..., aspects: [...]}}`"
    )


def _counted(numbers: Tensor, which: Tensor, size: int) -> Tensor:
    """(E, size): how often each number stands in a row of `numbers` (E, T), where `which` is True."""
    counts = torch.zeros(len(numbers), size, device=numbers.device)
    return counts.scatter_add(1, numbers.clamp(0, size - 1), which.to(counts.dtype))


def _refuse(aspects: Sequence[str]) -> None:
    for place, word in enumerate(aspects):
        if not re.fullmatch(r"[^\W\d_]+", word) or word in aspects[:place]:
            raise UsageError(f"recommender: the aspect {word!r} is no word of letters, or stands there twice")
    if not aspects:
        raise UsageError("recommender: name the aspects that reviews speak of")


AutoConfig.register(KIND, RecommenderConfig)
AutoModel.register(RecommenderConfig, Recommender)
AutoModelForCausalLM.register(RecommenderConfig, RecommenderForCausalLM)
