"""Each kind of instruction, with replies that follow it and replies that break it."""

import pytest

from turnsmith.errors import DataError
from turnsmith.evaluation.instructions import RULES, instruction, variants

GERMAN = "Das ist ein ganz gewöhnlicher Satz, den jeder Mensch in Deutschland versteht."
ENGLISH = "This is a perfectly ordinary sentence that everybody understands at once."

# id, arguments, replies that follow, replies that break it
CASES = [
    (
        "keywords:existence",
        {"keywords": ["sea", "boat"]},
        ["Boats at SEA", "seaboat"],
        ["the sea", "bat at sea"],
    ),
    (
        "keywords:frequency",
        {"keyword": "sea", "frequency": 2, "relation": "at least"},
        ["sea, Sea", "overseas, seaside"],
        ["sea", "see, sea"],
    ),
    (
        "keywords:frequency",
        {"keyword": "sea", "frequency": 2, "relation": "less than"},
        ["sea", "no"],
        ["sea sea"],
    ),
    (
        "keywords:forbidden_words",
        {"forbidden_words": ["sea"]},
        ["overseas", "boats"],
        ["at Sea.", "the sea-side"],
    ),
    (
        "keywords:letter_frequency",
        {"letter": "E", "let_frequency": 3, "let_relation": "at least"},
        ["Three e", "Eee"],
        ["two e: e", "abc"],
    ),
    (
        "keywords:letter_frequency",
        {"letter": "#", "let_frequency": 2, "let_relation": "less than"},
        ["# a"],
        ["##"],
    ),
    ("language:response_language", {"language": "de"}, [GERMAN, "123"], [ENGLISH]),
    (
        "length_constraints:number_sentences",
        {"num_sentences": 2, "relation": "at least"},
        ["One. Two.", "One! Two? Three"],
        ["One", "Dr. No"],
    ),
    (
        "length_constraints:number_sentences",
        {"num_sentences": 2, "relation": "less than"},
        ["One."],
        ["One. Two."],
    ),
    (
        "length_constraints:number_paragraphs",
        {"num_paragraphs": 2},
        ["a\n***\nb", "***\na\n***\nb\n***"],
        ["a", "a\n***\n\n***\nb", "a\n***\nb\n***\nc"],
    ),
    (
        "length_constraints:number_words",
        {"num_words": 3, "relation": "at least"},
        ["one two three", "it's mine", "a_b c d"],
        ["one two", "- - -"],
    ),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "Then"},
        ["First.\n\nthen it was", 'First.\n\n"Then, he', "First.\n\n'Then' and\n\n"],
        ["First.\n\nLater then", "Then\n\nfirst", "then", "a\n\nthen\n\nc", "a\n\n\n\nthen"],
    ),
    (
        "detectable_content:number_placeholders",
        {"num_placeholders": 2},
        ["[name] [my street]"],
        ["[name]", "[a\nb] [c]"],
    ),
    (
        "detectable_content:postscript",
        {"postscript_marker": "P.S."},
        ["Bye.\nP.S. Hello", "p. s. so", "so P.S. hi"],
        ["PS: no", "P.S"],
    ),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, ["P.P.S. a", "p. p. s"], ["P.S. a"]),
    (
        "detectable_format:number_bullet_lists",
        {"num_bullets": 2},
        ["* a\n* b", "- a\n  * b", "Hi\n\n* a\n- b\nbye"],
        ["* a", "* a\n* b\n- c", "** a\n* b"],
    ),
    (
        "detectable_format:constrained_response",
        {},
        ["My answer is yes.", "Well. My answer is maybe. So."],
        ["My answer is yes", "my answer is no.", "Yes."],
    ),
    (
        "detectable_format:number_highlighted_sections",
        {"num_highlights": 2},
        ["*a* and *b*", "**a** and **b**"],
        ["*a*", "**a**", "* a\n* b", "** ** ** **"],
    ),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": "Section", "num_sections": 2},
        ["Section 1\na\nSection 2\nb", "Section1 Section2 Section 3"],
        ["Section 1", "Section one, Section two", "SECTION 1 SECTION 2"],
    ),
    (
        "detectable_format:json_format",
        {},
        ['{"a": 1}', '```json\n["a"]\n```', "``` 1 ```"],
        ["{a: 1}", 'So: {"a": 1}'],
    ),
    ("detectable_format:title", {}, ["<<A song>>\nla", "so <<b>> so"], ["<A song>", "<< >>", "<<a\nb>>"]),
    (
        "combination:two_responses",
        {},
        ["a\n******\nb", "******a******b******"],
        ["a", "a******a ", "a******b******c", "a************b"],
    ),
    (
        "combination:repeat_prompt",
        {"prompt_to_repeat": "Write a poem."},
        ["Write a poem. Roses", " write a POEM.\nRoses"],
        ["Sure. Write a poem.", "Write a poem"],
    ),
    (
        "startend:end_checker",
        {"end_phrase": "That is all."},
        ["So. that is all.", '"That is all."'],
        ["That is all. Bye"],
    ),
    ("startend:quotation", {}, ['"so"', ' "a" and "b" '], ["so", '"so', '"', "'so'"]),
    (
        "change_case:capital_word_frequency",
        {"capital_frequency": 2, "capital_relation": "at least"},
        ["I SAY", "OK, TOP-10"],
        ["I say", "Say It"],
    ),
    ("change_case:english_capital", {}, [ENGLISH.upper()], [ENGLISH, GERMAN.upper(), "123"]),
    ("change_case:english_lowercase", {}, [ENGLISH.lower()], [ENGLISH, GERMAN.lower()]),
    ("punctuation:no_comma", {}, ["No; none."], ["So, so"]),
]
NAMES = [f"{id.partition(':')[2]}-{number}" for number, (id, *_) in enumerate(CASES)]


