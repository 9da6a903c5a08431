"""Simulated conversations, by hand. Numbers: the card's checks."""

import pytest
import torch

from turnsmith.agents.recommender import RecommenderAgent
from turnsmith.agents.seeker import ACCEPTED, SeekerAgent
from turnsmith.data.batch import pad
from turnsmith.data.render import Renderer
from turnsmith.errors import DataError, UsageError
from turnsmith.evaluation.suite import Subject
from turnsmith.evaluation.tasks.critiquing import Critiquing
from turnsmith.models import load
from turnsmith.models.networks.recommender import Reviews, recommender
from turnsmith.models.score import Scoring
from turnsmith.objectives.botplay import DRAWS
from turnsmith.rollout.converse import Opening, Speaker, converse
from turnsmith.stages.reviews import reviews
from turnsmith.testing import TASK, TinyBench
from turnsmith.types import Conversation, Example, Message, Sampling

ASPECTS = ("hoppy", "smooth", "sour", "dry", "sweet", "malty", "bitter", "fruity", "dark", "light")
WORLD = {"users": 12, "items": 30, "aspects": ASPECTS, "each": 4, "known": 5, "later": 2}


def made(seed=0, users=12, items=30, aspects=ASPECTS, scale=0.7):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, words = recommender(users=users, items=items, aspects=aspects, hidden=3)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=scale)
    return model.eval(), words


def subject(model, words):
    def chat(*asked, **options):
        raise AssertionError("nothing is asked")

    return Subject("made", Scoring(model), Renderer(words), chat, pad)


def bench(rows, *subjects):
    found = TinyBench({"rows": rows})
    found.tuned, found._start = subjects or (subject(*made()), subject(*made(1)))
    return found


def example(before, last, wanted, id="one"):
    said = Conversation((Message("text", before, weight=0.0), Message("text", last, weight=1.0)))
    return Example({"text": said}, {}, {"id": id, "wanted": list(wanted)})


def by_hand(scores, justified=()):
    """A recommender that scores four items so at any critique, and names these aspects for sure."""
    model, words = made(users=1, items=4, aspects=("hoppy", "sour"))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.model.items.weight[:, 0] = torch.tensor(scores)
        model.model.users.weight[0, 0] = 1.0
        certain = [99.0 if aspect in justified else -99.0 for aspect in (0, 1)]
        model.model.justification.bias.copy_(torch.tensor(certain))
    return subject(model, words)


def measured(scores, row, turns=3, **options):
    whole = by_hand(scores, **options)
    return Critiquing(on="rows", turns=turns).measure(whole, bench([row], whole, whole))


@pytest.mark.parametrize("check", TASK, ids=lambda check: check.__name__)
def test_contract(check):
    rows = list(reviews([], **WORLD, side="heldout"))
    check(lambda: Critiquing(on="rows", turns=4), bench(rows))


def test_7_what_is_recommended_at_once_is_a_success_of_one_turn():
    (item,) = measured([4.0, 3.0, 2.0, 1.0], example("u0 i3 hoppy", " i0 sour", ["sour"]))
    assert item.values["turns"] == 1
    assert item.values["early"] == item.values["found"] == item.values["reciprocal"] == 1
    assert item.values["walk"] == 1
    assert item.shown == {"ranks": [0]}


def test_7_what_is_never_recommended_takes_all_turns():
    (item,) = measured([4.0, 3.0, 2.0, 1.0], example("u0 i0 hoppy", " i3 sour", ["sour"]))
    assert item.values["turns"] == 3
    assert item.values["found"] == item.values["early"] == 0
    assert item.values["reciprocal"] == 1 / 3  # of i1, i2, i3, as i0 was reviewed
    assert (item.values["walked"], item.values["walk"]) == (1, 3)


def test_6_what_was_reviewed_before_is_never_recommended_and_the_wanted_item_always_can_be():
    (item,) = measured([4.0, 3.0, 2.0, 1.0], example("u0 i0 hoppy i1 sour i2", " i3 sour", ["sour"]))
    assert item.values["turns"] == 1


