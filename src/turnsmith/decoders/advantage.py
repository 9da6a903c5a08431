"""Decoding with implicit Q-learning: what the policy would say, bent towards what led to a good end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from turnsmith.registry import decoder

if TYPE_CHECKING:
    from torch import Tensor


@decoder(
    "advantage",
    members=("policy",),
    heads=("v", "q1_target", "q2_target"),
    source="arXiv:2206.11871 sec. 4.2, and its code",
)
def advantage(
    policy: Tensor,
    v: Tensor,
    q1_target: Tensor,
    q2_target: Tensor,
    *,
    weight: float = 8.0,
    clip: float | None = None,
) -> Tensor:
    """The policy's log-probs, plus `weight` times the advantage of each token: the lesser of the copies of Q,
    minus V of what was said so far.

    policy: a model trained by `ilql`, with its heads. v: (B,); q1_target, q2_target: (B, V). weight: 0 is the
    policy alone; the code's own configurations have 8 and 16. clip: what the advantage is at most; at 0,
    tokens that are better than V are not raised, and worse ones are lowered all the same. Temperature and
    top-p act on what this gives, where the paper's code has them act on the policy before.
    """
    bent = q1_target.minimum(q2_target) - v[..., None]
    return policy.log_softmax(-1) + weight * (bent if clip is None else bent.clamp_max(clip))
