"""Dialogues of chats: who is asked what, what each of them sees, why they end, and that they end alike."""

import itertools
from collections import Counter
from dataclasses import replace

import pytest
import torch

from turnsmith import seeds
from turnsmith.data.render import Renderer
from turnsmith.errors import UsageError
from turnsmith.rollout.converse import Dialogue, Opening, Speaker, converse, endings
from turnsmith.sample.chat import LocalChat
from turnsmith.sample.engine import LocalEngine
from turnsmith.testing import chat, model, tokenizer
from turnsmith.types import Call, Conversation, Failure, Message, Reply, Sampling, Usage


class Scripted:
    """A chat that says what `answer` makes of each conversation: a text, a message or a Failure. Keeps the
    calls. finish: of its replies."""

    def __init__(self, answer, finish="stop"):
        self.answer, self.finish = answer, finish
        self.asked, self.settings = [], []

    def __call__(self, conversations, *, sampling=None, seed=0):
        self.asked.append(list(conversations))
        self.settings.append((sampling, seed))
        return [self._reply(self.answer(one)) for one in conversations]

    def _reply(self, said):
        if isinstance(said, Failure):
            return said
        message = said if isinstance(said, Message) else Message("assistant", said)
        return Reply(message, self.finish, Usage(10, 2))


def lines(conversation):
    return [f"{message.role[0]}: {message.content}" for message in conversation.messages]


def said(dialogue):
    return [f"{message.name}: {message.content}" for message in dialogue.said.messages]


def counting(word):
    """Says the word and how many messages it has seen."""
    return Scripted(lambda seen: f"{word} {len(seen.messages)}")


# ------------------------------------------------------------------------------------- who says what


def test_two_speak_in_turn_and_each_is_the_assistant_of_its_own_view():
    ann, bot = counting("ann"), counting("bot")
    speakers = {"ann": Speaker(ann, "You are Ann."), "bot": Speaker(bot, "Be kind.")}
    (one,) = converse(speakers, ["Hi"], turns=3, seed=0)
    assert said(one) == ["ann: Hi", "bot: bot 2", "ann: ann 3", "bot: bot 4"]
    assert lines(one.said) == ["u: Hi", "a: bot 2", "u: ann 3", "a: bot 4"]
    assert lines(bot.asked[0][0]) == ["s: Be kind.", "u: Hi"]
    assert lines(ann.asked[0][0]) == ["s: You are Ann.", "a: Hi", "u: bot 2"]
    assert lines(bot.asked[1][0]) == ["s: Be kind.", "u: Hi", "a: bot 2", "u: ann 3"]
    assert lines(one.view("ann")) == ["s: You are Ann.", "a: Hi", "u: bot 2", "a: ann 3", "u: bot 4"]
    assert lines(one.view("bot")) == ["s: Be kind.", "u: Hi", "a: bot 2", "u: ann 3", "a: bot 4"]
    assert all(message.name is None for name in speakers for message in one.view(name).messages)
    assert (one.ending, one.turns, one.usage) == ("turns", 3, Usage(30, 6))


def test_three_speak_in_their_order_and_hear_each_other_by_name():
    ann, ben, cleo = (counting(word) for word in "abc")
    speakers = {"Ann": Speaker(ann), "Ben": Speaker(ben, "Be brief."), "Cleo": Speaker(cleo)}
    start = Conversation((Message("user", "Hi", name="Ann"),))
    (one,) = converse(speakers, [start], turns=4, seed=0)
    assert said(one) == ["Ann: Hi", "Ben: b 2", "Cleo: c 1", "Ann: a 2", "Ben: b 4"]
    assert lines(one.said) == ["u: Hi", "u: b 2", "a: c 1", "u: a 2", "u: b 4"]
    assert lines(cleo.asked[0][0]) == ["u: Ann: Hi\n\nBen: b 2"]
    assert lines(ann.asked[0][0]) == ["a: Hi", "u: Ben: b 2\n\nCleo: c 1"]
    assert lines(ben.asked[1][0]) == ["s: Be brief.", "u: Ann: Hi", "a: b 2", "u: Cleo: c 1\n\nAnn: a 2"]


