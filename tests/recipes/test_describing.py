"""What `turnsmith data FILE` says, counted by hand on small files."""

import json

import pytest

from turnsmith.errors import DataError, UsageError
from turnsmith.recipes.describing import describe
from turnsmith.testing import conversations, directory, jsonl

LONG = "It is a long story, and there is more to it than one can say in a few words on a day like this. "


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A working directory, and an empty cache, in which no model is."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TURNSMITH_HOME", str(tmp_path / "home"))
    return tmp_path


def chats(here, *said, name="chats.jsonl"):
    """A file of conversations, each a list of contents of user and assistant in turn."""
    roles = ("user", "assistant")
    rows = [
        {"messages": [{"role": roles[n % 2], "content": text} for n, text in enumerate(texts)]}
        for texts in said
    ]
    (here / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return here / name


def test_counts_roles_and_lengths(here):
    found = describe(chats(here, ["Hi", "Hello."], ["How are you?", "Fine.", "Good.", "Yes."]))
    assert (found["format"], found["guessed"], found["rows"], found["examples"]) == ("messages", True, 2, 2)
    assert (found["parts"], found["roles"]) == ({"text": 2}, {"user": 3, "assistant": 3})
    assert found["messages"] == {"least": 2, "median": 2, "p90": 4, "p99": 4, "most": 4}
    # Contents and two newlines between messages: 2 + 6 + 2 = 10, and 12 + 5 + 5 + 4 + 3 * 2 = 32.
    assert (found["characters"]["least"], found["characters"]["most"]) == (10, 32)


def test_duplicates_near_duplicates_and_prompts_with_two_answers_are_told_apart(here):
    story = LONG * 5
    file = chats(
        here,
        ["Tell me.", story],
        ["Tell me.", story],
        ["Tell me.", story + "The end."],
        ["Is it good?", "It is."],
        ["Is it good?", "I do not think so."],
    )
    found = describe(file)
    assert found["duplicates"] == 1
    assert found["duplicate_groups"] == [
        {"count": 2, "ids": ["chats-1", "chats-2"], "text": f"Tell me. {story}"[:100]}
    ]
    assert found["near_duplicates"]["compared"] == 4
    assert [group["ids"] for group in found["near_duplicates"]["first"]] == [["chats-1", "chats-3"]]
    assert found["answered_differently"]["prompts"] == 2
    assert [group["ids"] for group in found["answered_differently"]["first"]] == [
        ["chats-1", "chats-2", "chats-3"], ["chats-4", "chats-5"]
    ]  # fmt: skip
    assert found["answered_differently"]["first"][1]["text"] == "Is it good? I"


def test_conversations_that_only_begin_alike_are_no_near_duplicates(here):
    other = "Nothing of what was asked can be told here, since all of it has been forgotten by everybody. "
    found = describe(chats(here, [LONG, LONG * 3], [LONG, other * 4]))
    assert found["near_duplicates"]["groups"] == 0


def test_who_says_it_matters_for_exact_duplicates(here):
    rows = [{"messages": [{"role": role, "content": "Hi"}]} for role in ("user", "assistant")]
    (here / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert describe(here / "x.jsonl")["duplicates"] == 0


def test_suspicious_rows_are_counted_with_their_first_ids(here):
    sound = [[f"{LONG} {n}?", f"{n} is fine. {LONG}"] for n in range(100)]
    found = describe(chats(here, *sound, *[["Hi", ""]] * 7, ["Hi", "Mail a@b.example. " * 200]))
    assert found["suspicious"] == {
        "an assistant message is empty": {"count": 7, "first": [f"chats-{n}" for n in range(101, 106)]},
        "far shorter than the others": {"count": 7, "first": [f"chats-{n}" for n in range(101, 106)]},
        "far longer than the others": {"count": 1, "first": ["chats-108"]},
    }
    assert found["personal"] == {"e-mail addresses": {"count": 1, "first": ["chats-108"]}}


def test_what_is_measured_on_a_sample_says_how_large_it_is(here):
    file = chats(here, *[[f"{LONG} {n}", f"{LONG} So it is with {n}."] for n in range(30)])
    found = describe(file, sample=10, near=20)
    assert found["languages"] == {"measured": 10, "of": 30, "counts": {"en": 10}}
    assert found["near_duplicates"]["compared"] == 20
    nothing = describe(file, sample=0, near=0)
    assert nothing["languages"] == {"measured": 0, "of": 30, "counts": {}}
    assert nothing["near_duplicates"]["compared"] == nothing["near_duplicates"]["groups"] == 0


def test_tokens_are_counted_as_they_are_rendered_for_the_model_that_is_named(here):
    from turnsmith.data.render import Renderer
    from turnsmith.models import load
    from turnsmith.testing import chat

    model = directory(here / "model")
    renderer = Renderer(load.tokenizer(str(model)))
    long, short = chat("u: a b c", f"a: {LONG * 9}"), chat("u: Hi", "a: Hello.")
    lengths = [len(one) for conversation in (short, long) for one in renderer.render(conversation)]
    file = chats(here, *[[m.content for m in conversation.messages] for conversation in (short, long)])
    tokens = describe(file, model=model)["tokens"]
    assert (tokens["measured"], tokens["of"], tokens["refused"]) == (2, 2, {})
    assert [tokens["least"], tokens["most"]] == lengths
    assert tokens["over"] == {limit: int(lengths[1] > limit) for limit in (1024, 2048, 4096, 8192)}


def test_without_a_model_tokens_are_not_counted_and_nothing_is_fetched(here):
    assert describe(chats(here, ["Hi", "Hello."]))["tokens"] == {"measured": 0, "of": 1, "model": None}
    assert not (here / "home" / "wheels").exists()


def test_conversations_that_the_template_refuses_are_counted_with_the_reason(here):
    model = directory(here / "model")
    file = chats(here, ["Hi", "Hello."], [])
    tokens = describe(file, model=model)["tokens"]
    assert tokens["measured"] == 1
    ((reason, flag),) = tokens["refused"].items()
    assert flag == {"count": 1, "first": ["chats-2"]}
    assert "chats-2" not in reason


def test_bad_rows_stop_or_are_set_aside_and_counted(here):
    path = chats(here, ["Hi", "Hello."])
    path.write_text(path.read_text() + "{\n{}\n")
    with pytest.raises(DataError, match=r"chats.jsonl, line 2: no JSON"):
        describe(path)
    found = describe(path, format="messages", bad_rows="quarantine")
    assert (found["rows"], found["examples"], sum(found["bad_rows"].values())) == (3, 1, 2)
    assert found["bad_rows_in"] == "chats.bad-rows.jsonl"
    assert [json.loads(line)["line"] for line in (here / "chats.bad-rows.jsonl").open()] == [2, 3]
    named = describe(path, format="messages", bad_rows="quarantine", bad_rows_to=here / "elsewhere.jsonl")
    assert named["bad_rows_in"] == str(here / "elsewhere.jsonl")


def test_bad_rows_never_go_into_the_file_that_they_are_from(here):
    path = chats(here, ["Hi", "Hello."])
    before = path.read_text()
    with pytest.raises(UsageError, match=r"chats.jsonl is there and holds no bad rows: name another file"):
        describe(path, bad_rows="quarantine", bad_rows_to=path)
    assert path.read_text() == before


def test_where_bad_rows_stop_they_have_nowhere_to_go(here):
    with pytest.raises(UsageError, match="only where they do not stop: --bad-rows quarantine"):
        describe(chats(here, ["Hi", "Hello."]), bad_rows_to="x.jsonl")


def test_sizes_must_not_be_negative(here):
    with pytest.raises(UsageError, match="sample and near must be at least 0, not -1 and 5"):
        describe(chats(here, ["Hi", "Hello."]), sample=-1, near=5)


def test_the_same_file_is_described_alike_each_time(here):
    jsonl(here / "many.jsonl", conversations(40))
    assert describe(here / "many.jsonl", sample=7) == describe(here / "many.jsonl", sample=7)
