"""The nouns of Turnsmith: what is read, rendered, batched, scored and said.

Shapes: `T` tokens of a sequence, `N` trained tokens of a batch, `D` distinct trained tokens (a token that
several paths share counts once), `P` paths, `E` examples, `S` segments, `H` hidden, `V` vocabulary.

Importing this module costs nothing: torch and numpy are needed by type checkers only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeAlias, TypeGuard

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from turnsmith.models.forest import Forest

    Ints: TypeAlias = np.ndarray[tuple[int], np.dtype[np.int32]]
    Floats: TypeAlias = np.ndarray[tuple[int], np.dtype[np.float32]]

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"
Role = Literal["system", "user", "assistant", "tool", "text"]
ROLES: tuple[Role, ...] = ("system", "user", "assistant", "tool", "text")
IMAGE = "\ufdd3"  # where an image stands in what is said: a noncharacter of Unicode, which no text may hold
Finish = Literal["stop", "length", "cancelled", "stuck"]
Train = Literal["assistant", "last", "turn", "user", "calls", "all"]  # what learns
# Of a path: the state of its first or last token, the mean of its trained tokens'.
Read = Literal["first", "last", "mean"]
# Of a head: how many numbers it gives for a trained token, or one for each id; either with "mlp" before it,
# behind a hidden layer; or how many for a read-out, as it is or behind two layers that narrow it.
Narrow: TypeAlias = "tuple[Read, Literal['narrow'], int]"
Size: TypeAlias = (
    "int | Literal['vocab'] | tuple[Read | Literal['mlp', 'own'], int | Literal['vocab']] | Narrow"
)


def is_object(value: object) -> TypeGuard[dict[Any, Any]]:
    """Whether a value that came out of JSON or YAML is an object, said to the type checker too."""
    return isinstance(value, dict)


def is_list(value: object) -> TypeGuard[list[Any]]:
    """Whether a value that came out of JSON or YAML is a list, said to the type checker too."""
    return isinstance(value, list)


# ----------------------------------------------------------------------------------- what is said


@dataclass(frozen=True, slots=True)
class Span:
    """Characters `start:end` of a message's content, with the loss weight of the tokens wholly inside."""

    start: int
    end: int
    weight: float


@dataclass(frozen=True, slots=True)
class Image:
    """A picture in a message. url: a path, or a `data:` URI that holds it. digest: the sha256 of its file, by
    which it is known wherever it lies."""

    url: str
    digest: str


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a tool. id: what the answering `tool` message names as its `call_id`."""

    name: str
    arguments: Mapping[str, Json]
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """One message. Role `text` is raw: no template, no stop token, may be cut anywhere.

    weight: of the loss on this message's tokens; None leaves it to the training policy.
    spans: weights of parts of the content, over `weight`.
    fields: further keys that the chat template may read.
    ids, logprobs: the tokens as they were sampled, and their log-probabilities under the distribution that
    they were sampled from. `ids` are used verbatim when the conversation is rendered again.
    calls: tools that an assistant message calls. call_id: in a tool message, which call it answers. name: of
    the speaker or tool. thinking: what the assistant thought before it spoke; None where nothing is known.
    images: those that stand where the content has IMAGE, in their order; no other content has that.
    """

    role: Role
    content: str
    weight: float | None = None
    spans: tuple[Span, ...] = ()
    fields: Mapping[str, Json] = field(default_factory=dict[str, Json])
    ids: tuple[int, ...] | None = None
    logprobs: tuple[float, ...] | None = None
    calls: tuple[Call, ...] = ()
    call_id: str | None = None
    name: str | None = None
    thinking: str | None = None
    images: tuple[Image, ...] = ()


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages in order. tools: the schemas of the tools that may be called."""

    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, Json], ...] = ()

    def then(self, *messages: Message) -> Conversation:
        """This conversation, continued."""
        return replace(self, messages=(*self.messages, *messages))

    def upto(self, stop: int) -> Conversation:
        """The messages before index `stop`; negative counts from the end, as in slices."""
        return replace(self, messages=self.messages[:stop])

    @property
    def answers(self) -> tuple[int, ...]:
        """The places of the assistant's messages that something stands before.

        >>> said = (Message("assistant", "Hi"), Message("user", "2 + 2?"), Message("assistant", "4"))
        >>> Conversation(said).answers
        (2,)
        """
        return tuple(at for at, one in enumerate(self.messages) if at and one.role == "assistant")

    @property
    def opening(self) -> Conversation:
        """All before the last assistant message: what a model is asked to answer. Empty if there is none."""
        return self.upto(self.answers[-1] if self.answers else 0)


