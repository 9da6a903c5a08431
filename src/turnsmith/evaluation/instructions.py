"""The 25 kinds of instructions that IFEval can check, by rules that need no judge.

Source: Zhou et al. 2023, arXiv:2311.07911, table 3; edges as in the code that was published with it. Where
this differs: sentences and words in capital letters are found by `words.py` instead of NLTK, the language of
a text by py3langid instead of langdetect, on the text in small letters; keywords are taken letter by letter,
never as patterns; nothing that a rule needs is drawn at random where it is absent.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from turnsmith.data.languages import language
from turnsmith.errors import DataError
from turnsmith.evaluation.words import capital_words, sentences
from turnsmith.types import is_list

Relation = Literal["less than", "at least"]
ANSWERS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")


def _holds(found: int, relation: Relation, wanted: int) -> bool:
    return found < wanted if relation == "less than" else found >= wanted


def _words(text: str) -> int:
    return len(re.findall(r"\w+", text))


def _times(text: str, said: str) -> int:
    return len(re.findall(re.escape(said.strip()), text, re.IGNORECASE))


# ----------------------------------------------------------------------------------- words and letters


def existence(reply: str, keywords: Sequence[str]) -> bool:
    """Each keyword occurs, in words or inside of them."""
    return all(_times(reply, keyword) for keyword in keywords)


def frequency(reply: str, keyword: str, frequency: int, relation: Relation) -> bool:
    """The keyword occurs so often, in words or inside of them."""
    return _holds(_times(reply, keyword), relation, frequency)


def forbidden_words(reply: str, forbidden_words: Sequence[str]) -> bool:
    """None of them occurs as a whole word."""
    return not any(re.search(rf"\b{re.escape(word)}\b", reply, re.IGNORECASE) for word in forbidden_words)


def letter_frequency(reply: str, letter: str, let_frequency: int, let_relation: Relation) -> bool:
    """The letter, or another sign, occurs so often, capital or small."""
    return _holds(Counter(reply.lower())[letter.strip().lower()], let_relation, let_frequency)


def capital_word_frequency(reply: str, capital_frequency: int, capital_relation: Relation) -> bool:
    """So many words have capital letters only."""
    return _holds(capital_words(reply), capital_relation, capital_frequency)


# -------------------------------------------------------------------------------------------- language


def _speaks(reply: str, wanted: str) -> bool:
    """Whether the reply is in this language; true of a reply that holds no letter at all."""
    return not re.search(r"[^\W\d_]", reply) or language(reply.lower()) == wanted


def response_language(reply: str, language: str) -> bool:
    """The reply is in this language, by its ISO 639-1 code."""
    return _speaks(reply, language)


def english_capital(reply: str) -> bool:
    """All letters are capital, and the reply is English."""
    return reply.isupper() and _speaks(reply, "en")


def english_lowercase(reply: str) -> bool:
    """All letters are small, and the reply is English."""
    return reply.islower() and _speaks(reply, "en")


# ---------------------------------------------------------------------------------------------- length


def number_sentences(reply: str, num_sentences: int, relation: Relation) -> bool:
    """So many sentences."""
    return _holds(sentences(reply), relation, num_sentences)


def number_words(reply: str, num_words: int, relation: Relation) -> bool:
    """So many words, of letters, figures and low lines."""
    return _holds(_words(reply), relation, num_words)


def number_paragraphs(reply: str, num_paragraphs: int) -> bool:
    """Exactly so many paragraphs, which `***` divides; the first and the last piece may be empty."""
    pieces = re.split(r"\s?\*\*\*\s?", reply)
    if not all(piece.strip() for piece in pieces[1:-1]):
        return False
    return sum(bool(piece.strip()) for piece in pieces) == num_paragraphs


def nth_paragraph_first_word(reply: str, num_paragraphs: int, nth_paragraph: int, first_word: str) -> bool:
    """Exactly so many paragraphs, which an empty line divides, and the nth of all begins with the word,
    quotes before it and what follows a mark in it apart."""
    pieces = reply.split("\n\n")
    count = sum(bool(piece.strip()) for piece in pieces)
    if count != num_paragraphs or not 0 < nth_paragraph <= count or not pieces[nth_paragraph - 1].strip():
        return False
    first = pieces[nth_paragraph - 1].split()[0].lstrip("'").lstrip('"')
    return re.split(r"""[.,?!'"]""", first)[0].lower() == first_word.lower()


# ------------------------------------------------------------------------------------- content, format


def number_placeholders(reply: str, num_placeholders: int) -> bool:
    """At least so many placeholders in square brackets."""
    return len(re.findall(r"\[.*?\]", reply)) >= num_placeholders


def postscript(reply: str, postscript_marker: str) -> bool:
    """A postscript with this mark occurs; blanks inside of P.S. and P.P.S do not matter."""
    known = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}
    wanted = postscript_marker.strip()
    return bool(re.search(known.get(wanted, re.escape(wanted.lower())), reply.lower()))


