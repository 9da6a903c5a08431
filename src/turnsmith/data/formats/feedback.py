"""Interactions with feedback in words, as DRESS's data have them."""

from __future__ import annotations

from turnsmith.data.critique import rating_of
from turnsmith.data.formats import Parsed, Row
from turnsmith.data.messages import listed, text_of
from turnsmith.errors import DataError
from turnsmith.registry import format
from turnsmith.types import Conversation, Json, Message, is_object

CRITIQUES = ("critique NLF", "critique_NLF")  # both spellings are about


@format("feedback", columns=(("interaction",),))
def feedback(row: Row) -> Parsed:
    """`interaction`: turns of `user`, `model`, `rating` (1 to 4) and `critique NLF`; the `user` of a later
    turn is advice on the reply before it. `caption`: what a picture shows, put before the first question.

    Replies have rating and critique among their fields; those without have none.
    """
    messages: list[Message] = []
    for number, turn in enumerate(listed(row["interaction"], "interaction")):
        where = f"interaction[{number}]"
        if not is_object(turn):
            raise DataError(f"{where} is {turn!r:.60}, no turn")
        asked = text_of(turn.get("user"), f"{where}.user")
        caption = row.get("caption") if number == 0 else None
        said = f"{text_of(caption, 'caption').strip()}\n\n{asked}" if caption else asked
        reply = Message(
            "assistant", text_of(turn.get("model"), f"{where}.model"), fields=_judged(turn, where)
        )
        messages += [Message("user", said), reply]
    return Parsed({"text": Conversation(tuple(messages))}, ("interaction", "caption"))


def _judged(turn: dict[str, Json], where: str) -> dict[str, Json]:
    critique = next((turn[name] for name in CRITIQUES if turn.get(name) is not None), "")
    found: dict[str, Json] = {"critique": text_of(critique, f"{where}.critique").strip()}
    if turn.get("rating") is None:
        return found
    return {"rating": rating_of(turn["rating"], where), **found}