Part: TypeAlias = "Conversation | tuple[Conversation, ...]"
Value: TypeAlias = "float | tuple[float, ...]"  # of an example, or of each of its several conversations


@dataclass(frozen=True, slots=True)
class Example:
    """What one row of data became.

    parts: named conversations, e.g. `text`, or `chosen` and `rejected`, or `replies` (several).
    values: numbers that objectives may read, e.g. ratings or returns; a tuple has one for each conversation
    of the part that has several.
    meta: everything else of the row; `id` is always there.
    """

    parts: Mapping[str, Part]
    values: Mapping[str, Value] = field(default_factory=dict[str, Value])
    meta: Mapping[str, Json] = field(default_factory=dict[str, Json])

    @property
    def id(self) -> str:
        return str(self.meta.get("id", "?"))

    def replaced(self, **parts: Part) -> Example:
        """The same example with some parts exchanged."""
        return replace(self, parts={**self.parts, **parts})


# ---------------------------------------------------------------------------- what is computed with


@dataclass(frozen=True, slots=True, eq=False)
class Tokens:
    """A conversation as token ids with weights. All arrays have length T.

    inputs: what the model reads. targets: what it should predict; they differ only after a view.
    weights: loss weight of `targets[i]`, predicted from the state at i - 1; weights[0] is 0. A weight counts
    in the denominator; an advantage does not and is an extra.
    turns: index of the message that the token belongs to.
    extras: further numbers per token, e.g. `reference` log-probs. crossing: how many tokens got the weight 0
    since they lie across the border of two weights. beside: the same conversation as it is for other models
    that are scored in step with this one, by name. forgets: how large a share of earlier tokens each token
    does not see, and the seed of the draw; None: it sees all. Views set it.
    """

    inputs: Ints
    targets: Ints
    weights: Floats
    turns: Ints
    extras: Mapping[str, Floats] = field(default_factory=dict[str, "Floats"])
    crossing: int = 0
    beside: Mapping[str, Tokens] = field(default_factory=dict[str, "Tokens"])
    forgets: tuple[float, int] | None = None

    def __len__(self) -> int:
        return len(self.inputs)

    def cut(self, stop: int) -> Tokens:
        """The first `stop` tokens; of the other forms, up to the last of as many that learn."""
        extras = {name: values[:stop] for name, values in self.extras.items()}
        kept = (self.inputs[:stop], self.targets[:stop], self.weights[:stop], self.turns[:stop])
        learn = int((self.weights[:stop] != 0).sum())
        beside = {name: one.cut(_through(one, learn)) for name, one in self.beside.items()}
        return Tokens(*kept, extras, self.crossing, beside, self.forgets)


def _through(tokens: Tokens, count: int) -> int:
    """How many tokens there are up to the last of the first `count` that learn."""
    return int(tokens.weights.nonzero()[0][count - 1]) + 1 if count else 0


@dataclass(frozen=True, slots=True)
class Sight:
    """One look of the model at an example, for a view.

    rng: keyed by seed, step and place in the window. step: from 0, of `total`. vocabulary: ids that the model
    knows. ids: of the tokens that the view's options name.
    """

    rng: np.random.Generator
    step: int
    total: int
    vocabulary: int
    ids: Mapping[str, int] = field(default_factory=dict[str, int])