def test_whose_turn_it_is_follows_from_the_opening():
    ann, bot = Scripted(lambda seen: "ann"), Scripted(lambda seen: "bot")
    speakers = {"ann": Speaker(ann), "bot": Speaker(bot)}
    named = Conversation((Message("assistant", "Yes?", name="ann"),))  # the name counts, not the role
    openings = [Conversation(()), chat("u: Hi"), chat("u: Hi", "a: Hello"), named, chat("s: A train.")]
    dialogues = converse(speakers, openings, turns=1, seed=0)
    assert [one.said.messages[-1].name for one in dialogues] == ["ann", "bot", "ann", "bot", "ann"]
    assert [one.said.messages[-1].role for one in dialogues] == ["user", "assistant"] * 2 + ["user"]
    assert dialogues[3].said.messages[0].role == "user"


def test_what_one_is_told_the_others_never_see():
    """The scene is everybody's, a system text and a profile one's own, and so are messages before the
    dialogue; a user message there and the first of the dialogue become one."""
    buyer, seller = counting("buy"), counting("sell")
    ask = (Message("user", "Begin."), Message("assistant", "I begin."), Message("user", "Go on."))
    speakers = {
        "buyer": Speaker(buyer, "You buy."),
        "seller": Speaker(seller, "You sell.", private=ask),
    }
    scene = chat("s: A market.", "u: How much?")
    profile = {"buyer": (Message("system", "You have 5."),), "seller": (Message("system", "It cost 3."),)}
    (one,) = converse(speakers, [Opening(scene, profile)], turns=2, seed=0)
    assert lines(seller.asked[0][0]) == [
        "s: A market.\n\nYou sell.\n\nIt cost 3.", "u: Begin.", "a: I begin.", "u: Go on.\n\nHow much?",
    ]  # fmt: skip
    assert lines(buyer.asked[0][0]) == [
        "s: A market.\n\nYou buy.\n\nYou have 5.",
        "a: How much?",
        "u: sell 4",
    ]
    assert lines(one.said) == ["s: A market.", "u: How much?", "a: sell 4", "u: buy 3"]


def test_ids_and_thoughts_stay_with_who_sampled_them():
    thought = Message("assistant", "Hello", ids=(5, 6), logprobs=(-0.5, -0.25), thinking="Hm.")
    speakers = {"ann": Speaker(Scripted(lambda seen: "ann")), "bot": Speaker(Scripted(lambda seen: thought))}
    (one,) = converse(speakers, ["Hi"], turns=2, seed=0)
    assert one.view("bot").messages[1] == thought
    assert one.view("ann").messages[1] == Message("user", "Hello")
    assert one.said.messages[1] == replace(thought, name="bot")


# --------------------------------------------------------------------------------------- who is asked


def test_a_round_is_one_call_for_all_that_wait():
    ann, bot = counting("ann"), counting("bot")
    hot = Sampling(temperature=0.5)
    speakers = {"ann": Speaker(ann), "bot": Speaker(bot, sampling=hot)}
    dialogues = converse(speakers, [f"Hi {n}" for n in range(200)], turns=5, seed=0)
    assert [len(asked) for asked in bot.asked] == [200] * 3
    assert [len(asked) for asked in ann.asked] == [200] * 2
    assert [one.said.messages[0].content for one in dialogues] == [f"Hi {n}" for n in range(200)]
    assert {sampling for sampling, _ in bot.settings} == {hot}
    assert {sampling for sampling, _ in ann.settings} == {None}
    assert len({seed for _, seed in bot.settings + ann.settings}) == 5
    assert endings(dialogues) == {"turns": 200}


def test_one_chat_that_is_two_speakers_answers_for_both_in_one_call():
    both = counting("x")
    speakers = {"ann": Speaker(both, "You are Ann."), "bot": Speaker(both)}
    dialogues = converse(speakers, [chat("u: Hi"), chat("u: Hi", "a: Hello")], turns=2, seed=0)
    assert [len(asked) for asked in both.asked] == [2, 2]
    assert [lines(one) for one in both.asked[0]] == [["u: Hi"], ["s: You are Ann.", "a: Hi", "u: Hello"]]
    assert [said(one)[-1] for one in dialogues] == ["ann: x 3", "bot: x 3"]


def test_speakers_of_one_chat_that_sample_in_other_ways_are_asked_apart():
    both = counting("x")
    speakers = {"ann": Speaker(both, sampling=Sampling(temperature=0.0)), "bot": Speaker(both)}
    converse(speakers, [chat("u: Hi"), chat("u: Hi", "a: Hello")], turns=1, seed=0)
    assert [len(asked) for asked in both.asked] == [1, 1]
    assert both.settings[0][1] != both.settings[1][1]


