"""Dialogues of two chats or more, hundreds at once: in each round a chat is asked once for all that it has to
answer, and every speaker sees the dialogue from its own side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol, runtime_checkable

from turnsmith import seeds
from turnsmith.errors import UsageError
from turnsmith.types import Chat, Conversation, Failure, Message, Reply, Role, Sampling, Usage

Ending = Literal["turns", "closed", "ended", "empty", "calls", "failed"]
Told = Mapping[str, tuple[Message, ...]]  # by speaker: what only that one knows


@runtime_checkable
class Remembering(Protocol):
    """A chat that can go on from what it has read, so that a dialogue is read once."""

    def remembering(self) -> AbstractContextManager[None]: ...


def remembering(chat: Chat) -> AbstractContextManager[None]:
    """Within it, what `chat` reads more than once is read once, where it can do that."""
    return chat.remembering() if isinstance(chat, Remembering) else nullcontext()


@runtime_checkable
class Seeding(Protocol):
    """A chat that takes a seed for each conversation, on which alone its reply depends."""

    def by_seeds(
        self,
        conversations: Sequence[Conversation],
        *,
        seeds: Sequence[int],
        sampling: Sampling | None = None,
    ) -> list[Reply | Failure]: ...


@dataclass(frozen=True, slots=True)
class Speaker:
    """Who speaks, and what only this speaker knows.

    system: its own system text. private: messages that stand before every dialogue in its own view, e.g. a
    user message that asks it to begin. sampling: the chat's own where None. closing: texts that end a
    dialogue once this speaker has said one of them.
    """

    chat: Chat
    system: str = ""
    private: tuple[Message, ...] = ()
    sampling: Sampling | None = None
    closing: tuple[str, ...] = ()

    @property
    def told(self) -> tuple[Message, ...]:
        """All that it knows before any dialogue."""
        return (*([Message("system", self.system)] if self.system else []), *self.private)


@dataclass(frozen=True, slots=True)
class Opening:
    """What one dialogue starts from. said: what all have heard, system texts included. private: by speaker,
    what only that one is told in this dialogue, behind what it knows in every one."""

    said: Conversation = Conversation(())  # noqa: RUF009 - frozen
    private: Told = field(default_factory=dict[str, tuple[Message, ...]])


@dataclass(frozen=True, slots=True)
class Dialogue:
    """A dialogue as it was held.

    said: the opening and what followed, from outside: each message with its speaker's `name`, as `assistant`
    where the last speaker of the order said it, else as `user`. What was sampled keeps its ids and log-probs.
    private: what each speaker alone knew, in the order of speaking.
    ending: why nothing follows. `turns`: as many were said as were asked for. `closed`: a speaker said one of
    its closing texts. `ended`: `ends` said so. `empty`: the last reply says nothing; `calls`: it calls tools,
    which nobody here answers; both are kept. `failed`: a chat gave a Failure, for this reason.
    cut: places in `said` of replies that reached the most tokens; the dialogue goes on behind them.
    usage: of all replies together.
    """

    opening: Opening
    said: Conversation
    private: Told
    ending: Ending
    reason: str = ""
    cut: tuple[int, ...] = ()
    usage: Usage = Usage(0, 0)  # noqa: RUF009 - frozen

    @property
    def turns(self) -> int:
        """Replies since the opening."""
        return len(self.said.messages) - len(self.opening.said.messages)

    def view(self, name: str) -> Conversation:
        """The dialogue as the speaker `name` sees it, to be answered or to be learnt from.

        What itself said is the assistant's, as it was sampled. What others said is the user's and text alone,
        with `Name: ` before it where there are more than two speakers; user messages that follow each other
        become one, apart by a blank line. System texts become one in front: what all were told, then its own.
        Raises UsageError for a name that nobody has.
        """
        if name not in self.private:
            raise UsageError(f"nobody here is called {name!r}: there are {', '.join(self.private)}")
        known = (*self.said.messages, *self.private[name])
        told = [message.content for message in known if message.role == "system"]
        seen = [Message("system", "\n\n".join(told))] if told else []
        heard = [self._heard(message, name) for message in self.said.messages]
        for message in (*self.private[name], *heard):
            if message.role == "user" and seen and seen[-1].role == "user":
                seen[-1] = replace(seen[-1], content=f"{seen[-1].content}\n\n{message.content}")
            elif message.role != "system":
                seen.append(message)
        return Conversation(tuple(seen))

    def upto(self, stop: int) -> Opening:
        """The messages of `said` before `stop`, to go on from in another way; counted as in slices."""
        return replace(self.opening, said=self.said.upto(stop))

    def answers(self, name: str) -> tuple[int, ...]:
        """Places in `said` of the speaker's replies since the opening."""
        start = len(self.opening.said.messages)
        return tuple(start + at for at, one in enumerate(self.said.messages[start:]) if one.name == name)

    def before(self, stop: int) -> Dialogue:
        """The dialogue as it was when `stop` messages were said."""
        cut = tuple(place for place in self.cut if place < stop)
        return replace(self, said=self.said.upto(stop), cut=cut)

    def _heard(self, message: Message, name: str) -> Message:
        if message.role == "system":
            return message
        if message.name == name:
            return replace(message, role="assistant", name=None)
        several = len(self.private) > 2
        return Message("user", f"{message.name}: {message.content}" if several else message.content)


