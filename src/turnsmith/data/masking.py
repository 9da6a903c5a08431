"""Views in which a model does not see all that stands before what it has to say."""

from __future__ import annotations

from dataclasses import replace

from turnsmith.errors import UsageError
from turnsmith.registry import view
from turnsmith.types import Sight, Tokens


@view("masked_thought", tokens=("token",), source="arXiv:2403.02178 sec. 3")
def masked_thought(
    tokens: Tokens, sight: Sight, *, rate: float = 0.4, rising: float = 2 / 3, token: str | None = "<mask>"
) -> Tokens:
    """In place of some tokens of its own answer the model reads a mask, and has to say all of them as before.

    rate: the probability of each token that learns, drawn anew at every sight; it rises from 0 over the share
    `rising` of the steps. What does not learn, as the question, is never masked. token: the mask, which is
    added to the vocabulary where that lacks it; none: any token of the vocabulary, drawn evenly, as in the
    paper's released code for GSM8K.
    """
    for name, value in (("rate", rate), ("rising", rising)):
        if not 0 <= value <= 1:
            raise UsageError(f"masked_thought: {name} is a share, not {value}")
    now = rate * min(1.0, sight.step / (rising * sight.total)) if rising else rate
    masked = (sight.rng.random(len(tokens)) < now) & (tokens.weights > 0)
    inputs = tokens.inputs.copy()
    if token is None:
        inputs[masked] = sight.rng.integers(sight.vocabulary, size=int(masked.sum()))
    else:
        inputs[masked] = sight.ids[token]
    return replace(tokens, inputs=inputs)


@view("forgetful", source="arXiv:2302.02676 sec. 2; forhaoliu/chain-of-hindsight, coh/llama.py")
def forgetful(tokens: Tokens, sight: Sight, *, most: float = 0.05) -> Tokens:
    """Forgetful causal masking: each token does not see some of those before it, drawn for every pair anew.

    most: the paper's r_max; the share of a sequence is drawn evenly from 0 to it. The first token, and each
    token itself, is always seen. All layers forget the same. Only models that can be packed can have it, and
    while something is forgotten no prefixes are shared.
    """
    if not 0 <= most <= 1:
        raise UsageError(f"forgetful: most is a share, not {most}")
    if most == 0:
        return tokens
    return replace(tokens, forgets=(float(sight.rng.uniform(0, most)), int(sight.rng.integers(2**31))))