def test_dialogues_may_have_different_lengths():
    ann, bot = counting("ann"), counting("bot")
    speakers = {"ann": Speaker(ann), "bot": Speaker(bot)}
    dialogues = converse(speakers, ["a", "b", "c"], turns=[3, 0, 1], seed=0)
    assert [one.turns for one in dialogues] == [3, 0, 1]
    assert [len(asked) for asked in bot.asked] == [2, 1]
    assert converse(speakers, [], turns=3, seed=0) == []


# --------------------------------------------------------------------------------------------- endings


def only(answer, *, finish="stop", turns=4, **options):
    """A dialogue of somebody who says `go on` and one who answers so."""
    speakers = {
        "ann": Speaker(Scripted(lambda seen: "go on"), closing=options.pop("closing", ())),
        "bot": Speaker(Scripted(answer, finish)),
    }
    (one,) = converse(speakers, ["Hi"], turns=turns, seed=0, **options)
    return one


def test_a_closing_text_of_a_speaker_ends_the_dialogue_and_stays():
    one = only(lambda seen: "well", closing=("bye", "go on"))
    assert (one.ending, said(one)) == ("closed", ["ann: Hi", "bot: well", "ann: go on"])
    assert only(lambda seen: "bye", closing=("bye",)).ending == "turns"  # not the one whose text it is


def test_a_predicate_sees_the_dialogue_from_outside():
    shown = []

    def ends(conversation):
        shown.append([message.name for message in conversation.messages])
        return len(conversation.messages) == 3

    one = only(lambda seen: "well", ends=ends)
    assert (one.ending, one.turns) == ("ended", 2)
    assert shown == [["ann", "bot"], ["ann", "bot", "ann"]]


def test_a_reply_that_says_nothing_ends_the_dialogue_and_stays():
    one = only(lambda seen: " \n")
    assert (one.ending, said(one)) == ("empty", ["ann: Hi", "bot:  \n"])


def test_a_call_of_a_tool_ends_the_dialogue_and_stays():
    one = only(lambda seen: Message("assistant", "I look.", calls=(Call("look", {}),)))
    assert (one.ending, said(one)) == ("calls", ["ann: Hi", "bot: I look."])


def test_a_reply_that_was_cut_is_noted_and_the_dialogue_goes_on():
    one = only(lambda seen: "so we", finish="length")
    assert (one.ending, one.cut, one.turns) == ("turns", (1, 3), 4)


def test_a_failure_ends_its_dialogue_and_no_other():
    answer = Scripted(lambda seen: Failure("12 tokens") if "b" in seen.messages[0].content else "fine")
    speakers = {"ann": Speaker(counting("ann")), "bot": Speaker(answer)}
    dialogues = converse(speakers, ["a", "b", "c"], turns=3, seed=0)
    assert [one.ending for one in dialogues] == ["turns", "failed", "turns"]
    assert [one.turns for one in dialogues] == [3, 0, 3]
    assert (dialogues[1].reason, said(dialogues[1])) == ("12 tokens", ["ann: b"])
    assert [len(asked) for asked in answer.asked] == [3, 2]
    assert endings(dialogues) == {"turns": 2, "failed: 12 tokens": 1}


def test_what_was_said_before_a_failure_is_kept():
    one = only(lambda seen: Failure("full") if len(seen.messages) > 1 else "well")
    assert (one.ending, said(one)) == ("failed", ["ann: Hi", "bot: well", "ann: go on"])
    assert one.usage == Usage(20, 4)


# ----------------------------------------------------------------------------------------- randomness


class Drawing:
    """A chat that keeps LocalChat's promise: a reply depends on the seed, the conversation, and how many
    equal ones came before it in the call. Of `words` different replies."""

    def __init__(self, words):
        self.words = words

    def __call__(self, conversations, *, sampling=None, seed=0):
        before, replies = Counter(), []
        for one in conversations:
            key = tuple(lines(one))
            drawn = seeds.number(seed, *key, before[key]) % self.words
            before[key] += 1
            replies.append(Reply(Message("assistant", f"word {drawn}"), "stop", Usage(1, 1)))
        return replies


def drawn(openings, *, words=10**6, seed=0, turns=4):
    both = Drawing(words)
    speakers = {"ann": Speaker(both, "You are Ann."), "bot": Speaker(both)}
    return [said(one) for one in converse(speakers, openings, turns=turns, seed=seed)]