def converse(
    speakers: Mapping[str, Speaker],
    openings: Sequence[Opening | Conversation | str],
    *,
    turns: int | Sequence[int],
    seed: int,
    ends: Callable[[Conversation], bool] | None = None,
) -> list[Dialogue]:
    """The dialogues that follow from the openings, in their order.

    speakers: by name, two or more, in the order in which they speak, over and over. Next is who follows the
    last to have spoken in the opening; where nobody has, the first. In an opening a message with a name is
    that speaker's; without one an assistant message is the last speaker's, and a user message, or a text, the
    first speaker's where there are two. turns: replies in each dialogue, or one number for each. ends:
    whether a dialogue, seen from outside, is at its end; asked after each reply.

    A round takes one call for each chat and sampling, of all dialogues that wait for it. What a dialogue
    becomes depends on the seed, its opening, and how many equal openings stand before it: n from one opening
    differ, and are the first n of any more. Nothing else in the list changes it, as far as the chats keep to
    that: `LocalChat` does, up to rounding, and `RemoteChat` as well as the server minds its seeds; a chat
    that takes no seed for each conversation has to tell them apart itself. To branch a dialogue, take another
    seed.

    Raises UsageError for fewer than two speakers, an opening that does not say who spoke or holds tools,
    calls or raw text, and numbers of turns that do not fit.
    """
    names = tuple(speakers)
    if len(names) < 2:
        raise UsageError(f"a dialogue takes two speakers, and there are {len(names)}")
    numbers = [turns] * len(openings) if isinstance(turns, int) else list(turns)
    if len(numbers) != len(openings) or min(numbers, default=0) < 0:
        raise UsageError(f"turns: {turns} do not fit {len(openings)} openings: give one number, or one each")
    talks = [
        _begun(opening, speakers, left, f"opening {number}")
        for number, (opening, left) in enumerate(zip(openings, numbers, strict=True))
    ]
    _seed(talks, seed)
    groups = _groups(speakers)
    with ExitStack() as stack:
        for chat in {id(speaker.chat): speaker.chat for speaker in speakers.values()}.values():
            stack.enter_context(remembering(chat))
        for turn in range(max(numbers, default=0)):
            due = [(talk, names[talk.next]) for talk in talks if talk.left]
            for number, group in enumerate(groups):
                asked = [(talk, name) for talk, name in due if name in group]
                if asked:
                    _ask(asked, speakers, seeds.number(seed, "converse", turn, number), ends)
    return [talk.dialogue for talk in talks]


def endings(dialogues: Sequence[Dialogue]) -> Counter[str]:
    """How many dialogues ended why, failures by their reason."""
    return Counter(f"failed: {one.reason}" if one.ending == "failed" else one.ending for one in dialogues)


# ---------------------------------------------------------------------------------- one that is held


@dataclass(slots=True)
class _Talk:
    """A dialogue under way. left: replies still to come; 0 once it has ended. next: place of who speaks.
    seed: that its replies are drawn with."""

    dialogue: Dialogue
    left: int
    next: int
    seed: int = 0


def _begun(
    opening: Opening | Conversation | str, speakers: Mapping[str, Speaker], left: int, where: str
) -> _Talk:
    names = tuple(speakers)
    if isinstance(opening, str):
        opening = Conversation((Message("user", opening),))
    if isinstance(opening, Conversation):
        opening = Opening(opening)
    for name in opening.private:
        if name not in names:
            raise UsageError(f"{where} tells {name!r} something, and the speakers are {', '.join(names)}")
    if opening.said.tools:
        raise UsageError(f"{where} has tools, and in a dialogue nobody answers calls: leave them out")
    messages = enumerate(opening.said.messages)
    said = tuple(_attributed(one, names, f"{where}, message {place}") for place, one in messages)
    opening = replace(opening, said=Conversation(said))
    private = {name: (*one.told, *opening.private.get(name, ())) for name, one in speakers.items()}
    spoken = [names.index(message.name) for message in said if message.name is not None]
    following = (spoken[-1] + 1) % len(names) if spoken else 0
    return _Talk(Dialogue(opening, opening.said, private, "turns"), left, following)