class Path(NamedTuple):
    """Which conversation a path through the forest is: part `part`, number `number`, of example `example`."""

    example: int
    part: str
    number: int


@dataclass(frozen=True, slots=True, eq=False)
class Rendered:
    """An example ready for training: its parts as tokens."""

    id: str
    parts: Mapping[str, tuple[Tokens, ...]]
    values: Mapping[str, Value] = field(default_factory=dict[str, Value])


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """A micro-batch. Only `models/score.py` knows whether its rows are packed or padded.

    inputs, positions: (B, T). forest: the segments of the one packed row, or None where rows are padded on
    the right, `mask` (B, T) being 1 on real tokens. source: (D,) flat index of the state that predicts each
    distinct trained token; targets: (D,).
    entry: (N,) which of the D each trained token is. place: (N,) flat index of the trained token itself.
    weights, turns, path, extras: (N,). reads: (P,) flat index of each path's last token. values: (E,), or
    (S,), one for each path of the part that has several. ids: of the E examples. beside: the
    same in the form of other models, see `Tokens`.
    """

    inputs: Tensor
    positions: Tensor
    forest: Forest | None
    mask: Tensor | None
    source: Tensor
    targets: Tensor
    entry: Tensor
    place: Tensor
    weights: Tensor
    turns: Tensor
    path: Tensor
    reads: Tensor
    paths: tuple[Path, ...]
    ids: tuple[str, ...]
    values: Mapping[str, Tensor] = field(default_factory=dict[str, "Tensor"])
    extras: Mapping[str, Tensor] = field(default_factory=dict[str, "Tensor"])
    beside: Mapping[str, Batch] = field(default_factory=dict[str, "Batch"])

    @property
    def slots(self) -> int:
        """Token positions that are computed, padding included."""
        return int(self.inputs.numel())

    @property
    def tokens(self) -> int:
        """Real tokens that are computed."""
        return self.slots if self.mask is None else int(self.mask.sum())


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """What an objective sees: trained tokens, read-outs and heads; never the layout.

    logprobs, weights, turns, path, reference: (N,). A token shared by several paths occurs once for each.
    logprobs are nan where the objective does not ask for words. values: (E,), or (S,) of tuples, in the order
    of `sums` of their part. extras: (N, ...). reduced: (N,), computed over the vocabulary at each trained
    token. read: (P, H), `first`, `last` or `mean` of each path. temperature: what the logits were divided by.
    heads: (N,), or (N, n) of a head that gives n numbers; of one over the vocabulary what it says of the
    token that came; read before each token, or, of one on its `own` state, behind it. (P,) or (P, n) of one
    on a read-out. The copy that follows a head is NAME_target. apart: (P,), how far states or attention are
    from those of another model, see `models/layers.py`. others: what the heads of other models say, by the
    name of the model and of the head.
    """

    logprobs: Tensor
    weights: Tensor
    turns: Tensor
    path: Tensor
    paths: tuple[Path, ...]
    examples: int
    reference: Tensor | None = None
    values: Mapping[str, Tensor] = field(default_factory=dict[str, "Tensor"])
    extras: Mapping[str, Tensor] = field(default_factory=dict[str, "Tensor"])
    read: Mapping[str, Tensor] = field(default_factory=dict[str, "Tensor"])
    heads: Mapping[str, Tensor] = field(default_factory=dict[str, "Tensor"])
    reduced: Mapping[str, Tensor] = field(default_factory=dict[str, "Tensor"])
    temperature: float = 1.0
    apart: Mapping[str, Tensor] = field(default_factory=dict[str, "Tensor"])
    others: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict[str, "Mapping[str, Tensor]"])

    def along(self, part: str, what: Tensor) -> Tensor:
        """Weighted sums of `what` (N,) over each path of `part`: (S,), in the order of the paths."""
        sums = what.new_zeros(len(self.paths)).index_add(0, self.path, what * self.weights)
        return sums[self._of(part)]

    def sums(self, part: str) -> Tensor:
        """Weighted sums of the log-probs over each path of `part`: (S,)."""
        return self.along(part, self.logprobs)

    def lengths(self, part: str) -> Tensor:
        """How many tokens of each path of `part` are trained, by their weights: (S,)."""
        return self.along(part, self.weights.new_ones(len(self.weights)))

    def means(self, part: str) -> Tensor:
        """Weighted means of the log-probs over each path of `part`: (S,); 0 where nothing is trained."""
        return self.sums(part) / self.lengths(part).clamp_min(1e-9)

    def ratio(self, part: str) -> Tensor:
        """Weighted sums of log-prob minus reference log-prob over each path of `part`: (S,)."""
        if self.reference is None:
            raise ValueError("this objective needs reference log-probs: declare reference=True")
        return self.along(part, self.logprobs - self.reference)

    def of(self, part: str, what: Tensor) -> Tensor:
        """Those of `what` (P, ...), one for each path, that are of `part`: (S, ...)."""
        return what[self._of(part)]

    def owner(self, part: str) -> Tensor:
        """Which example each path of `part` belongs to: (S,)."""
        owners = [self.paths[i].example for i in self._of(part)]
        return self.path.new_tensor(owners)

    @property
    def owners(self) -> Tensor:
        """Which example each trained token belongs to: (N,)."""
        return self.path.new_tensor([path.example for path in self.paths])[self.path]

    def per_example(self, owner: Tensor, what: Tensor) -> Tensor:
        """Sums of `what` (K,) over the examples that each belongs to, which are numbered by `owner` (K,):
        (E,)."""
        return what.new_zeros(self.examples).index_add(0, owner, what)

    def _of(self, part: str) -> list[int]:
        found = [i for i, path in enumerate(self.paths) if path.part == part]
        if not found:
            there = sorted({path.part for path in self.paths})
            raise KeyError(f"no part {part!r} in this batch; it has {', '.join(there)}")
        return found


