"""What a grammar allows next is what its texts begin with, token by token, and nothing else."""

import copy
import json
from functools import cache
from random import Random

import jsonschema
import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from turnsmith.errors import ModelError, UsageError
from turnsmith.models import load
from turnsmith.sample.guides import Vocabulary, allowed, restricted
from turnsmith.testing import builders
from turnsmith.types import Sampling

END = 2  # <|im_end|> of the builders' tokenizer
SIZE = 340  # columns of logits; the tokenizer has 320 ids
NUMBER = {
    "type": "object",
    "properties": {"n": {"type": "integer"}},
    "required": ["n"],
    "additionalProperties": False,
}
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 5},
        "from": {"enum": ["é", "日本", "😀", None]},
        "tags": {"type": "array", "items": {"type": "boolean"}, "maxItems": 2},
    },
    "required": ["name", "from"],
    "additionalProperties": False,
}
NEVER = "A: /a/ & /b/"  # a terminal that no text is


@cache
def vocabulary(size=SIZE, stop=(END,)):
    return Vocabulary(builders.tokenizer(), size, stop=stop)


def id_of(token):
    id = builders.tokenizer().convert_tokens_to_ids(token)
    assert id is not None
    return id


def ids_of(text):
    return builders.tokenizer()(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]


def by(grammar, *taken, given=(), words=None):
    """A guide by the grammar after the tokens `taken`."""
    guide = (words or vocabulary()).guide(Sampling(grammar=grammar), given)
    for token in taken:
        guide.take(id_of(token))
    return guide


def free(guide):
    return set(allowed([guide])[0].nonzero()[:, 0].tolist())


def tokens(guide):
    return set(builders.tokenizer().convert_ids_to_tokens(sorted(free(guide))))


def walk(guide, seed, *, limit=3000):
    """Ids drawn at random among the allowed ones until a stop id comes, and what was allowed each time."""
    rng, ids, seen = Random(seed), [], []
    while len(ids) < limit:
        seen.append(free(guide))
        ids.append(rng.choice(sorted(seen[-1])))
        guide.take(ids[-1])
        if ids[-1] in guide.vocabulary.stop:
            return ids, seen
    raise AssertionError("no end was drawn")


# ---------------------------------------------------------------------------------- what is allowed


@pytest.mark.parametrize(
    ("taken", "expected", "ended"),
    [
        ([], {"a", "b"}, False),
        (["a"], {"<|im_end|>"}, True),
        (["b"], {"c"}, False),
        (["b", "c"], {"<|im_end|>"}, True),
    ],
)
def test_two_words_allow_their_letters_and_then_the_end(taken, expected, ended):
    guide = by('start: "a" | "bc"', *taken)
    assert tokens(guide) == expected
    assert guide.ended is ended
    assert guide.failure is None


def test_a_reply_may_end_or_go_on_where_both_are_texts():
    guide = by('start: "a" | "ab"', "a")
    assert tokens(guide) == {"b", "<|im_end|>"}
    assert guide.ended
    guide.take(id_of("b"))
    assert tokens(guide) == {"<|im_end|>"}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("text", ["the cat sat on the mat", "Hello there", "a small boat. And you?"])
def test_every_cut_of_a_text_into_tokens_is_allowed_and_nothing_else(text, seed):
    pieces = {id: token.replace("Ġ", " ") for token, id in builders.tokenizer().get_vocab().items() if id > 2}
    ids, seen = walk(by(f"start: {json.dumps(text)}"), seed)
    for place, found in enumerate(seen):
        rest = text[len("".join(pieces[id] for id in ids[:place])) :]
        assert found == ({id for id, piece in pieces.items() if rest.startswith(piece)} if rest else {END})
    assert "".join(pieces[id] for id in ids[:-1]) == text


def test_a_character_may_be_cut_between_its_bytes():
    # UTF-8: é is C3 A9, 日 is E6 97 A5. Byte-level BPE writes C3 as Ã, A9 as ©, E6 as æ, 97 as Ĺ, A5 as ¥.
    grammar = 'start: "é" | "日"'
    assert tokens(by(grammar)) == {"Ã", "æ"}
    assert tokens(by(grammar, "Ã")) == {"©"}
    assert tokens(by(grammar, "æ")) == {"Ĺ"}
    assert tokens(by(grammar, "æ", "Ĺ")) == {"¥"}
    assert not by(grammar, "æ", "Ĺ").ended
    assert tokens(by(grammar, "æ", "Ĺ", "¥")) == {"<|im_end|>"}