@pytest.mark.parametrize("words", [10**6, 2])
def test_a_dialogue_is_the_same_alone_and_among_others(words):
    """With two words, dialogues of one opening stay equal for some turns; those of others are no matter."""
    openings = [f"Hi {number}" for number in range(20)]
    together = drawn(openings, words=words)
    assert together[7:8] == drawn(["Hi 7"], words=words)
    assert together[::-1] == drawn(openings[::-1], words=words)
    assert together != drawn(openings, words=words, seed=1)


@pytest.mark.parametrize("words", [10**6, 2])
def test_dialogues_of_one_opening_differ_and_are_the_first_of_any_more(words):
    many = drawn(["Hi"] * 12, words=words)
    assert many[:5] == drawn(["Hi"] * 5, words=words)
    mixed = list(itertools.chain.from_iterable(("Hi", f"Else {number}") for number in range(12)))
    assert drawn(mixed, words=words)[::2] == many
    if words > 2:
        assert len({tuple(one) for one in many}) == 12


def test_rounds_and_seeds_draw_anew():
    """A chat that minds its seed alone says something else in each round."""
    seeded = []

    def minding(conversations, *, sampling=None, seed=0):
        seeded.append(seed)
        return [Reply(Message("assistant", str(seed)), "stop", Usage(1, 1)) for _ in conversations]

    speakers = {"ann": Speaker(minding), "bot": Speaker(minding)}
    for seed in (0, 1):
        converse(speakers, ["Hi"], turns=6, seed=seed)
    assert len(set(seeded)) == 12


class Seeded(Drawing):
    """A chat that takes a seed for each conversation, and minds nothing else."""

    def by_seeds(self, conversations, *, seeds, sampling=None):
        return [
            Reply(Message("assistant", f"word {one % self.words}"), "stop", Usage(1, 1))
            for one, _ in zip(seeds, conversations, strict=True)
        ]


def test_a_dialogue_depends_on_its_own_opening_and_its_number_among_equal_ones():
    """The model cannot tell these apart, since only the user is told who it is; for a dialogue alone and for
    one behind any others it draws the same, for another one and for another turn something else."""
    both = Seeded(10**9)
    speakers = {"user": Speaker(both), "model": Speaker(both)}
    old, young = (Opening(chat("u: Hi"), {"user": (Message("system", age),)}) for age in ("80", "8"))
    told = [old, old, young, Opening(chat("u: Hi"), {"model": ()}), "Hi"]
    found = [said(one)[1:] for one in converse(speakers, told, turns=3, seed=0)]
    assert [said(one)[1:] for one in converse(speakers, [young, old, "Hi"], turns=3, seed=0)] == [
        found[2], found[0], found[3],
    ]  # fmt: skip
    assert len({word.split(": ")[1] for one in found for word in one}) == 15
    assert said(converse(speakers, ["Hi"], turns=3, seed=1)[0])[1:] != found[3]


# ------------------------------------------------------------------------------------------- branching


def test_a_dialogue_goes_on_from_any_of_its_messages_with_what_each_was_told():
    speakers = {"ann": Speaker(counting("ann"), "You are Ann."), "bot": Speaker(counting("bot"))}
    told = Opening(chat("u: Hi"), {"ann": (Message("system", "You are 30."),)})
    (one,) = converse(speakers, [told], turns=4, seed=0)
    (other,) = converse(speakers, [one.upto(3)], turns=2, seed=1)
    assert said(other)[:3] == said(one)[:3]
    assert other.turns == 2
    assert lines(other.view("ann")) == lines(one.view("ann"))


# -------------------------------------------------------------------------------------------- bad input


def test_answers_are_places_and_a_dialogue_is_seen_as_it_was_before_a_place():
    speakers = {"ann": Speaker(counting("ann")), "bot": Speaker(Scripted(lambda _: "yes", finish="length"))}
    start = chat("u: Hi", "a: Hello", "u: Well?")
    (one,) = converse(speakers, [start], turns=3, seed=0)
    assert (one.answers("bot"), one.answers("ann"), one.cut) == ((3, 5), (4,), (3, 5))
    earlier = one.before(4)
    assert said(earlier) == said(one)[:4]
    assert earlier.cut == (3,)
    assert earlier.view("bot") == Conversation(one.view("bot").messages[:4])