def number_bullet_lists(reply: str, num_bullets: int) -> bool:
    """Exactly so many lines that begin with one `*`, or with `-`."""
    stars = re.findall(r"^\s*\*[^\*].*$", reply, re.MULTILINE)
    return len(stars) + len(re.findall(r"^\s*-.*$", reply, re.MULTILINE)) == num_bullets


def constrained_response(reply: str) -> bool:
    """One of the three answers occurs."""
    return any(answer in reply for answer in ANSWERS)


def number_highlighted_sections(reply: str, num_highlights: int) -> bool:
    """At least so many passages between `*` or `**` on a line that are not empty."""
    single = re.findall(r"\*[^\n\*]*\*", reply)
    double = re.findall(r"\*\*[^\n\*]*\*\*", reply)
    return sum(bool(one.strip("*").strip()) for one in (*single, *double)) >= num_highlights


def multiple_sections(reply: str, section_spliter: str, num_sections: int) -> bool:
    """At least so many sections, each behind this word and a number."""
    return len(re.findall(rf"{re.escape(section_spliter.strip())}\s?\d+", reply)) >= num_sections


def json_format(reply: str) -> bool:
    """The whole reply is JSON; it may stand between marks of code."""
    inside = re.sub(r"^```(json|Json|JSON)?", "", reply.strip()).removesuffix("```")
    try:
        json.loads(inside.strip())
    except (ValueError, RecursionError):
        return False
    return True


def title(reply: str) -> bool:
    """A title stands between << and >> on a line."""
    return any(found.lstrip("<").rstrip(">").strip() for found in re.findall(r"<<[^\n]+>>", reply))


# ------------------------------------------------------------------------------- parts of the reply


def two_responses(reply: str) -> bool:
    """Two responses that differ, divided by six asterisks, which may stand before and behind them too."""
    pieces = [piece.strip() for piece in reply.split("******")]
    said = [piece for piece in pieces if piece]
    return all(pieces[1:-1]) and len(said) == 2 and said[0] != said[1]


def repeat_prompt(reply: str, prompt_to_repeat: str) -> bool:
    """The request comes first, word for word."""
    return reply.strip().lower().startswith(prompt_to_repeat.strip().lower())


def end_checker(reply: str, end_phrase: str) -> bool:
    """The reply ends on the phrase, quotes around the reply apart."""
    return reply.strip().strip('"').lower().endswith(end_phrase.strip().lower())


def quotation(reply: str) -> bool:
    """The whole reply stands between double quotes."""
    said = reply.strip()
    return len(said) > 1 and said[0] == said[-1] == '"'


def no_comma(reply: str) -> bool:
    """No comma occurs."""
    return "," not in reply


# ------------------------------------------------------------------------------------------- the table

Kind = Literal["text", "texts", "number", "relation"]


@dataclass(frozen=True, slots=True)
class Rule:
    """follows: whether a reply follows, by the arguments that `needs` names."""

    follows: Callable[..., bool]
    needs: Mapping[str, Kind]