def test_6_a_row_whose_item_was_reviewed_before_is_left_out():
    rows = [example("u0 i3 hoppy", " i3 sour", ["sour"]), example("u0 i3", " i0", ["sour"], id="two")]
    whole = by_hand([4.0, 3.0, 2.0, 1.0])
    assert [item.id for item in Critiquing(on="rows").measure(whole, bench(rows, whole, whole))] == ["two"]


def test_a_critique_of_what_the_wanted_item_does_not_have_leads_to_it():
    """i0 is named for what is hoppy; the user, who wants what is sour, says so, and i1 is left."""
    whole = by_hand([0.0, 0.5, 0.0, 0.0], justified=(0,))
    one = whole.scoring.model.model
    with torch.no_grad():
        one.items.weight[0, 1] = 1.0
        one.encoder.weight[1, 0] = 1.0  # each hoppy of what was said counts for i0
    row = example("u0 i3 hoppy i2 hoppy", " i1 sour", ["sour"])
    (item,) = Critiquing(on="rows", turns=4).measure(whole, bench([row], whole, whole))
    assert item.shown["ranks"] == [1, 0]
    assert item.values["turns"] == 2
    (other,) = Critiquing(on="rows", turns=4, feedback="positive").measure(whole, bench([row], whole, whole))
    assert other.values["turns"] == 4  # more of what is sour does not move i0


def test_aspects_are_judged_on_what_the_review_of_the_wanted_item_names():
    for justified, f1 in [((0, 1), 2 / 3), ((1,), 1.0), ((0,), 0.0), ((), 0.0)]:
        (item,) = measured([1.0] * 4, example("u0 i3", " i0 sour", ["sour"]), justified=justified)
        assert item.values["aspects"] == pytest.approx(f1)


@pytest.mark.parametrize(("wanted", "said"), [([], "does not name"), (["tall"], "wants 'tall'")])
def test_a_row_that_does_not_say_what_is_wanted_is_refused(wanted, said):
    with pytest.raises(DataError, match=said):
        measured([1.0] * 4, example("u0 i3", " i0 sour", wanted))


def test_another_model_is_refused():
    other = TinyBench({"rows": []})
    with pytest.raises(UsageError, match="'critiquing' is for recommenders"):
        Critiquing(on="rows").measure(other.tuned, other)


# ------------------------------------------------------------------------- the same, as a conversation


def test_two_agents_who_talk_end_at_the_turn_that_the_task_finds(tmp_path):
    """In words and through `converse`, with aspects that are more likely than not, against tensors."""
    model, words = made(scale=1.5)
    load.save(model, words, tmp_path / "model", base=None)
    rows = list(reviews([], **WORLD, side="heldout"))
    task = Critiquing(on="rows", turns=6)
    whole = subject(model, words)
    ids = [whole.renderer.render(one.parts["text"], name=one.id)[-1].inputs for one in rows]
    tensors = [torch.from_numpy(one).long() for one in ids]
    padded = torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=-1)
    seen = model.model.reviews(padded)
    wanted = torch.tensor([[word in one.meta["wanted"] for word in ASPECTS] for one in rows])
    half = torch.full((len(rows), 6, DRAWS, len(ASPECTS)), 0.5)
    with torch.no_grad():
        expected = task.held(model.model, Reviews(*seen), wanted, half).turn

    speakers = {
        "seeker": Speaker(SeekerAgent(aspects=ASPECTS), closing=(ACCEPTED,)),
        "recommender": Speaker(
            RecommenderAgent(model=str(tmp_path / "model")), sampling=Sampling(temperature=0)
        ),
    }
    openings = [
        Opening(
            private={
                "seeker": (Message("system", " ".join([f"i{int(item)}", *one.meta["wanted"]])),),
                "recommender": (Message("system", one.parts["text"].messages[0].content),),
            }
        )
        for one, item in zip(rows, seen.item, strict=True)
    ]
    found = converse(speakers, openings, turns=13, seed=0)  # of six answers, and what is said to the last
    turns = [
        sum(message.name == "recommender" for message in one.said.messages) if one.ending == "closed" else 7
        for one in found
    ]
    assert turns == expected.tolist()
    assert len(set(turns)) > 2