def _seed(talks: Sequence[_Talk], seed: int) -> None:
    """Give each a seed of its own, from its opening and from how many equal ones came before."""
    seen: Counter[str] = Counter()
    for talk in talks:
        opening = talk.dialogue.opening
        told = sorted((name, _told(messages)) for name, messages in opening.private.items() if messages)
        key = repr((_told(opening.said.messages), told))
        talk.seed = seeds.number(seed, "dialogue", key, seen[key])
        seen[key] += 1


def _told(messages: Sequence[Message]) -> list[tuple[str | None, ...]]:
    return [(one.role, one.name, one.content, one.thinking) for one in messages]


def _attributed(message: Message, names: Sequence[str], where: str) -> Message:
    """The message with its speaker's name, and in the role that it has from outside."""
    if message.role == "system":
        return replace(message, name=None)
    if message.role in ("tool", "text") or message.calls:
        what = f"of the role {message.role!r}" if message.role in ("tool", "text") else "a call of tools"
        raise UsageError(f"{where} is {what}: a dialogue holds what speakers say to each other")
    name = message.name or _usual(message.role, names)
    if name is None or name not in names:
        whom = f"{name!r}, who does not speak here" if name else "nobody in particular"
        raise UsageError(f"{where} is said by {whom}: give it the name of {' or '.join(names)}")
    return replace(message, name=name, role=_role(name, names))


def _usual(role: Role, names: Sequence[str]) -> str | None:
    """Whose an unnamed message is."""
    if role == "assistant":
        return names[-1]
    return names[0] if len(names) == 2 else None


def _role(name: str, names: Sequence[str]) -> Role:
    return "assistant" if name == names[-1] else "user"


def _groups(speakers: Mapping[str, Speaker]) -> list[list[str]]:
    """The names of those that one call can ask: of the same chat, sampling alike."""
    groups: list[list[str]] = []
    for name, speaker in speakers.items():
        for group in groups:
            other = speakers[group[0]]
            if other.chat is speaker.chat and other.sampling == speaker.sampling:
                group.append(name)
                break
        else:
            groups.append([name])
    return groups


def _ask(
    asked: Sequence[tuple[_Talk, str]],
    speakers: Mapping[str, Speaker],
    seed: int,
    ends: Callable[[Conversation], bool] | None,
) -> None:
    """One call; each talk goes on by what comes of it."""
    speaker, names = speakers[asked[0][1]], tuple(speakers)
    views = [talk.dialogue.view(name) for talk, name in asked]
    if isinstance(speaker.chat, Seeding):
        own = [seeds.number(talk.seed, talk.dialogue.turns) for talk, _ in asked]
        replies = speaker.chat.by_seeds(views, seeds=own, sampling=speaker.sampling)
    else:
        replies = speaker.chat(views, sampling=speaker.sampling, seed=seed)
    for (talk, name), reply in zip(asked, replies, strict=True):
        if isinstance(reply, Failure):
            talk.dialogue, talk.left = replace(talk.dialogue, ending="failed", reason=reply.reason), 0
            continue
        message = replace(reply.message, role=_role(name, names), name=name)
        talk.dialogue = _continued(talk.dialogue, message, reply)
        talk.left, talk.next = talk.left - 1, (talk.next + 1) % len(names)
        ending = _ending(talk.dialogue.said, speakers[name].closing, ends)
        if ending is not None:
            talk.dialogue, talk.left = replace(talk.dialogue, ending=ending), 0


def _continued(dialogue: Dialogue, message: Message, reply: Reply) -> Dialogue:
    cut = (*dialogue.cut, len(dialogue.said.messages)) if reply.finish == "length" else dialogue.cut
    before, now = dialogue.usage, reply.usage
    usage = Usage(before.prompt + now.prompt, before.completion + now.completion)
    return replace(dialogue, said=dialogue.said.then(message), cut=cut, usage=usage)


def _ending(
    said: Conversation, closing: Sequence[str], ends: Callable[[Conversation], bool] | None
) -> Ending | None:
    """Why nothing can follow the last reply; None where something can."""
    last = said.messages[-1]
    if last.calls:
        return "calls"
    if not last.content.strip():
        return "empty"
    if any(text in last.content for text in closing):
        return "closed"
    return "ended" if ends is not None and ends(said) else None