RULES: Mapping[str, Rule] = {
    "keywords:existence": Rule(existence, {"keywords": "texts"}),
    "keywords:frequency": Rule(frequency, {"keyword": "text", "frequency": "number", "relation": "relation"}),
    "keywords:forbidden_words": Rule(forbidden_words, {"forbidden_words": "texts"}),
    "keywords:letter_frequency": Rule(
        letter_frequency, {"letter": "text", "let_frequency": "number", "let_relation": "relation"}
    ),
    "language:response_language": Rule(response_language, {"language": "text"}),
    "length_constraints:number_sentences": Rule(
        number_sentences, {"num_sentences": "number", "relation": "relation"}
    ),
    "length_constraints:number_paragraphs": Rule(number_paragraphs, {"num_paragraphs": "number"}),
    "length_constraints:number_words": Rule(number_words, {"num_words": "number", "relation": "relation"}),
    "length_constraints:nth_paragraph_first_word": Rule(
        nth_paragraph_first_word,
        {"num_paragraphs": "number", "nth_paragraph": "number", "first_word": "text"},
    ),
    "detectable_content:number_placeholders": Rule(number_placeholders, {"num_placeholders": "number"}),
    "detectable_content:postscript": Rule(postscript, {"postscript_marker": "text"}),
    "detectable_format:number_bullet_lists": Rule(number_bullet_lists, {"num_bullets": "number"}),
    "detectable_format:constrained_response": Rule(constrained_response, {}),
    "detectable_format:number_highlighted_sections": Rule(
        number_highlighted_sections, {"num_highlights": "number"}
    ),
    "detectable_format:multiple_sections": Rule(
        multiple_sections, {"section_spliter": "text", "num_sections": "number"}
    ),
    "detectable_format:json_format": Rule(json_format, {}),
    "detectable_format:title": Rule(title, {}),
    "combination:two_responses": Rule(two_responses, {}),
    "combination:repeat_prompt": Rule(repeat_prompt, {"prompt_to_repeat": "text"}),
    "startend:end_checker": Rule(end_checker, {"end_phrase": "text"}),
    "startend:quotation": Rule(quotation, {}),
    "change_case:capital_word_frequency": Rule(
        capital_word_frequency, {"capital_frequency": "number", "capital_relation": "relation"}
    ),
    "change_case:english_capital": Rule(english_capital, {}),
    "change_case:english_lowercase": Rule(english_lowercase, {}),
    "punctuation:no_comma": Rule(no_comma, {}),
}


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction of a prompt, with the arguments that its rule needs and no others."""

    id: str
    arguments: Mapping[str, Any]

    def strict(self, reply: str) -> bool:
        """Whether the reply as it is follows. An empty reply follows nothing."""
        return bool(reply.strip()) and RULES[self.id].follows(reply, **self.arguments)

    def loose(self, reply: str) -> bool:
        """Whether the reply follows without its first line, its last line or both, or without asterisks."""
        return any(self.strict(variant) for variant in variants(reply))


def variants(reply: str) -> list[str]:
    """The reply, and the seven forms of it that the loose rules take as well."""
    lines = reply.split("\n")
    cut = [reply, *("\n".join(some).strip() for some in (lines[1:], lines[:-1], lines[1:-1]))]
    return [*cut, *(one.replace("*", "") for one in cut)]


def instruction(id: str, given: Mapping[str, Any], place: str) -> Instruction:
    """The instruction of this id. given: its `kwargs`, of which null means absent.

    Raises DataError naming place and id where there is no such id, or an argument is absent, of the wrong
    type or unknown.
    """
    rule = RULES.get(id)
    if rule is None:
        raise DataError(f"{place}: no instruction has the id {id!r}; there are {', '.join(RULES)}")
    said = {key: value for key, value in given.items() if value is not None}
    for key in said:
        if key not in rule.needs:
            needs = ", ".join(rule.needs) or "none"
            raise DataError(f"{place}: {id} has no argument {key!r}; its arguments are: {needs}")
    for key, kind in rule.needs.items():
        if key not in said:
            raise DataError(f"{place}: {id} needs {key!r}, which its kwargs lack")
        if not _fits(said[key], kind):
            raise DataError(f"{place}: {key!r} of {id} is {said[key]!r:.60}, and must be {SPOKEN[kind]}")
    return Instruction(id, said)


SPOKEN: Mapping[Kind, str] = {
    "text": "a text that is not empty",
    "texts": "a list of texts that are not empty",
    "number": "a whole number, not below 0",
    "relation": "'less than' or 'at least'",
}


def _fits(value: Any, kind: Kind) -> bool:
    if kind == "number":
        return isinstance(value, int) and not isinstance(value, bool) and value >= 0
    if kind == "relation":
        return value in ("less than", "at least")
    if kind == "texts":
        return is_list(value) and bool(value) and all(_fits(one, "text") for one in value)
    return isinstance(value, str) and bool(value.strip())
