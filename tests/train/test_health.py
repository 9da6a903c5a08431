"""What degenerates is told of once, its sound twin is not: real runs of a small model, driven into faults."""

import functools
import json

import pytest

import turnsmith
from turnsmith.data.batch import pack
from turnsmith.data.stream import Stream
from turnsmith.models import forest
from turnsmith.models.score import Scoring
from turnsmith.objectives.likelihood import sft
from turnsmith.objectives.pairs import dpo, orpo
from turnsmith.testing import Figures, chat, examples, model
from turnsmith.train import health, reference
from turnsmith.train.health import Faults, Health, apart, drawn, repeated
from turnsmith.train.loop import fit
from turnsmith.train.method import Method
from turnsmith.train.options import Fit
from turnsmith.train.place import Place
from turnsmith.train.record import METRICS, Record
from turnsmith.trainables.install import install
from turnsmith.trainables.lora import Lora
from turnsmith.types import Conversation, Example, Message, Rendered


def told(name, first, last, *, steps=5):
    """What is told of a figure that has one value in the first steps and another one in the last."""
    faults = Faults()
    values = [first] * steps + [last] * steps
    return [one for at, value in enumerate(values) for one in faults.after({"step": at + 1, name: value})]


# ------------------------------------------------------------------------------------- each threshold


@pytest.mark.parametrize(("name", "first", "sound", "broken", "words"), [
    ("reward_chosen", 0.0, -0.49, -0.51, "chosen replies falls"),
    ("nats_chosen", 2.0, 2.19, 2.21, "chosen replies falls"),
    ("reply_tokens", 10.0, 19.9, 20.1, "longer and longer"),
    ("reply_nats", 2.0, 0.51, 0.49, "entropy collapses"),
    ("entropy", 2.0, 0.51, 0.49, "entropy collapses"),
    ("repeated", 0.05, 0.19, 0.21, "repeat themselves"),
    ("repeated", 0.4, 0.49, 0.51, "repeat themselves"),  # they did before
    ("from_start", 0.0, 0.99, 1.01, "far from"),
    ("kl", 4.0, 7.9, 8.1, "far from"),  # a student may begin far from its teacher
])  # fmt: skip
def test_a_fault_is_told_of_beyond_its_threshold_and_not_before(name, first, sound, broken, words):
    assert told(name, first, sound) == []
    (said,) = told(name, first, broken)
    assert words in said
    assert name in said


def test_one_bad_step_is_no_fault():
    faults = Faults()
    values = [0.0] * 30 + [-100.0] + [0.0] * 30
    assert [one for value in values for one in faults.after({"reward_chosen": value})] == []


def test_a_fault_is_told_once_with_the_step_by_which_it_shows():
    (said,) = told("reply_tokens", 10.0, 30.0, steps=20)
    assert said.startswith("by step 23 ")  # three of the last five are long by then: 22 on average


def test_what_is_no_number_or_missing_counts_for_nothing():
    faults = Faults()
    assert [faults.after({"reply_tokens": value}) for value in (None, float("nan")) * 20] == [[]] * 40
    assert faults.after({"loss": 1.0}) == []


def test_means_of_a_longer_run_are_over_a_tenth_of_it():
    assert apart([0.0] * 50 + [1.0] * 40 + [3.0] * 10) == (0.0, 3.0)


# -------------------------------------------------------------------------------- what was drawn


def sampled(*ids, logprobs=None):
    said = Message("assistant", "x", ids=ids, logprobs=logprobs)
    asked = Message("user", "y")
    return Example({"text": Conversation((asked, said))})


def test_figures_of_replies_are_means_over_what_was_sampled():
    one, two = sampled(1, 2, logprobs=(-1.0, -3.0)), sampled(*[5] * 8, logprobs=(-0.5,) * 8)
    found = drawn([one, two, Example({"text": chat("u: y", "a: written")})])
    assert found == {"reply_tokens": 5.0, "repeated": pytest.approx(0.8), "reply_nats": pytest.approx(0.8)}
    assert drawn([Example({"text": chat("u: y", "a: written")})]) == {}


def test_a_reply_that_says_one_thing_twice_repeats_itself():
    assert repeated([1, 2, 3, 4, 1, 2, 3, 4]) == pytest.approx(0.2)  # 1 of its 5


# ----------------------------------------------------------------------------- runs into a fault

DRAWN = '''
from turnsmith.registry import objective, stage
from turnsmith.types import Chat, Example, Loss, Message, Sampling, Scores


@stage("shown", chats=("by",))
def shown(data, *, by: Chat, reply: str, rng, counts):
    """A reply for each prompt, from which nothing is learnt, and one that is written, which is."""
    replies = by([one.parts["text"].upto(1) for one in data], sampling=Sampling(max_new=24))
    for one, drawn in zip(data, replies, strict=True):
        asked = one.parts["text"].upto(1)
        yield Example({"text": asked.then(drawn.message)}, {"reward": 0.0}, one.meta)
        meta = {**one.meta, "id": one.id + " written"}
        yield Example({"text": asked.then(Message("assistant", reply))}, {"reward": 1.0}, meta)


@objective("lifted", per="example", reference=True, values=("reward",), source="mine")
def lifted(s: Scores) -> Loss:
    """The likelihood of what has a reward, and how far all is from the start."""
    far = s.along("text", s.logprobs - s.reference) / s.along("text", s.weights.new_ones(len(s.weights)))
    return Loss(-s.values["reward"] * s.sums("text"), {"from_start": far.detach()})
'''
PROMPTS = ["ab", "cd", "ef", "gh"]
BROKEN, SOUND = 3e-2, 1e-5  # learning rates


