"""Objectives over pairs of answers to one prompt."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from turnsmith.errors import UsageError
from turnsmith.objectives import margins
from turnsmith.objectives.margins import Pair
from turnsmith.registry import objective
from turnsmith.types import Loss, Scores


@objective(
    "dpo", per="example", parts=("chosen", "rejected"), reference=True, source="arXiv:2305.18290 eq. 7"
)
def dpo(s: Scores, *, beta: float = 0.1) -> Loss:
    """Logistic loss on the scaled margin between the log-ratios of the chosen and the rejected answer.

    -log sigmoid(beta * (log-ratio of chosen - log-ratio of rejected)), log-ratios against the step's start,
    summed over trained tokens. Gives (E,); log 2 where policy and reference are the same.
    """
    rewards = margins.log_ratios(s).times(beta)
    return Loss(margins.logistic(rewards.margin), rewarded(s, rewards))


@objective(
    "spin", per="example", parts=("chosen", "rejected"), reference=True, source="arXiv:2401.01335 eq. 4.7"
)
def spin(s: Scores, *, beta: float = 0.1, loss: Literal["logistic", "hinge"] = "logistic") -> Loss:
    """Self-play: prefer the data's answer (chosen) to the one that the start of the step wrote (rejected).

    l(beta * (log-ratio of chosen - log-ratio of rejected)), log-ratios against the step's start, which is the
    opponent; l(z) is log(1 + exp(-z)), or max(0, 1 - z) for the hinge. beta: the paper's lambda. Gives (E,).
    """
    made = dpo(s, beta=beta)
    if loss == "logistic":
        return made
    return hinge(s, beta=beta)


@objective(
    "refuel",
    per="example",
    parts=("first", "second"),
    reference=True,
    values=("return_first", "return_second"),
    source="arXiv:2410.04612 alg. 1",
)
def refuel(s: Scores, *, eta: float = 1.0) -> Loss:
    """Regress the difference of two answers' log-ratios on the difference of the rewards that followed them.

    (log-ratio of first - log-ratio of second - eta * (return_first - return_second)) ** 2, log-ratios against
    the step's start, which sampled both, at the temperature that the logits are divided by (`fit`). On one
    prompt the minimiser is start * exp(eta * expected return), normalised. eta: how far a step goes, in nats
    for each unit of reward. Gives (E,). The order of the two does not matter.
    """
    gap = s.ratio("first") - s.ratio("second")
    target = eta * (s.values["return_first"] - s.values["return_second"])
    metrics = {"agreement": (gap * target > 0).float(), "gap": gap, "target": target}
    return Loss((gap - target) ** 2, metrics)


@objective(
    "ipo",
    per="example",
    parts=("chosen", "rejected"),
    reference=True,
    source="arXiv:2310.12036 eq. 17",
    version=2,
)
def ipo(s: Scores, *, target: float = 10.0, average: bool = True) -> Loss:
    """Bring the margin between the log-ratios of the chosen and the rejected answer to a target, not beyond.

    (log-ratio of chosen - log-ratio of rejected - target)^2, log-ratios against the step's start. target: the
    paper's 1 / (2 tau), tau being how much is paid for what the policy differs from its start; code of
    arXiv:2404.14367 calls the target itself beta, and its bandit has 10, which is a tau of 0.05. average:
    log-ratios per trained token, each answer's by its own length, as in TRL; without it they are
    summed, as the equation is printed. Gives (E,). Raises UsageError unless target is above 0.
    """
    if target <= 0:
        raise UsageError(f"ipo: target is {target}, and must be above 0")
    if average:
        pair = margins.mean_log_ratios(s)
        return Loss(margins.squared(pair.margin, target), _averaged(s, pair))
    pair = margins.log_ratios(s)
    metrics = _judged(s, pair) | {"reward_chosen": pair.chosen / (2 * target)}
    return Loss(margins.squared(pair.margin, target), metrics)


@objective("orpo", per="example", parts=("chosen", "rejected"), source="arXiv:2403.07691 eq. 6, 7")
def orpo(s: Scores, *, weight: float = 0.1) -> Loss:
    """Likelihood of the chosen answer, and the log of how much its odds are above those of the rejected one.

    -m + weight * -log sigmoid(log odds(chosen) - log odds(rejected)), where m is the mean log-prob of the
    chosen answer's tokens, and log odds of an answer are m - log(1 - exp(m)), with its own mean. weight: the
    paper's lambda. Needs no reference. Gives (E,). An answer of which every token is certain counts as one of
    1e-6 nats a token.
    """
    odds = margins.log_odds(s)
    values = -s.means("chosen") + weight * margins.logistic(odds.margin)
    return Loss(values, _averaged(s, odds) | {"log_odds_ratio": odds.margin})


@objective(
    "hinge",
    per="example",
    parts=("chosen", "rejected"),
    reference=True,
    source="arXiv:2309.06657; arXiv:2305.10425",
)
def hinge(s: Scores, *, beta: float = 0.1) -> Loss:
    """SLiC on log-ratios: what the margin between the chosen and the rejected answer lacks to 1.

    max(0, 1 - beta * (log-ratio of chosen - log-ratio of rejected)), log-ratios against the step's start,
    summed over trained tokens. beta: the paper's gamma of `hinge-norm`, 1 / delta of SLiC (arXiv:2305.10425),
    which has no reference. Gives (E,). A pair whose margin is above 1 teaches nothing.
    """
    rewards = margins.log_ratios(s).times(beta)
    return Loss(margins.hinged(rewards.margin), rewarded(s, rewards))


@objective("ln_dpo", per="example", parts=("chosen", "rejected"), reference=True, source="arXiv:2411.15124")
def ln_dpo(s: Scores, *, beta: float = 5.0) -> Loss:
    """`dpo` on log-ratios per token: each answer's sum is divided by its own length.

    beta: per nat and token, so many times greater than that of `dpo` as answers have tokens. Gives (E,).
    """
    pair = margins.mean_log_ratios(s).times(beta)
    return Loss(margins.logistic(pair.margin), _averaged(s, pair))


@objective("f_dpo", per="example", parts=("chosen", "rejected"), reference=True, source="arXiv:2309.16240")
def f_dpo(
    s: Scores, *, beta: float = 0.1, divergence: Literal["alpha", "js"] = "js", alpha: float = 0.5
) -> Loss:
    """`dpo` for another divergence from the start than reverse KL: a reward is the slope f'(u) of the
    divergence at an answer's probability ratio u.

    -log sigmoid(beta * (f'(u of chosen) - f'(u of rejected))). `alpha`: f'(u) = (1 - u^-alpha) / alpha, with
    0 for reverse KL, which is `dpo`, and 1 for forward KL; TRL's coefficient is 1 - alpha. `js`, Jensen and
    Shannon: log(2 u / (1 + u)). Gives (E,). Raises UsageError unless 0 <= alpha <= 1. An answer that has
    become 80 / alpha nats less likely is pushed down no more, where fp32 ends.
    """
    if not 0 <= alpha <= 1:
        raise UsageError(f"f_dpo: alpha is {alpha}, and must be from 0 to 1")
    rewards = margins.slopes(margins.log_ratios(s), divergence, alpha).times(beta)
    return Loss(margins.logistic(rewards.margin), rewarded(s, rewards))


@objective("ld_dpo", per="example", parts=("chosen", "rejected"), reference=True, source="arXiv:2409.06411")
def ld_dpo(s: Scores, *, beta: float = 0.1, alpha: float = 0.5) -> Loss:
    """`dpo` in which what a long answer has beyond the length of the other one counts less, so that length
    itself is preferred less.

    The log-ratio of an answer is summed over its first n trained tokens, n being how many the shorter one of
    the pair has, and alpha times over the rest. alpha: 1 is `dpo`, 0 leaves the rest out. Gives (E,). Raises
    UsageError unless 0 <= alpha <= 1.
    """
    if not 0 <= alpha <= 1:
        raise UsageError(f"ld_dpo: alpha is {alpha}, and must be from 0 to 1")
    rewards = margins.shared_log_ratios(s, alpha).times(beta)
    return Loss(margins.logistic(rewards.margin), rewarded(s, rewards))


@objective(
    "wpo",
    per="example",
    parts=("chosen", "rejected"),
    reference=True,
    needs=("collision_entropy",),
    source="arXiv:2406.11827 eq. 2",
)
def wpo(s: Scores, *, beta: float = 0.1) -> Loss:
    """`dpo` in which a pair counts by how likely the model would be to write its answers now.

    The loss of a pair times w of both answers: w = exp of the mean over trained tokens of log p + H, where H
    = -log of the sum of squares of the whole distribution there, so that a token as likely as one that is
    drawn counts 1. No gradient goes through w. Gives (E,).
    """
    made = dpo(s, beta=beta)
    said = margins.means(s, (s.logprobs + s.reduced["collision_entropy"]).detach())
    weight = (said.chosen + said.rejected).exp()
    return Loss(weight * made.values, {**made.metrics, "weight": weight})


@objective("robust", per="example", parts=("chosen", "rejected"), reference=True, source="arXiv:2403.00409")
def robust(
    s: Scores,
    *,
    beta: float = 0.1,
    flipped: float = 0.1,
    form: Literal["unbiased", "conservative"] = "unbiased",
) -> Loss:
    """`dpo` for labels of which a share is the wrong way round.

    With l(z) = log(1 + exp(-z)) and z the margin of `dpo`: ((1 - flipped) l(z) - flipped l(-z)) /
    (1 - 2 flipped), whose expectation over such labels is the loss of the right ones; `conservative` is
    (1 - flipped) l(z) + flipped l(-z), the cDPO of arXiv:2305.18290's authors, which is least where
    sigmoid(z) = 1 - flipped. flipped: the paper's epsilon, TRL's label_smoothing. Gives (E,); unbiased it may
    be below 0. Raises UsageError unless 0 <= flipped < 0.5.
    """
    if not 0 <= flipped < 0.5:
        raise UsageError(f"robust: flipped is {flipped}, and must be 0 or above and below 0.5")
    rewards = margins.log_ratios(s).times(beta)
    link = margins.unbiased if form == "unbiased" else margins.conservative
    return Loss(link(rewards.margin, flipped), rewarded(s, rewards))


@objective(
    "exo", per="example", parts=("chosen", "rejected"), reference=True, source="arXiv:2402.00856 eq. 16"
)
def exo(s: Scores, *, beta: float = 0.1, flipped: float = 1e-3) -> Loss:
    """Reverse KL between what the policy says of the two answers and what the label says.

    KL(q || p): q = sigmoid(beta * (log-ratio of chosen - log-ratio of rejected)) is the policy's probability
    of the chosen one, and p = 1 - flipped that of the label. beta: the paper's beta_pi; flipped: its epsilon.
    Gives (E,); 0 where q = p. Raises UsageError unless 0 < flipped < 0.5: of certain labels it is infinite.
    """
    if not 0 < flipped < 0.5:
        raise UsageError(f"exo: flipped is {flipped}, and must be above 0 and below 0.5")
    rewards = margins.log_ratios(s).times(beta)
    return Loss(margins.reverse_divergence(rewards.margin, flipped), rewarded(s, rewards))


@objective(
    "sppo", per="example", parts=("chosen", "rejected"), reference=True, source="arXiv:2405.00675 eq. 4.7"
)
def sppo(s: Scores, *, eta: float = 1000.0) -> Loss:
    """Self-play preference optimisation of hard labels: the log-ratio of each answer is drawn to a target.

    (log-ratio of chosen - eta / 2)^2 + (log-ratio of rejected + eta / 2)^2, log-ratios against the step's
    start, summed over trained tokens: the probability to win is 1 for the one and 0 for the other. eta: the
    paper's; TRL's beta is 1 / eta. Gives (E,). Raises UsageError unless eta is above 0.
    """
    if eta <= 0:
        raise UsageError(f"sppo: eta is {eta}, and must be above 0")
    pair = margins.log_ratios(s)
    return Loss(margins.square_apart(pair, eta / 2), rewarded(s, pair.times(1 / eta)))


@objective(
    "apo", per="example", parts=("chosen", "rejected"), reference=True, source="arXiv:2408.06266 eq. 7, 8"
)
def apo(s: Scores, *, beta: float = 0.1, towards: Literal["zero", "down"] = "zero") -> Loss:
    """Anchored preferences: says not only how far apart the two answers go, but also in which direction.

    With r = beta * log-ratio: 1 - sigmoid(r of chosen) + sigmoid(r of rejected), for data that are better
    than the model (`zero`); or sigmoid(r of chosen) + 1 - sigmoid(r of chosen - r of rejected), for data that
    are worse (`down`). The 1 is not in the paper and changes no gradient: losses are above 0. Gives (E,).
    """
    rewards = margins.log_ratios(s).times(beta)
    return Loss(margins.anchored(rewards, towards), rewarded(s, rewards))


@objective("nca", per="example", parts=("chosen", "rejected"), reference=True, source="arXiv:2402.05369")
def nca(s: Scores, *, beta: float = 0.01) -> Loss:
    """Noise contrastive alignment of two answers: the chosen one shall become likelier in itself.

    -log sigmoid(r of chosen) - (log sigmoid(-r of chosen) + log sigmoid(-r of rejected)) / 2, r = beta *
    log-ratio against the step's start. beta: the paper's alpha. Gives (E,); 2 log 2 where policy and
    reference are the same.
    """
    rewards = margins.log_ratios(s).times(beta)
    return Loss(margins.contrasted(rewards), rewarded(s, rewards))


@objective(
    "discopop", per="example", parts=("chosen", "rejected"), reference=True, source="arXiv:2406.08414 eq. 5"
)
def discopop(s: Scores, *, beta: float = 0.05, tau: float = 0.05) -> Loss:
    """The loss that a language model found: between the logistic and the exponential one, by the margin.

    (1 - m) log(1 + exp(-z)) + m exp(-z), where z = beta * (log-ratio of chosen - log-ratio of rejected) and
    m = sigmoid(z / tau). Not monotone: where z is 0 its slope is (1 - log 2) / (4 tau) - 3/4, so that with a
    tau below 0.1 a policy that is its reference first moves the wrong way. Gives (E,); (log 2 + 1) / 2 where
    the two are the same. Raises UsageError unless 0 < tau <= 1: above 1 wrong pairs have no bound in fp32.
    """
    if not 0 < tau <= 1:
        raise UsageError(f"discopop: tau is {tau}, and must be above 0 and at most 1")
    rewards = margins.log_ratios(s).times(beta)
    return Loss(margins.modulated(rewards.margin, tau), rewarded(s, rewards))


@objective("cpo", per="example", parts=("chosen", "rejected"), source="arXiv:2401.08417 eq. 3")
def cpo(
    s: Scores,
    *,
    beta: float = 0.1,
    alpha: float = 1.0,
    likelihood: Literal["mean", "sum"] = "mean",
    link: Literal["logistic", "hinge", "squared"] = "logistic",
) -> Loss:
    """Contrastive preferences: `dpo` without a reference, and the likelihood of the chosen answer.

    -log sigmoid(beta * (log-prob of chosen - log-prob of rejected)) + alpha * -log-prob of chosen, log-probs
    summed over trained tokens; in the second term they are divided by the answer's length, as in the paper's
    code, or, with `likelihood: sum`, as its equation is printed. alpha: TRL's cpo_alpha. link: `hinge` has
    max(0, 1 - beta * margin) in the first term, SLiC-HF (arXiv:2305.10425) with a delta of 1 / beta;
    `squared` (margin of log-probs per token - 1 / (2 beta))^2, IPO without a reference. Gives (E,).
    """
    pair = margins.log_probs(s)
    said = s.means("chosen") if likelihood == "mean" else pair.chosen
    if link == "squared":
        pair = margins.mean_log_probs(s)
        lost = margins.squared(pair.margin, 1 / (2 * beta))
    else:
        lost = (margins.logistic if link == "logistic" else margins.hinged)(beta * pair.margin)
    return Loss(lost - alpha * said, _averaged(s, pair.times(beta)))


@objective("simpo", per="example", parts=("chosen", "rejected"), source="arXiv:2405.14734 eq. 6")
def simpo(s: Scores, *, beta: float = 2.0, gamma: float = 1.0, alpha: float = 0.0) -> Loss:
    """A pair's margin is that of its log-probs per token, needs no reference, and is to be above gamma.

    -log sigmoid(beta * (mean log-prob of chosen - mean log-prob of rejected) - gamma). gamma: the paper's, in
    the units of the scaled margin, as TRL's simpo_gamma. alpha: not 0, (1 - p^-alpha) / alpha stands for a
    mean log-prob, p being its exponential: AlphaPO (arXiv:2501.03884), which has 0.25. Gives (E,).
    """
    pair = margins.mean_log_probs(s)
    if alpha:
        pair = Pair(*(-(-alpha * mean).expm1() / alpha for mean in pair))
    pair = pair.times(beta)
    return Loss(margins.logistic(pair.margin - gamma), _averaged(s, pair))


# ------------------------------------------------------------------------------- what is recorded


def _judged(s: Scores, pair: Pair) -> dict[str, Tensor]:
    """Whether the chosen answer is ahead, by how much, the log-probs and lengths of both, and how far the
    model is from its reference, if it has one."""
    known, lengths = margins.log_probs(s), margins.lengths(s)
    found = {
        "accuracy": (pair.margin > 0).float(),
        "margin": pair.margin,
        "logprob_chosen": known.chosen,
        "logprob_rejected": known.rejected,
        "tokens_chosen": lengths.chosen,
        "tokens_rejected": lengths.rejected,
    }
    return found if s.reference is None else found | {"from_start": margins.far(s, "chosen", "rejected")}


def rewarded(s: Scores, rewards: Pair) -> dict[str, Tensor]:
    """With rewards, beta times a summed log-ratio: a falling one of chosen answers is told of by name."""
    return _judged(s, rewards) | {"reward_chosen": rewards.chosen, "reward_rejected": rewards.rejected}


def _averaged(s: Scores, pair: Pair) -> dict[str, Tensor]:
    """With nats per token of the chosen answers, which are told of by name where they rise."""
    return _judged(s, pair) | {"nats_chosen": -s.means("chosen")}