def by_bytes():
    """A tokenizer as Llama 2 has: spaces are ▁, what has no token is spelt in bytes."""
    names = ["<unk>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a", "b", "▁a", "ab"]
    made = Tokenizer(models.BPE({name: id for id, name in enumerate(names)}, [], byte_fallback=True))
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="</s>", unk_token="<unk>")


def test_tokens_of_bytes_and_of_marks_for_spaces_are_read():
    words = by_bytes()
    made = Vocabulary(words, len(words), stop=[1])

    def first(text):
        guide = made.guide(Sampling(grammar=f"start: {json.dumps(text, ensure_ascii=False)}"))
        return set(words.convert_ids_to_tokens(sorted(free(guide))))

    assert first("ab") == {"a", "ab", "<0x61>"}
    assert first(" ab") == {"▁", "▁a", "<0x20>"}
    assert first("é") == {"<0xC3>"}


# --------------------------------------------------------------------------------------- JSON


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("schema", [NUMBER, PERSON])
def test_random_walks_end_in_json_of_the_schema_and_only_where_it_is_whole(schema, seed):
    guide = vocabulary().guide(Sampling(schema=schema))
    ids, seen = walk(guide, seed)
    whole = json.loads(builders.tokenizer().decode(ids[:-1]))
    jsonschema.validate(whole, schema)
    assert seen[-1] == {END}  # an object is whole with its brace, and nothing can follow
    assert not any(END in found for found in seen[:-1])
    assert guide.ended
    assert max(id for found in seen for id in found) < 320


