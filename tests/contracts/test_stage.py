"""The contract of stages, over everything registered that needs no chat and no scorer."""

from dataclasses import replace

import pytest

from turnsmith.registry import Registry
from turnsmith.testing import STAGE, conversations, stage, variety

REGISTRY = Registry()
ENTRIES = REGISTRY.entries("stage")
# For stages whose options have no defaults.
COUNTED = (
    "travellers",
    "bandit",
    "containers",
    "head",
    "backwards",
    "facts",
    "kinds",
    "kinship",
    "longest",
    "opinions",
    "places",
    "orders",
    "provocations",
    "recall",
    "requests",
    "shop_talks",
    "statements",
    "sum_answers",
    "sum_trees",
    "sums",
    "tool_requests",
    "topics",
    "wishes",
)
OPTIONS = {name: {"count": 3} for name in COUNTED}
OF_SCENES = ("mistaken", "scene_chats")  # which need pictures whose truth is known
OPTIONS["scenes"] = {"count": 3}
OPTIONS["scene_chats"] = {"tasks": {"report": 2, "presence": 1, "dialogue": 1}}
OPTIONS["mixture"] = {"count": 10, "shares": {"latin": 0.8, "greek": 0.2}}
OF_CLASSES = ("labelled", "mislabelled", "spoken", "guard_prompts", "relabelled", "violating")
OF_CHATS = (
    "alike",
    "confident",
    "duplex",
    "joined",
    "mismatched",
    "reworded",
    "timed",
)  # which need what other stages leave, and replies that differ
OPTIONS["mismatched"] = {"share": 0.5}
OPTIONS["reworded"] = {"templates": ("Well, {question}", "{question} Please.")}
OPTIONS["few"] = {"count": 3}
OPTIONS["renamed"] = {"part": "text"}
OPTIONS["letters"] = {"most": 40}
OPTIONS["lake_walks"] = {"count": 3}
OPTIONS["lake_pair"] = {"other": "rd"}
OF_SEVERAL = (
    "best_and_worst",
    "best_answer",
    "each_answer",
    "every_pair",
    "standardised",
    "thinned",
)  # which need an example with several answers
OF_PAIRS = ("critiqued", "hindsight", "misjudged", "verdicts")  # which need examples that are pairs
OF_TREES = ("tree_prompts", "tree_sets", "tree_threads")  # which need message trees
OPTIONS["biographies"] = OPTIONS["personal"] = {"people": 3}
OPTIONS["classed"] = {"by": None, "shares": {"poor": 0.5, "good": 0.5}}
OPTIONS["conditioned"] = {"weights": {"poor": 0.1, "good": 1.0}}
OPTIONS["under_each"] = OPTIONS["opposed"] = {"classes": ("poor", "good")}
OPTIONS["endings"] = {"messages": 2}
# Which need classes, ratings of people, or replies that a critic rated.
JUDGED = ("conditioned", "mean_rating", "opposed", "under_critique", "under_each")
OPTIONS["best"] = {"share": 0.5, "by": "rating"}
OPTIONS["ordered"] = {"by": "rating"}
OPTIONS["reviews"] = {"users": 2, "items": 9, "aspects": ("a", "b", "c", "d"), "each": 4, "known": 3}
OPTIONS["overlap_levels"] = OPTIONS["overlap_ratings"] = {"count": 3}
OPTIONS["thinned"] = {"most": 1, "by": "reward"}
OPTIONS["tagged"] = {"key": "task", "to": "chat"}
OPTIONS["inverse_frequency"] = {"key": "id"}
OPTIONS["value"] = {"name": "knowledge", "to": 0.0}


def _judged(one, number):
    said = [
        replace(message, fields={"rating": number % 4 + 1, "critique": "So so."})
        if message.role == "assistant"
        else message
        for message in one.parts["text"].messages
    ]
    meta = {"condition": ("poor", "good")[number % 2], "ratings": {"ann": number}}
    made = one.replaced(text=replace(one.parts["text"], messages=tuple(said)))
    return replace(made, meta={**one.meta, **meta})


@pytest.mark.parametrize("check", STAGE, ids=lambda check: check.__name__)
@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_contract(entry, check):
    if entry.traits.get("chats") or entry.traits.get("scorers"):
        pytest.skip(f"{entry.name} asks others: its own test holds it to the contract with a chat or scorer")
    if entry.name in OF_CLASSES:
        pytest.skip(f"{entry.name} takes texts with classes: its own test holds it to the contract")
    given = variety()
    if entry.name in OF_CHATS:
        given = [
            replace(one, values={"confidence": 0.5}, meta={**one.meta, "stamps": list(range(len(said)))})
            for one in conversations(4)
            for said in [one.parts["text"].messages]
        ]
    if entry.name in JUDGED:
        given = [_judged(one, number) for number, one in enumerate(conversations(4))]
    if entry.name in OF_SCENES:
        given = list(stage("scenes", {"count": 3}, registry=REGISTRY)([]))
    if entry.name in OF_TREES:
        given = list(stage("sum_trees", {"count": 3}, registry=REGISTRY)([]))
    if entry.name in OF_SEVERAL:
        given = [one for one in given if "replies" in one.parts]
    if entry.name in OF_PAIRS:
        given = [one for one in given if "rejected" in one.parts]
        assert given
    check(stage(entry.name, OPTIONS.get(entry.name), registry=REGISTRY), given)
