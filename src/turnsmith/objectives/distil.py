"""Objectives that bring a model's predictions near those of another one, the teacher."""

from __future__ import annotations

from turnsmith.errors import UsageError
from turnsmith.registry import objective
from turnsmith.types import Loss, Scores


@objective("distil", per="token", needs=("kl:teacher",), source="arXiv:1503.02531 sec. 2")
def distil(s: Scores) -> Loss:
    """KL(teacher || student) at each trained token over the whole vocabulary, times the temperature squared.

    The step's `fit.temperature`, the paper's T, divides the logits of both; T^2 makes up for gradients that
    shrink by it. The likelihood of the words themselves, which the paper adds at T = 1, is left out. Gives
    (N,); the metric `kl` is without T^2, in nats.
    """
    return _scaled(s, "kl:teacher")


@objective("reverse_distil", per="token", needs=("reverse_kl:teacher",), source="arXiv:2306.13649 sec. 2")
def reverse_distil(s: Scores) -> Loss:
    """KL(student || teacher) at each trained token, times the temperature squared: what the teacher finds
    unlikely becomes so, what it finds likely need not.

    On the tokens of the data, not on the student's own samples. Otherwise as `distil`. Gives (N,).
    """
    return _scaled(s, "reverse_kl:teacher")


@objective("jsd", per="token", needs=("jsd/{mix}:teacher",), source="arXiv:2306.13649 eq. 1")
def jsd(s: Scores, *, mix: float = 0.5) -> Loss:
    """Generalised Jensen-Shannon divergence from the teacher at each trained token, times the temperature
    squared: between `distil` and `reverse_distil`.

    mix * KL(teacher || m) + (1 - mix) * KL(student || m), where m = mix * teacher + (1 - mix) * student. mix:
    the paper's beta; near 0 it is mix times `distil`, near 1 it is 1 - mix times `reverse_distil`. The
    paper's GKD has this on the student's own samples. Gives (N,); the metric `kl` is without T^2, in nats.
    Raises UsageError unless 0 < mix < 1.
    """
    if not 0 < mix < 1:
        raise UsageError(
            f"jsd: mix is {mix}, and must be between 0 and 1: at its ends are distil and reverse_distil"
        )
    return _scaled(s, f"jsd/{mix}:teacher")


def _scaled(s: Scores, name: str) -> Loss:
    apart = s.reduced[name]
    return Loss(s.temperature**2 * apart, {"kl": apart})
