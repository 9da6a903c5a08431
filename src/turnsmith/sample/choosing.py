"""From logits to the ids that are drawn, and their log-probs before anything was taken away."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from turnsmith.errors import ModelError
from turnsmith.models.head import wide
from turnsmith.types import Best, Sampling

SLAB = 4 * 2**20  # bytes of fp32 logits that are worked on at once: they then stay in a core's cache
OFF = (1.0, 0.0, 0.0)  # repetition, frequency and presence penalty that change nothing
CANDIDATES = 256  # most top-p sets are smaller; sorting a whole vocabulary takes as long as a forward pass


def choose(
    logits: Tensor, uniforms: Tensor, samplings: Sequence[Sampling], adjusted: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The next id (B,) of each row of `logits` (B, V), and its log-prob (B,) at the temperature.

    samplings: of each row its own. uniforms: (B,) in [0, 1), not read at temperature 0. adjusted: (B, V), the
    logits after penalties and with -inf for what may not come; ids are drawn from these, log-probs are those
    of `logits`. Raises ModelError where the logits are no numbers.
    """
    alike: dict[tuple[float, ...], list[int]] = {}
    for row, one in enumerate(samplings):
        alike.setdefault((one.temperature, one.top_p, one.top_k, one.min_p), []).append(row)
    if len(alike) > 1:
        ids = torch.empty(len(logits), dtype=torch.long, device=logits.device)
        logprobs = torch.empty(len(logits), device=logits.device, dtype=wide(logits[:0]).dtype)
        for rows in alike.values():
            own = None if adjusted is None else adjusted[rows]
            ids[rows], logprobs[rows] = choose(
                logits[rows], uniforms[rows], [samplings[row] for row in rows], own
            )
        return ids, logprobs
    sampling = samplings[0]
    height = max(1, SLAB // (4 * logits.shape[1]))
    parts = [
        logits.split(height),
        uniforms.split(height),
        (logits if adjusted is None else adjusted).split(height),
    ]
    chosen = [
        _choose(part, uniform, sampling, None if adjusted is None else other)
        for part, uniform, other in zip(*parts, strict=True)
    ]
    return torch.cat([ids for ids, _ in chosen]), torch.cat([logprobs for _, logprobs in chosen])


def _choose(
    logits: Tensor, uniforms: Tensor, sampling: Sampling, adjusted: Tensor | None
) -> tuple[Tensor, Tensor]:
    logprobs = _logprobs(logits, sampling)
    best, ids = logprobs.max(1)
    if not bool(best.isfinite().all()):
        raise ModelError(
            "the model's logits are no numbers: are its weights broken, or its dtype too narrow?"
        )
    of = logprobs
    if adjusted is not None:
        of = _logprobs(adjusted, sampling)
        ids = of.argmax(1)
    if sampling.temperature > 0:
        ids = draw(truncated(of, sampling), uniforms)
    return ids, logprobs.gather(1, ids[:, None])[:, 0]


def likeliest(logits: Tensor, samplings: Sequence[Sampling], counts: Sequence[int]) -> list[Best]:
    """Of each row of `logits` (B, V) the `counts` most probable ids and their log-probs at its temperature,
    the same numbers as `choose` gives for the id that it draws; none where the count is 0."""
    found: list[Best] = [()] * len(counts)
    for row, count in enumerate(counts):
        if count:
            own = _logprobs(logits[row : row + 1], samplings[row])[0]
            best, ids = own.topk(min(count, len(own)))
            found[row] = tuple(zip(ids.tolist(), best.tolist(), strict=True))
    return found


def _logprobs(logits: Tensor, sampling: Sampling) -> Tensor:
    """At the temperature, in fp32 at least."""
    return (wide(logits) / (sampling.temperature or 1.0)).log_softmax(1)


def truncated(logprobs: Tensor, sampling: Sampling) -> Tensor:
    """Probabilities (B, V), 0 outside of the top-k, of those outside of the top-p set, of those below min-p;
    not normalised.

    The top-p set is the smallest one of most probable tokens whose share is at least top_p; min_p is a share
    of the highest probability. Source: Holtzman et al. 2020, eq. 2 and 3; arXiv:2407.01082 eq. 2.
    """
    vocabulary = logprobs.shape[1]
    if sampling.top_p == 1 and not 0 < sampling.top_k < vocabulary:
        found = logprobs.exp()
        if sampling.min_p:
            found = found.where(found >= sampling.min_p * found.amax(1, keepdim=True), 0.0)
        return found
    width = min(vocabulary, sampling.top_k or CANDIDATES)
    best, ids = logprobs.topk(width, dim=1)
    while not sampling.top_k and width < vocabulary and bool((best.exp().sum(1) < sampling.top_p).any()):
        width = min(vocabulary, 16 * width)
        best, ids = logprobs.topk(width, dim=1)
    best = best.exp()
    total = best.sum(1, keepdim=True) if sampling.top_k else 1.0
    if sampling.top_p < 1:
        best = best.where(best.cumsum(1) - best < sampling.top_p * total, 0.0)
    if sampling.min_p:
        best = best.where(best >= sampling.min_p * best[:, :1], 0.0)
    return torch.zeros_like(logprobs).scatter_(1, ids, best)


def draw(probabilities: Tensor, uniforms: Tensor) -> Tensor:
    """Ids (B,): the inverse of the distribution function at `uniforms` (B,) in [0, 1).

    probabilities: (B, V), not normalised. The function runs in the order of the vocabulary, not of the
    probabilities: where two of them are nearly equal, rounding would exchange their places.
    """
    edges = probabilities.cumsum(1)
    return torch.searchsorted(edges, uniforms[:, None] * edges[:, -1:], right=True)[:, 0]


class Penalties:
    """Which tokens each row's prompt and reply have, how often its reply has them, and what that does by the
    row's own sampling.

    Source: repetition arXiv:1909.05858 sec. 4.1, over prompt and reply; frequency and presence as OpenAI's
    API has them, over the reply.
    """

    def __init__(self, rows: int, vocabulary: int, device: torch.device) -> None:
        self.seen = torch.zeros(rows, vocabulary, dtype=torch.bool, device=device)
        self.counts = torch.zeros(rows, vocabulary, device=device)
        self.weights = torch.tensor([OFF] * rows, device=device)  # (rows, 3)

    @staticmethod
    def wanted(sampling: Sampling) -> bool:
        """Whether there is any penalty."""
        return _penalties(sampling) != OFF

    def begin(self, row: int, prompt: Sequence[int], sampling: Sampling) -> None:
        """A reply to this prompt begins in a row."""
        self.weights[row] = self.weights.new_tensor(_penalties(sampling))
        self.seen[row] = False
        self.seen[row, [id for id in prompt if id < self.seen.shape[1]]] = True  # images are no words
        self.counts[row] = 0

    def take(self, row: int, id: int) -> None:
        """This one has come."""
        self.seen[row, id] = True
        self.counts[row, id] += 1

    def swap(self, one: int, other: int) -> None:
        """Exchange two rows."""
        for table in (self.seen, self.counts, self.weights):
            table[[one, other]] = table[[other, one]]

    def adjusted(self, rows: Sequence[int], logits: Tensor) -> Tensor:
        """The logits (B, V) of these rows, in fp32 at least, penalties taken off."""
        found = wide(logits)
        seen, counts, weights = (table[list(rows)] for table in (self.seen, self.counts, self.weights))
        factor, frequency, presence = (weights[:, column, None] for column in range(3))
        found = found.where(~seen, torch.where(found > 0, found / factor, found * factor))
        return found - frequency * counts - presence * (counts > 0)


def _penalties(sampling: Sampling) -> tuple[float, float, float]:
    return sampling.repetition_penalty, sampling.frequency_penalty, sampling.presence_penalty