def test_walks_differ_by_their_seeds_alone():
    drawn = [walk(vocabulary().guide(Sampling(schema=PERSON)), seed)[0] for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_blanks_between_parts_of_json_come_to_an_end():
    guide = vocabulary().guide(Sampling(schema=NUMBER), [id_of("{"), *[id_of("Ġ")] * 39])
    assert id_of("Ġ") in free(guide)
    guide.take(id_of("Ġ"))
    assert tokens(guide) == {'"'}


# ------------------------------------------------------------------------------------ what ends a reply


def test_each_of_several_stop_ids_is_allowed_where_the_text_is_whole():
    several = vocabulary(stop=(END, 0))
    assert free(by('start: "a" "b"?', words=several)) == {id_of("a")}
    assert free(by('start: "a" "b"?', "a", words=several)) == {END, 0, id_of("b")}
    assert free(by('start: "a" "b"?', "a", "b", words=several)) == {END, 0}


def test_a_stop_id_with_a_text_of_its_own_only_stops():
    several = vocabulary(stop=(END, id_of("!")))
    assert free(by('start: "a" ("!" "b" | "b")', "a", words=several)) == {id_of("b")}
    assert free(by('start: "a" "!"?', "a", words=several)) == {END, id_of("!")}
    with pytest.raises(UsageError, match="no token can follow"):
        by('start: "!" "a"', words=several)


@pytest.mark.parametrize("text", ["<|im_end|>", "<|im_start|>", "[END]"])
def test_the_text_of_a_special_token_is_spelt(text):
    words = copy.deepcopy(builders.tokenizer())
    words.add_special_tokens({"additional_special_tokens": [AddedToken("[END]", special=True)]})
    special = {0, 1, END, words.convert_tokens_to_ids("[END]")}
    made = Vocabulary(words, SIZE, stop=[END])
    for sampling in (Sampling(grammar=f"start: {json.dumps(text)}"), Sampling(schema={"const": text})):
        ids, seen = walk(made.guide(sampling), 0)
        assert words.decode(ids[:-1]) in (text, json.dumps(text))
        assert not any(found & special for found in seen[:-1])
        assert seen[-1] == {END}


def test_a_special_token_that_the_grammar_names_is_allowed():
    assert tokens(by('start: <|im_start|> "a"')) == {"<|im_start|>"}
    assert tokens(by('start: <|im_start|> "a"', "<|im_start|>")) == {"a"}


def test_what_a_row_draws_after_its_end_changes_nothing():
    guide = by("start: /(ab)+/", "a", "b")
    assert free(guide) == {END, id_of("a")}
    guide.take(END)
    assert free(guide) == {END}
    for token in ("a", "<|im_end|>", "b", "P"):
        guide.take(id_of(token))
        assert guide.ended
        assert guide.failure is None


def test_a_reply_that_was_cut_has_not_ended():
    guide = vocabulary().guide(Sampling(schema=NUMBER))
    ids, _ = walk(guide.copy(), 0)
    for id in ids[:-2]:
        guide.take(id)
        assert not guide.ended
    guide.take(ids[-2])
    assert guide.ended


# ------------------------------------------------------------------------------------------ a vocabulary


def test_no_id_beyond_the_tokenizer_is_allowed():
    guide = by(r"start: /(.|\n)+/", "a")
    mask = allowed([guide])
    assert mask.shape == (1, SIZE)
    assert mask.dtype == torch.bool
    assert set(range(320, SIZE)) & free(guide) == set()
    assert {id_of("Ġand"), END} < free(guide)
    assert id_of("Ġand") == 319  # the last one: none that there is got lost


def test_a_model_with_fewer_columns_than_the_tokenizer_has_ids_is_guided():
    small = vocabulary(size=319)
    assert allowed([by(r"start: /(.|\n)+/", words=small)]).shape == (1, 319)
    assert id_of("c") > id_of("b") > id_of("a")
    tiny = vocabulary(size=id_of("c"))
    guide = by('start: "a" | "bc"', "b", words=tiny)
    assert free(guide) == {END}
    assert guide.failure is not None


def test_stop_ids_must_be_there():
    for stop, said in (([], "no id stops"), ([320], "stop id 320 is none of the 320"), ([-1], "stop id -1")):
        with pytest.raises(UsageError, match=said):
            Vocabulary(builders.tokenizer(), SIZE, stop=stop)
    with pytest.raises(UsageError, match="stop id 300 is none of the 200"):
        Vocabulary(builders.tokenizer(), 200, stop=[300])


def test_tokenizers_that_do_not_say_their_bytes_are_refused():
    letters = Tokenizer(models.WordLevel({"a": 0, "b": 1}, unk_token="a"))
    with pytest.raises(ModelError, match="cannot be kept to a grammar"):
        Vocabulary(PreTrainedTokenizerFast(tokenizer_object=letters), 2, stop=[1])
    gapped = Tokenizer(models.BPE({"a": 0, "b": 7}, []))
    gapped.decoder = decoders.ByteLevel()
    with pytest.raises(ModelError, match="reach 7, but it has 2"):
        Vocabulary(PreTrainedTokenizerFast(tokenizer_object=gapped), 8, stop=[0])


# ----------------------------------------------------------------------------------------- what is wrong


@pytest.mark.parametrize(
    ("sampling", "said"),
    [
        (Sampling(grammar='start: "a'), "the grammar: .*lexer error"),
        (Sampling(grammar="start: word"), 'the grammar: .*unknown name: "word"'),
        (Sampling(grammar='word: "a"'), "the grammar: no start rule"),
        (Sampling(grammar="start: <|nope|>"), "the grammar: .*unknown special token"),
        (Sampling(grammar="start: <[330]>"), "the grammar: .*330"),
        (Sampling(schema={"type": "strin"}), "the schema: Invalid type: strin"),
        (Sampling(schema={"type": "array", "uniqueItems": True}), "the schema: .*uniqueItems"),
        (Sampling(schema={"type": "integer", "minimum": 5, "maximum": 3}), r"the schema: .*minimum \(5\)"),
        (
            Sampling(schema={"type": "array", "uniqueItems": True, "x-guidance": {"lenient": True}}),
            "the schema: .*uniqueItems",
        ),
        (Sampling(grammar=f"start: A\n{NEVER}"), "the grammar: after '' no token can follow"),
    ],
)
def test_a_grammar_that_is_wrong_is_refused_before_a_token_is_drawn(sampling, said):
    with pytest.raises(UsageError, match=f"(?s){said}"):
        vocabulary().guide(sampling)


def test_a_grammar_that_cannot_be_met_later_fails_that_reply_alone():
    stuck, other = by(f'start: "x" A\n{NEVER}'), by('start: "x" "y"')
    assert free(stuck) == {id_of("x")}
    stuck.take(id_of("x"))
    other.take(id_of("x"))
    mask = allowed([stuck, other])
    assert mask.nonzero().tolist() == [[0, END], [1, id_of("y")]]
    assert "after 'x' no token can follow" in stuck.failure
    stuck.take(END)
    other.take(id_of("y"))
    assert (stuck.ended, other.ended) == (False, True)
    assert free(stuck) == {END}
    assert other.failure is None


@pytest.mark.parametrize("token", ["P", "<|im_end|>"])
def test_an_id_that_is_not_allowed_is_a_failure(token):
    guide = by('start: "ab"', "a", token)
    assert f"after 'a' '{token}' is not allowed" in guide.failure
    assert not guide.ended
    assert free(guide) == {END}


# ------------------------------------------------------------------------------------------ how it begins


def test_a_reply_goes_on_from_what_was_given():
    given = ids_of('{"n": 1')
    guide = vocabulary().guide(Sampling(schema=NUMBER), given)
    ids, _ = walk(guide, 3)
    whole = json.loads(builders.tokenizer().decode([*given, *ids[:-1]]))
    assert str(whole["n"]).startswith("1")
    done = vocabulary().guide(Sampling(schema=NUMBER), ids_of('{"n": 1}'))
    assert done.ended
    assert free(done) == {END}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["a", "c"], "begins with 'ac' cannot keep to the grammar: 'c' is not allowed after 'a'"),
        (["P"], "'P' is not allowed after ''"),
        (["a", "<|im_end|>"], "'<|im_end|>' is not allowed after 'a'"),
        (["a", "b", "<|im_end|>"], "'<|im_end|>' is not allowed after 'ab'"),
        (["a", "b", "b"], "'b' is not allowed after 'ab'"),
    ],
)
def test_a_beginning_that_the_grammar_does_not_allow_is_refused(given, said):
    with pytest.raises(UsageError) as error:
        by('start: "ab"', given=[id_of(token) for token in given])
    assert said in str(error.value)


