"""One session as the windows on it see it: adding to it, and reading it anew only where it has changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from mnemic.errors import BudgetTooSmall, InputError
from mnemic.inputs import kind_of, read_name
from mnemic.layers.adding import add
from mnemic.layers.parts import Handle
from mnemic.layers.working.newest import Sizes, Stretch
from mnemic.layers.working.rendering import ChatCounter, to_openai
from mnemic.layers.working.units import Unit, says_something
from mnemic.records import Message, Receipt, Scope, Turn
from mnemic.stores.sessions import SessionRows

# How often a session is read again that is written to meanwhile.
_TRIES = 4


@dataclass(frozen=True, slots=True)
class View:
    """What of a session is in a window: the system's messages, what sums up, and the newest units.

    `live`: a reply is being said, whose text grows without being a change to the session.
    """

    system: tuple[Turn, ...]
    units: tuple[Unit, ...]
    tokens: int = 0
    summary: str | None = None
    live: bool = False

    def messages(self) -> list[dict[str, Any]]:
        """All of it as an OpenAI-style API takes it; the caller's own to change."""
        system = [to_openai(turn.message) for turn in self.system]
        summed_up = [] if self.summary is None else [summary_message(self.summary)]
        return [*system, *summed_up, *(each for unit in self.units for each in unit.rendered)]

    @property
    def kept(self) -> int:
        """How many messages are in it, those of the system aside."""
        return sum(len(unit.turns) for unit in self.units)

    def may_change(self, now: datetime) -> bool:
        """Whether it may be another though nothing was committed: a reply goes on, a message expired."""
        turns = (*self.system, *(turn for unit in self.units for turn in unit.turns))
        ends = (turn.message.expires_at for turn in turns)
        return self.live or any(end is not None and end <= now for end in ends)


def summary_message(text: str) -> dict[str, Any]:
    """A summary's text as the user's message that brings it to the model."""
    return {"role": "user", "content": text}


class Conversation:
    """One session of a handle. It holds nothing but the last view, which is used while it is right."""

    def __init__(self, memory: Handle, session: str) -> None:
        if not isinstance(getattr(memory, "scope", None), Scope) or not hasattr(memory, "_core"):
            raise InputError(
                f'a window is on a memory such as memory.user("ana"), not on {kind_of(memory)}'
            )
        self.session = read_name(session, "session")
        self.scope = memory.scope
        self._memory = memory
        self._seen: tuple[object, View] | None = None

    @property
    def rows(self) -> SessionRows:
        """Where sessions are read."""
        return self._memory._core.session_rows

    def stretch(self, after: int = 0) -> Stretch:
        """The session's turns after a `seq`."""
        return Stretch(self.rows, self.scope, self.session, after)

    def add(self, message: str | Mapping[str, Any] | Message) -> Receipt:
        """Remember a message of this session; nothing of the session is read."""
        return add(self._memory, self.session, message)

    def system(self) -> tuple[Turn, ...]:
        """The system's messages, each once."""
        once: dict[str, Turn] = {}
        for turn in self.rows.system(self.scope, self.session):
            if says_something(turn.message):
                once.setdefault(str(to_openai(turn.message)), turn)
        return tuple(once.values())

    def stamp(self) -> object:
        """What the session is known by until it changes."""
        return self.rows.stamp(self.scope, self.session)

    def view(self, read: Callable[[], View], stamp: Callable[[], object] | None = None) -> View:
        """The view that `read` gives: the last one again, unless the session has changed since."""
        take = stamp or self.stamp
        before = take()
        if self._seen is not None:
            known, view = self._seen
            if known == before and not view.may_change(datetime.now(UTC)):
                return view
        for _ in range(_TRIES):
            view = read()
            after = take()
            if after == before:
                break
            before = after  # someone wrote meanwhile: what was read may be half of either
        self._seen = (before, view)
        return view


def room_beside(system: tuple[Turn, ...], limit: int, spare: int, sizes: Sizes) -> int:
    """The tokens that the system's messages leave of a limit, which with `spare` is the caller's budget."""
    used = sizes.counter.messages(()) + sum(map(sizes.of, system))
    if used > limit:
        kept = f" and {spare:,} are reserved" if spare else ""
        raise BudgetTooSmall(
            f"the session's system messages come to {used:,} tokens{kept}, over max_tokens of"
            f" {limit + spare:,}; give {used + spare:,} or more",
            used + spare,
        )
    return limit - used


def sizes_by(counter: str | Callable[[str], int]) -> Sizes:
    """The sizes of turns by a counter."""
    return Sizes(ChatCounter(counter))