class Run(Protocol):
    """A model and a batch, for objectives that need more than one pass or other inputs than the batch's.

    inputs: (B, T), the ids that are read. place: (N,), where each trained token itself stands in the B * T
    slots. position: (N,), its position in its path.
    """

    inputs: Tensor
    place: Tensor
    position: Tensor

    def __call__(
        self, embeds: Tensor | None = None, *, needs: Sequence[str] = (), gradients: bool = True
    ) -> Scores:
        """Scores of the batch. embeds: (B, T, H), read in place of the embeddings of `inputs`; needs: as an
        objective declares them; gradients: whether the pass is remembered for a backward pass."""
        ...

    def table(self, ids: Tensor) -> Tensor:
        """(..., H): the input embeddings of ids, without a gradient."""
        ...

    def rows(self) -> Tensor:
        """(P, T): the ids of each path, -1 behind its end, however the batch is laid out."""
        ...

    def uniform(self, purpose: str, *size: int) -> Tensor:
        """(E, *size): numbers from [0, 1), which depend on the step's seed, the example and the purpose, not
        on what else is in the batch."""
        ...


class Look(Protocol):
    """What an objective may look at before step `step`, from 0, of `total`, which will have the rate `lr`.

    window: the examples of the step.
    """

    window: Sequence[Rendered]
    step: int
    total: int
    lr: float

    def beside(self, name: str, count: int) -> Sequence[Rendered]:
        """So many examples of the data that are beside those of the step under this name, others each step;
        all of them where there are no more."""
        ...

    def gradient(self, examples: Sequence[Rendered]) -> Sequence[Tensor]:
        """Of the mean of the objective's losses on these examples, without dropout: a tensor for each
        parameter that learns. Weights, their gradients and random numbers stay as they are."""
        ...

    def each(self, examples: Sequence[Rendered], read: Callable[[Scores], Tensor]) -> Tensor:
        """What `read` makes of their scores under the model and the step's start, which has to be live: of
        some at a time (E, ...), of all in their order (len(examples), ...). They need not be of the data.
        Without gradients or dropout."""
        ...