@pytest.mark.parametrize(("id", "given", "follow", "broken"), CASES, ids=NAMES)
def test_replies_that_follow_and_replies_that_do_not(id, given, follow, broken):
    rule = instruction(id, given, "here")
    assert [reply for reply in follow if not rule.strict(reply)] == []
    assert [reply for reply in broken if rule.strict(reply)] == []


def test_there_are_all_25_kinds_and_each_has_an_example():
    assert len(RULES) == 25
    assert {id for id, *_ in CASES} == set(RULES)


def test_an_empty_reply_follows_nothing():
    for id, given, *_ in CASES:
        assert not instruction(id, given, "here").strict(" \n")
        assert not instruction(id, given, "here").loose(" \n")


def test_the_loose_forms_are_without_first_line_last_line_both_and_without_asterisks():
    assert variants("a\n*b*\nc") == [
        "a\n*b*\nc", "*b*\nc", "a\n*b*", "*b*", "a\nb\nc", "b\nc", "a\nb", "b",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "reply",
    ['Here it is:\n{"a": 1}', '{"a": 1}\nI hope this helps.', 'Sure:\n{"a": 1}\nBye.', '*{"a": 1}*'],
)
def test_what_a_strict_rule_refuses_a_loose_one_may_take(reply):
    rule = instruction("detectable_format:json_format", {}, "here")
    assert not rule.strict(reply)
    assert rule.loose(reply)


def test_a_line_in_the_middle_is_never_left_out():
    assert not instruction("detectable_format:json_format", {}, "here").loose('{"a":\nso\n1}')


def test_null_means_absent():
    given = {"num_words": 2, "relation": "at least", "language": None}
    assert instruction("length_constraints:number_words", given, "here").arguments == {
        "num_words": 2, "relation": "at least",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("id", "given", "said"),
    [
        ("keywords:none", {}, "no instruction has the id 'keywords:none'; there are keywords:existence"),
        ("keywords:existence", {}, "keywords:existence needs 'keywords', which its kwargs lack"),
        ("keywords:existence", {"keywords": None}, "needs 'keywords', which its kwargs lack"),
        ("keywords:existence", {"keywords": []}, "is \\[\\], and must be a list of texts"),
        ("keywords:existence", {"keywords": "sea"}, "is 'sea', and must be a list of texts"),
        (
            "punctuation:no_comma",
            {"num_words": 3},
            "no_comma has no argument 'num_words'; its arguments are: none",
        ),
        (
            "length_constraints:number_words",
            {"num_words": "3", "relation": "at least"},
            "'3', and must be a whole",
        ),
        (
            "length_constraints:number_words",
            {"num_words": True, "relation": "at least"},
            "True, and must be a whole",
        ),
        (
            "length_constraints:number_words",
            {"num_words": 3, "relation": "at most"},
            "must be 'less than' or",
        ),
    ],
)
def test_what_a_rule_lacks_is_said_with_place_and_id(id, given, said):
    with pytest.raises(DataError, match=f"file, line 3: .*{said}"):
        instruction(id, given, "file, line 3")