def test_nothing_guides_a_reply_that_is_free():
    assert vocabulary().guide(Sampling(prefill="Hello")) is None


# ------------------------------------------------------------------------------------------- a batch


def test_rows_of_a_batch_are_allowed_what_they_are_alone():
    start = vocabulary().guide(Sampling(schema=PERSON))
    guides = [start.copy() for _ in range(31)]
    for seed, guide in enumerate(guides):
        ids, _ = walk(guide.copy(), seed)
        for drawn in ids[:seed]:  # row n is n tokens in, or at its end
            guide.take(drawn)
    guides.insert(7, None)
    mask = allowed(guides)
    assert bool(mask[7].all())
    assert len({tuple(row) for row in mask.tolist()}) > 10
    for row, guide in enumerate(guides):
        if guide is not None:
            assert bool((mask[row] == allowed([guide])[0]).all())


def test_a_copy_goes_its_own_way():
    guide = by('start: "a" | "bc"')
    other = guide.copy()
    guide.take(id_of("a"))
    other.take(id_of("b"))
    assert (guide.ended, other.ended) == (True, False)
    assert free(other.copy()) == {id_of("c")}
    assert "after 'bc' 'c' is not" in by('start: "a" | "bc"', "b", "c", "c").copy().failure


def test_logits_are_cut_in_guided_rows_alone():
    logits = torch.randn(3, SIZE, generator=torch.manual_seed(0))
    cut = restricted(logits, [by('start: "a" | "bc"'), None, by('start: "a"', "a")])
    assert cut[0].isfinite().nonzero()[:, 0].tolist() == sorted([id_of("a"), id_of("b")])
    assert torch.equal(cut[0, id_of("a")], logits[0, id_of("a")])
    assert torch.equal(cut[1], logits[1])
    assert cut[2].softmax(0)[END] == 1
    assert restricted(logits, [None] * 3) is logits
    with pytest.raises(ValueError, match=r"\(1, 340\) met \(1, 320\)"):
        restricted(logits[:1, :320], [by('start: "a"')])


@pytest.mark.slow
@pytest.mark.parametrize("schema", [NUMBER, PERSON])
def test_walks_in_the_tokens_of_a_real_model_end_in_json_of_the_schema(schema):
    words = load.tokenizer("smollm2-135m-instruct")
    made = Vocabulary(words, 49152, stop=[words.convert_tokens_to_ids("<|im_end|>")])
    for seed in range(5):
        ids, _ = walk(made.guide(Sampling(schema=schema)), seed)
        jsonschema.validate(json.loads(words.decode(ids[:-1])), schema)