class Loss(NamedTuple):
    """Losses per unit, unreduced, and metrics per unit. The loop weights, sums and divides; no gradient goes
    through metrics."""

    values: Tensor
    metrics: Mapping[str, Tensor] = {}


# ------------------------------------------------------------------------------- what is sampled


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn; what is not given is off.

    temperature: 0 is greedy. top_p, top_k, min_p: what is kept of the distribution, in that order: the most
    probable k, of those the smallest set with that share, of those what has at least min_p times the
    probability of the most probable one. repetition_penalty divides the logits above 0, and multiplies those
    below, of tokens that prompt or reply have; frequency_penalty is taken off for each time that the reply
    has a token, presence_penalty once. max_new, min_new: tokens of a reply, its stop token included. stop:
    texts that end a reply and are no part of it. schema: a JSON schema that the reply keeps to; grammar: one
    in Lark's notation. prefill: how the reply begins.
    Raises ValueError where a number is out of range or both a schema and a grammar are given.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    max_new: int = 128
    min_p: float = 0.0
    min_new: int = 0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    stop: tuple[str, ...] = ()
    schema: Mapping[str, Json] | None = None
    grammar: str | None = None
    prefill: str = ""

    def __post_init__(self) -> None:
        right = (
            self.temperature >= 0
            and 0 < self.top_p <= 1
            and self.top_k >= 0
            and 0 <= self.min_p <= 1
            and 0 <= self.min_new <= self.max_new
            and self.max_new >= 1
            and self.repetition_penalty > 0
        )
        if not right:
            raise ValueError(f"sampling is out of range: {self}")
        if "" in self.stop:
            raise ValueError("an empty text to stop at would end every reply before it begins")
        if self.schema is not None and self.grammar is not None:
            raise ValueError("a reply keeps to a schema or to a grammar: give one of the two")


Best: TypeAlias = tuple[tuple[int, float], ...]  # ids and log-probs, the most probable first


@dataclass(frozen=True, slots=True)
class Completion:
    """Sampled tokens (the stop token included when there is one) and their log-probs at the temperature.

    best: of each place, the ids that were most probable there and their log-probs, where these were asked
    for, before penalties and any truncation.
    """

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish: Finish
    best: tuple[Best, ...] = ()


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens read and written, counted on ids."""

    prompt: int
    completion: int


@dataclass(frozen=True, slots=True)
class Reply:
    """What a chat answered."""

    message: Message
    finish: Finish
    usage: Usage

    @classmethod
    def scripted(cls, text: str) -> Reply:
        """This text, as one says it who draws no tokens."""
        return cls(Message("assistant", text), "stop", Usage(0, 0))


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a chat could not answer one conversation; the others are not touched."""

    reason: str


class Engine(Protocol):
    """Draws tokens. One seed per prompt: a completion does not depend on what else is in the batch."""

    def generate(
        self, prompts: Sequence[Sequence[int]], *, sampling: Sampling, seeds: Sequence[int]
    ) -> list[Completion]: ...


class Chat(Protocol):
    """Answers conversations; a model, a user simulator, a guard and an agent are all chats."""

    def __call__(
        self, conversations: Sequence[Conversation], *, sampling: Sampling | None = None, seed: int = 0
    ) -> list[Reply | Failure]: ...


# ------------------------------------------------------------------------------ kinds of components

Mask: TypeAlias = "Mapping[str, bool | Tensor]"
Examples: TypeAlias = "Sequence[Example]"  # that a name of data stands for
Stage: TypeAlias = "Callable[[Sequence[Example]], Iterable[Example]]"
View: TypeAlias = "Callable[[Tokens, Sight], Tokens]"
Score: TypeAlias = "float | None"  # None: could not be judged, never a silent 0
Scorer: TypeAlias = "Callable[[Sequence[Conversation], Sequence[Example]], list[Score]]"
