"""Pairs of fragments: where an answer first goes wrong, and what might have been said there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import exp, floor
from typing import NamedTuple

from turnsmith.data.fragments import cuts, likely, overlap
from turnsmith.errors import UsageError
from turnsmith.registry import stage
from turnsmith.rollout.search import Node, ahead, credit, ends, nodes, selected
from turnsmith.sample.chat import Spelling, samples
from turnsmith.scorers.fragments import truth_of
from turnsmith.stages.parts import conversation_of
from turnsmith.types import Chat, Conversation, Example, Failure, Message, Reply, Sampling, Scorer


class _Plan(NamedTuple):
    """How a tree grows. pieces: of an action; depth: actions of an answer, the last one takes the rest."""

    actions: int
    depth: int
    pieces: int
    sampling: Sampling


@stage("perplexing", scorers=("by",), source="arXiv:2501.09766; zeng-yirong/iTool, scripts/cal_ppl.py")
def perplexing(
    data: Sequence[Example], *, by: Scorer, share: float = 0.3, mark: str = ")", counts: Counter[str]
) -> Iterator[Example]:
    """Keep the share of the examples at whose right answers the model is most perplexed, of those with a call
    and of those without one alike.

    by: gives the mean log-probability of the last answer's tokens, as `{likelihood: {by: MODEL, words:
    mean}}` does; the value `perplexity` is exp of minus that, and what is asked has no part in it. mark: what
    is in an answer that has a call. Of n examples of a kind floor(share * n) are kept, in their order. What
    cannot be judged is left out and counted. Raises UsageError unless the share is above 0 and at most 1.
    """
    if not 0 < share <= 1:
        raise UsageError(f"perplexing: share is {share}, and has to be above 0 and at most 1")
    scores = by([conversation_of(example, "text") for example in data], data)
    kinds: dict[bool, list[tuple[float, int]]] = {True: [], False: []}
    for place, (example, score) in enumerate(zip(data, scores, strict=True)):
        if score is None:
            counts["could not be judged"] += 1
        else:
            kinds[mark in truth_of(example)].append((exp(-score), place))
    kept: dict[int, float] = {}
    for found in kinds.values():
        worst = sorted(found, key=lambda one: -one[0])[: floor(share * len(found))]
        kept |= {place: perplexity for perplexity, place in worst}
    for place in sorted(kept):
        yield replace(data[place], values={**data[place].values, "perplexity": kept[place]})


@stage(
    "fragment_pairs",
    chats=("by",),
    scorers=("reward",),
    source="arXiv:2501.09766; zeng-yirong/iTool, mcts/main.py",
)
def fragment_pairs(
    data: Sequence[Example],
    *,
    by: Chat,
    reward: Scorer,
    rounds: int = 5,
    actions: int = 3,
    depth: int = 3,
    pieces: int = 2,
    steps: int = 2,
    explore: float = 1.0,
    gap: float = 0.1,
    alike: float = 0.95,
    least: float = -0.3,
    temperature: float = 1.5,
    max_new: int = 50,
    counts: Counter[str],
) -> Iterator[Example]:
    """Search the ways in which `by` may answer, and pair at each fork the best fragment with the worst.

    Each example's last answer is the right one. A round goes from the prompt down a tree to a leaf (by value
    and prior, as `rollout/search.py` has it), draws `actions` answers from there, and hangs each on as a
    chain of fragments: `pieces` pieces make one, and the last of `depth` takes the rest. From the leaf it
    goes `steps` of what exists further to the best, has `reward` judge what is said so far, and credits all
    before it. A fragment begins with what it seems worth beside the right answer.

    Examples get the parts `chosen` and `rejected`, which end on the answers up to the fragment as the tokens
    that were drawn: what is before it is the same in both, and no end is learnt where an answer goes on. gap:
    how far the values of the two are apart at least; alike: how many of the fewer words they share at most;
    least: what the better one is worth at least. What could not be drawn or judged is counted, and so are
    prompts without a pair. Needs a model that is loaded here.
    """
    if min(rounds, actions, depth, pieces) < 1 or steps < 0:
        raise UsageError(
            f"fragment_pairs: rounds {rounds}, actions {actions}, depth {depth}, pieces {pieces} have to be "
            f"1 or more, and steps {steps} 0 or more"
        )
    plan = _Plan(actions, depth, pieces, Sampling(temperature=temperature, max_new=max_new))
    roots = [Node() for _ in data]
    for _ in range(rounds):
        leaves = [selected(root, explore) for root in roots]
        _grown(data, leaves, by, plan, counts)
        _credited(data, [ahead(leaf, steps) for leaf in leaves], reward, counts)
    for example, root in zip(data, roots, strict=True):
        made = list(_pairs(example, root, gap, alike, least))
        counts["prompts without a pair"] += not made
        yield from made


def _grown(
    data: Sequence[Example], leaves: Sequence[Node], by: Chat, plan: _Plan, counts: Counter[str]
) -> None:
    """Draw answers that go on from each leaf that has not ended; leaves with one text at once."""
    groups: dict[str, list[int]] = {}
    for at, leaf in enumerate(leaves):
        if not leaf.done and leaf.depth < plan.depth:
            groups.setdefault(leaf.text, []).append(at)
    for text, places in groups.items():
        asked = [_prompt(data[at]) for at in places]
        drawn = samples(by, asked, plan.actions, sampling=replace(plan.sampling, prefill=text))
        for at, replies in zip(places, drawn, strict=True):
            for reply in replies:
                flaw = _hung(leaves[at], reply, by, truth_of(data[at]), plan)
                counts.update({flaw: 1} if flaw else {})


def _hung(leaf: Node, reply: Reply | Failure, by: Chat, truth: str, plan: _Plan) -> str | None:
    """Hang a drawn answer on as a chain of fragments; gives what was wrong where it could not be."""
    if isinstance(reply, Failure):
        return f"answers that did not come: {reply.reason}"
    ids, logprobs = reply.message.ids, reply.message.logprobs
    if ids is None or logprobs is None or not isinstance(by, Spelling):
        raise UsageError("fragment_pairs goes by single tokens: name a model that is loaded here")
    start = len(ids) - reply.usage.completion
    if ids[:start] != leaf.ids:
        return "answers that did not go on from the same tokens"
    done = reply.finish == "stop"
    spelled = by.spelled(ids[start : len(ids) - done])
    if not spelled:
        return "answers that ended at once"
    node, before = leaf, start
    for at in cuts(spelled, plan.pieces, plan.depth - leaf.depth):
        last = at == len(spelled)
        stop = len(ids) if last else start + at
        said = "".join(spelled[before - start : at])
        made = Node(
            ids[:stop],
            node.text + said,
            said,
            exp(sum(logprobs[before:stop]) / (stop - before)),
            likely(said, truth),
            done=last and done,
        )
        node, before = node.child(made), stop
    return None


def _credited(data: Sequence[Example], reached: Sequence[Node], reward: Scorer, counts: Counter[str]) -> None:
    judged = [(example, node) for example, node in zip(data, reached, strict=True) if node.text]
    said = [_prompt(example).then(Message("assistant", node.text)) for example, node in judged]
    scores = reward(said, [example for example, _ in judged]) if said else []
    for (_, node), score in zip(judged, scores, strict=True):
        if score is None:
            counts["answers that could not be judged"] += 1
        else:
            credit(node, score)


def _pairs(example: Example, root: Node, gap: float, alike: float, least: float) -> Iterator[Example]:
    for number, node in enumerate(nodes(root)):
        found = ends(node)
        if found is None:
            continue
        best, worst = found
        near = best.value - worst.value < gap or overlap(best.said, worst.said) > alike
        if near or best.value < least:
            continue
        parts: Mapping[str, Conversation] = {
            name: _prompt(example).then(Message("assistant", one.text, ids=one.ids))
            for name, one in (("chosen", best), ("rejected", worst))
        }
        meta = {**example.meta, "id": f"{example.id}/{number}"}
        yield Example(parts, {**example.values, "gap": best.value - worst.value}, meta)


def _prompt(example: Example) -> Conversation:
    return conversation_of(example, "text").upto(-1)
