"""Options that name agents, scorers and models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from turnsmith.errors import UsageError
from turnsmith.recipes import components, schema, start, wiring
from turnsmith.recipes.component import Component
from turnsmith.recipes.pruning import claimed

OWN = """
from turnsmith.evaluation.items import Item, Metric
from turnsmith.registry import agent, scorer, stage, task
from turnsmith.types import Chat, Conversation, Example, Examples, Message, Reply, Scorer, Usage


@agent("echo")
class Echo:
    def __init__(self, *, times: int = 2) -> None:
        self.times = times

    def __call__(self, conversations, *, sampling=None, seed=0):
        said = [one.messages[-1].content * self.times for one in conversations]
        return [Reply.scripted(text) for text in said]


@agent("parrot", scorers=("by",), beside=("of",))
class Parrot:
    # Says which of the first words of some data the scorer puts highest.
    def __init__(self, *, of: Examples, by: Scorer) -> None:
        said = [Conversation(one.parts["text"].messages[:1]) for one in of]
        scores = by(said, list(of))
        self.text = said[scores.index(max(scores))].messages[0].content

    def __call__(self, conversations, *, sampling=None, seed=0):
        return [Reply.scripted(self.text) for _ in conversations]


@scorer("count")
def count(conversations, examples, *, letter: str, weight: float = 1.0):
    return [weight * one.messages[-1].content.count(letter) for one in conversations]


@stage("judged", chats=("by",), scorers=("reward",))
def judged(data, *, by: Chat, reward: Scorer):
    for example in data:
        asked = example.parts["text"].upto(1)
        (reply,) = by([asked])
        said = asked.then(reply.message)
        yield Example({"text": said}, {"reward": reward([said], [example])[0]}, example.meta)


@task("echoed", data=True, chats=("with_",), scorers=("reward",), asks="replies")
class Echoed:
    title = note = ""

    def __init__(self, *, on: str, with_: Chat, reward: Scorer) -> None:
        self.on, self.with_, self.reward = on, with_, reward
        self.metrics = (Metric("reward", "reward", "letters", "higher"),)

    def measure(self, subject, bench):
        found = []
        for example in bench.examples(self.on):
            (reply,) = self.with_([example.parts["text"].upto(1)])
            said = Conversation((reply.message,))
            values = {"reward": self.reward([said], [example])[0]}
            found.append(Item(example.id, "", values, {"text": reply.message.content}))
        return found