def collecting(reply, lr, start):
    """A recipe whose model learns `reply`, shown to it beside what it draws. start: `taught` has learnt to
    say two letters before, `base` says anything."""
    fit = {"length": 64, "dtype": "float32", "lr": 3e-2, "schedule": "constant"}
    taught = {
        "name": "taught",
        "data": "prompts",
        "trainable": "full",
        "fit": {**fit, "steps": 30, "batch": 4},
    }
    driven = {
        "name": "policy",
        "start": start,
        "data": "prompts",
        "objective": "lifted",
        "trainable": "full",
        "collect": {"stages": [{"shown": {"by": "policy", "reply": reply}}], "examples": 4, "epochs": 1},
        "fit": {**fit, "steps": 24, "batch": 8, "lr": lr, "reference": "live"},
    }
    return {
        "title": "driven",
        "base": {"markov": {"hidden": 16}},
        "forgetting": False,
        "steps": [
            {"data": {"name": "prompts", "read": "prompts.jsonl"}},
            {"train": taught},
            {"train": driven},
        ],
    }


def warnings(recipe):
    """What run.json of a run tells of its training."""
    (found,) = turnsmith.run(recipe, name="driven", use=["mine.py"])
    policy = [step for step in found["steps"] if step["name"] == "policy"]
    assert all(any(said in warning for warning in found["warnings"]) for said in policy[0]["health"])
    return [one for one in found["warnings"] if one.startswith("train policy: by step")]


@pytest.fixture(scope="module")
def driven(tmp_path_factory):
    """What is told of a run that is shown one letter over and over, and of its twin that learns slowly."""
    with pytest.MonkeyPatch.context() as patch:
        where = tmp_path_factory.mktemp("driven")
        patch.chdir(where)
        patch.setenv("TURNSMITH_HOME", str(where / "home"))
        chats = [
            {"messages": [{"role": "user", "content": one}, {"role": "assistant", "content": reply}]}
            for one, reply in zip(PROMPTS, ("ab", "ba", "cd", "dc"), strict=True)
        ]
        (where / "prompts.jsonl").write_text("".join(json.dumps(each) + "\n" for each in chats))
        (where / "mine.py").write_text(DRAWN)
        yield {
            (start, lr): warnings(collecting("a" * 20, lr, start))
            for start in ("taught", "base")
            for lr in (BROKEN, SOUND)
        }


@pytest.mark.parametrize(("words", "start"), [
    ("longer and longer", "taught"), ("far from", "taught"), ("repeat themselves", "base"),
    ("entropy collapses", "base"),
])  # fmt: skip
def test_a_run_that_is_driven_into_a_fault_says_so_and_its_sound_twin_does_not(driven, words, start):
    assert [words in one for one in driven[start, BROKEN]].count(True) == 1
    assert driven[start, SOUND] == []


PAIRS = [
    Method(functools.partial(dpo, beta=0.1), "example", reference=True),
    Method(functools.partial(orpo, weight=0.5), "example"),
]


@pytest.mark.parametrize("method", PAIRS, ids=["dpo", "orpo"])
@pytest.mark.parametrize(("lr", "broken"), [(0.3, True), (1e-3, False)])
def test_chosen_replies_that_get_less_likely_are_told_of(tmp_path, method, lr, broken):
    """The start has learnt the chosen replies: a rate that is far too high can only make them less likely."""
    whole = model()
    forest.attach(whole)
    scoring = Scoring(install(whole, Lora, {"rank": 4}, seed=0))
    data = examples(8, parts=("chosen", "rejected"))
    known = reference.live(scoring, pack(data[:1]), temperature=1.0) if method.reference else None
    told: list[str] = []

    def fitted(data, method, lr, name, recorder, known=None):
        stream = Stream(data, batch=8, order="shuffled", seed=0)
        options = Fit(steps=20, batch=8, lr=lr, warmup=1.0, schedule="constant")
        place, directory = Place(device="cpu"), tmp_path / name
        fit(
            scoring, stream, method, options,
            directory=directory, recorder=recorder, place=place, seed=0, reference=known,
        )  # fmt: skip

    alone = [Rendered(one.id, {"text": one.parts["chosen"]}) for one in data]
    fitted(alone, Method(sft, "token", linear=True), 0.05, "start", Figures())
    with Record(tmp_path, title="pairs", quiet=True) as record:
        fitted(data, method, lr, "pairs", Health(record, tmp_path / METRICS, told.append), known)
    assert [("chosen replies falls" in one) for one in told] == [True] * broken
    assert health.said(tmp_path / METRICS) == told
    again: list[str] = []  # who goes on is told of what showed before
    with Record(tmp_path, title="pairs", quiet=True) as record:
        Health(record, tmp_path / METRICS, again.append).rewind(20)
    assert again == told