def test_what_cannot_be_meant_is_refused():
    bot = Speaker(counting("bot"))
    two, three = {"ann": bot, "bot": bot}, {"ann": bot, "ben": bot, "bot": bot}
    tooled = Conversation((Message("user", "Hi"),), ({"name": "look"},))
    calling = Conversation((Message("assistant", "", calls=(Call("look", {}),)),))
    for speakers, opening, turns, words in (
        ({"bot": bot}, "Hi", 1, "takes two speakers, and there are 1"),
        (two, "Hi", -1, "turns: -1 do not fit 1 openings"),
        (two, "Hi", [1, 2], r"turns: \[1, 2\] do not fit 1 openings"),
        (two, Opening(chat("u: Hi"), {"eve": ()}), 1, "opening 0 tells 'eve' something, .* ann, bot"),
        (two, Conversation((Message("user", "Hi", name="eve"),)), 1, "0 is said by 'eve', who .* ann or bot"),
        (three, "Hi", 1, "opening 0, message 0 is said by nobody in particular: give it the name of ann or"),
        (two, tooled, 1, "opening 0 has tools"),
        (two, calling, 1, "opening 0, message 0 is a call of tools"),
        (two, Conversation((Message("text", "Hi"),)), 1, "message 0 is of the role 'text'"),
    ):
        with pytest.raises(UsageError, match=words):
            converse(speakers, [opening], turns=turns, seed=0)


def test_a_view_of_nobody_is_refused():
    one = Dialogue(Opening(), Conversation(()), {"ann": (), "bot": ()}, "turns")
    with pytest.raises(UsageError, match="nobody here is called 'eve': there are ann, bot"):
        one.view("eve")


# ------------------------------------------------------------------------------------------ a real model


@pytest.fixture(scope="module")
def renderer():
    return Renderer(tokenizer())


@pytest.fixture(scope="module")
def local(renderer):
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    engine = LocalEngine(model(), stop=renderer.stops)
    yield LocalChat(engine, renderer, sampling=Sampling(max_new=12))
    torch.set_num_threads(before)


def held(local, openings):
    speakers = {"ann": Speaker(local, "You are Ann."), "bot": Speaker(local)}
    return converse(speakers, openings, turns=4, seed=3)


def test_a_speaker_reads_on_in_the_tokens_that_it_drew(local, renderer):
    """The prompt of every reply begins with the prompt of the speaker's last reply and the ids of that."""
    openings = ["Tell me a story.", "And you?", "The cat sat on the mat."]
    extended = 0
    for one in held(local, openings):
        for name in ("ann", "bot"):
            view = one.view(name)
            own = [place for place, message in enumerate(view.messages) if message.ids is not None]
            assert len(own) == sum(m.name == name for m in one.said.messages[1:])
            for before, after in itertools.pairwise(own):
                begun = [*renderer.prompt(view.upto(before)), *view.messages[before].ids]
                assert renderer.prompt(view.upto(after))[: len(begun)] == begun
                extended += 1
            assert all(m.ids is None for m in view.messages if m.role == "user")
    assert extended >= 3  # the model would have to end its dialogues at once else


def test_a_model_holds_a_dialogue_alone_as_among_others(local):
    openings = ["Tell me a story.", "And you?", "And you?", "The cat sat on the mat."]
    together = held(local, openings)
    assert [m.ids for m in held(local, openings[:1])[0].said.messages] == [
        m.ids for m in together[0].said.messages
    ]
    assert [said(one) for one in held(local, ["And you?"] * 2)] == [said(one) for one in together[1:3]]
    assert said(together[1]) != said(together[2])


def test_what_only_one_is_told_sets_dialogues_apart(local):
    """The first speaker is told who it is, so that the second one sees the same in both dialogues."""
    told = [Opening(chat("u: And you?"), {"ann": (Message("system", f"You are {age}."),)}) for age in (8, 80)]
    together = held(local, told)
    assert said(together[1]) == said(held(local, told[1:])[0])
    assert said(together[0])[1] != said(together[1])[1]


def test_what_does_not_fit_the_context_any_more_ends_with_that_reason(local):
    """1,024 tokens: an opening of some 1,000 can be answered once at most."""
    (long, short) = held(local, ["Hi! " * 245, "Hi"])
    assert long.ending == "failed"
    assert "the model's context ends at 1024" in long.reason
    assert short.ending != "failed"