"""
ROWS = [[("user", "ab"), ("assistant", "b")], [("user", "bb"), ("assistant", "a")]]


def recipe(**by: Any) -> dict[str, Any]:
    return {
        "title": "echoes",
        "base": {"llama": {}},
        "forgetting": False,
        "steps": [
            {
                "data": {
                    "name": "made",
                    "read": "rows.jsonl",
                    "stages": [{"judged": {"reward": {"count": {"letter": "b"}}, **by}}],
                }
            },
            {
                "evaluate": {
                    "model": "base",
                    "against": None,
                    "suite": [
                        {
                            "echoed": {
                                "on": "made",
                                "with_": {"echo": {"times": 3}},
                                "reward": {"count": {"letter": "a"}},
                            }
                        }
                    ],
                }
            },
        ],
    }


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TURNSMITH_HOME", str(tmp_path / "home"))
    (tmp_path / "own.py").write_text(OWN)
    rows = [{"messages": [{"role": r, "content": c} for r, c in row]} for row in ROWS]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    return tmp_path


def test_a_stage_and_a_task_get_the_agents_and_scorers_that_they_name(here: Path) -> None:
    (found,) = start.run(recipe(by={"echo": {}}), use=[here / "own.py"])
    made = [json.loads(line) for line in (Path(found["steps"][0]["path"]) / "all.jsonl").open()]
    assert [row["values"]["reward"] for row in made] == [2.0, 4.0]  # abab, bbbb
    (figure,) = found["steps"][1]["tasks"][0]["metrics"]
    assert figure["after"] == pytest.approx(1.5)  # an `a` three times in ababab, none in bbbbbb


def test_options_of_parts_count_in_the_hash(here: Path) -> None:
    known = components([here / "own.py"])
    one = Component("judged", {"by": {"echo": {}}, "reward": {"count": {"letter": "b"}}})
    other = Component("judged", {"by": {"echo": {"times": 3}}, "reward": {"count": {"letter": "b"}}})
    described = wiring.described("stage", one, known)
    assert described["options"]["by"] == {"name": "echo", "version": 1, "options": {"times": 2}}
    assert described["options"]["reward"]["options"] == {"letter": "b", "weight": 1.0}
    assert described != wiring.described("stage", other, known)


def test_models_are_those_of_parts_too(here: Path) -> None:
    known = components([here / "own.py"])
    reward = {"count": {"letter": "b"}}
    assert wiring.models("stage", Component("judged", {"by": "base", "reward": reward}), known) == ["base"]
    assert wiring.models("stage", Component("judged", {"by": {"echo": {}}, "reward": reward}), known) == []


@pytest.mark.parametrize(
    ("by", "said"),
    [
        ({"eco": {}}, r"no agent is called 'eco'; did you mean 'echo'"),
        ({"echo": {"tims": 3}}, r"agent 'echo' has no option 'tims'; did you mean 'times'"),
        ("echo", r"no model is called 'echo' before this step.*`\{echo: \{\}\}`"),
        ({"echo": {}, "other": {}}, r"option 'by': expected the name of a component, or"),
    ],
)
def test_what_is_not_there_is_refused_before_anything_is_done(here: Path, by: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        start.run(recipe(by=by), use=[here / "own.py"])
    assert not (here / "runs").exists()


def test_an_agent_that_takes_one_seed_for_all_speaks_in_dialogues(here: Path) -> None:
    plain = recipe()
    talk = {"converse": {"by": {"echo": {}}, "user": {"echo": {"times": 1}}, "turns": 2}}
    plain["steps"] = [{"data": {"name": "made", "read": "rows.jsonl", "stages": [talk]}}]
    (found,) = start.run(plain, use=[here / "own.py"])
    made = [json.loads(line) for line in (Path(found["steps"][0]["path"]) / "all.jsonl").open()]
    said = [[m["content"] for m in row["parts"]["text"]] for row in made]
    assert said == [["ab", "abab", "abab", "abababab"], ["bb", "bbbb", "bbbb", "bbbbbbbb"]]


PARROT = {"parrot": {"of": "words", "by": {"count": {"letter": "b"}}}}


def repeated(by: Any = PARROT, words: int = 2) -> dict[str, Any]:
    """A stage and a task whose agent speaks of the data `words`, which are its first rows."""
    plain = recipe(by=by)
    first = {"data": {"name": "words", "read": "rows.jsonl", "stages": [{"head": {"count": words}}]}}
    plain["steps"][1]["evaluate"]["suite"][0]["echoed"]["with_"] = by
    return {**plain, "steps": [first, *plain["steps"]]}


def test_an_agent_gets_the_scorer_and_the_examples_that_it_names(here: Path) -> None:
    (found,) = start.run(repeated(), use=[here / "own.py"])
    made = [json.loads(line) for line in (Path(found["steps"][1]["path"]) / "all.jsonl").open()]
    assert [row["values"]["reward"] for row in made] == [2.0, 2.0]  # of `ab` and `bb` the second has more
    (figure,) = found["steps"][2]["tasks"][0]["metrics"]
    assert figure["after"] == 0.0  # no `a` in it


def test_what_agents_speak_of_counts_in_the_hash(here: Path) -> None:
    """Of one row alone the agent says `ab`."""
    (one,) = start.run(repeated(), use=[here / "own.py"])
    (other,) = start.run(repeated(words=1), use=[here / "own.py"])
    made = [json.loads(line) for line in (Path(other["steps"][1]["path"]) / "all.jsonl").open()]
    assert [row["values"]["reward"] for row in made] == [1.0, 1.0]
    (figure,) = other["steps"][2]["tasks"][0]["metrics"]
    assert figure["after"] == 1.0
    assert one["steps"][2]["artefact"] != other["steps"][2]["artefact"]


def test_data_that_an_agent_names_must_be_there(here: Path) -> None:
    strange = {"parrot": {**PARROT["parrot"], "of": "world"}}
    with pytest.raises(UsageError, match="no data is called 'world' before this step; there is words"):
        start.run(repeated(by=strange), use=[here / "own.py"])


def test_a_claim_rests_on_the_data_that_agents_name(here: Path) -> None:
    plain = repeated()
    plain["claim"] = [
        {"task": "echoed", "quantity": "reward", "of": "base", "against": None, "direction": "higher"}
    ]
    known = components([here / "own.py"])
    (arm,) = schema.arms(plain, "echoes", known)
    assert [step.data.names for step in claimed(arm.recipe, known).steps if step.data] == [
        ("words",),
        ("made",),
    ]
