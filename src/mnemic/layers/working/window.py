"""The newest of a session within a number of tokens, of messages, or of turns.

Both windows read the session's end from the rows, so any number of them, in any process, see the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from mnemic.errors import InputError
from mnemic.inputs import read_number, shown
from mnemic.layers.parts import Handle
from mnemic.layers.working.conversation import Conversation, View, room_beside, sizes_by
from mnemic.layers.working.newest import Sizes, Tail, fitting
from mnemic.layers.working.rendering import DEFAULT_COUNTER
from mnemic.layers.working.shortening import shortened
from mnemic.layers.working.units import Unit, says_something
from mnemic.records import Message, Receipt, Turn

MOST_TOKENS = 100_000_000
MOST_LAST = 100_000
# What is kept free for the answer unless told otherwise: this, or a quarter of a small window.
RESERVE = 4_096


class ContextWindow:
    """A session within `max_tokens - reserve`, counted exactly as it is sent.

    The system's messages always stay, and the latest of the user's if it fits beside them; then the
    newest, a tool call with all its results or not at all. A message larger than the window is cut at the
    end of a sentence and marked. Nothing is lost: the store has every message. `counter` is `o200k_base`,
    `cl100k_base`, or a function from a text to its number of tokens.
    """

    def __init__(
        self,
        memory: Handle,
        session: str,
        *,
        max_tokens: int = 128_000,
        reserve: int | None = None,
        counter: str | Callable[[str], int] = DEFAULT_COUNTER,
    ) -> None:
        self._conversation = Conversation(memory, session)
        self.session = self._conversation.session
        self.max_tokens = read_number(max_tokens, "max_tokens", 1, MOST_TOKENS)
        if reserve is None:
            reserve = min(RESERVE, max_tokens // 4)
        self.reserve = read_number(reserve, "reserve", 0, max_tokens - 1)
        self._sizes = sizes_by(counter)

    def add(self, message: str | Mapping[str, Any] | Message) -> Receipt:
        """Remember a message of this session. It costs the same however long the session is."""
        return self._conversation.add(message)

    def messages(self) -> list[dict[str, Any]]:
        """What to send: the system's messages, then the newest that fit, in their order.

        Raises `BudgetTooSmall` where the system's messages alone don't fit.
        """
        return self._view().messages()

    @property
    def tokens(self) -> int:
        """The tokens of `messages()`, with the three that prime the reply."""
        return self._view().tokens

    @property
    def remaining(self) -> int:
        """How many more would fit beside what is reserved."""
        return self.max_tokens - self.reserve - self.tokens

    @property
    def dropped(self) -> int:
        """How many of the session's messages are not in the window; this counts them all."""
        conversation = self._conversation
        kept = self._view().kept
        return max(conversation.rows.count(conversation.scope, self.session) - kept, 0)

    def _view(self) -> View:
        return self._conversation.view(self._read)

    def _read(self) -> View:
        conversation, sizes = self._conversation, self._sizes
        system = conversation.system()
        limit = self.max_tokens - self.reserve
        room = room_beside(system, limit, self.reserve, sizes)
        asked = conversation.rows.latest(conversation.scope, self.session, "user")
        tail = Tail(conversation.stretch())
        kept = fill(tail, room, sizes, asked)
        return View(system, tuple(kept), tokens_of(system, kept, sizes), live=tail.live)


class SlidingWindowMemory:
    """The last messages of a session, or its last turns, behind the system's messages.

    A turn is a message of the user's and all that follows it up to the next one. `unit="messages"` gives at
    most `last` messages, but a tool call with all its results even where these alone are more. It never
    begins with a result whose call is gone. Tokens aren't counted: `ContextWindow` does that.
    """

    def __init__(
        self,
        memory: Handle,
        session: str,
        *,
        last: int = 20,
        unit: Literal["messages", "turns"] = "messages",
    ) -> None:
        self._conversation = Conversation(memory, session)
        self.session = self._conversation.session
        self.last = read_number(last, "last", 1, MOST_LAST)
        if unit not in ("messages", "turns"):
            raise InputError(f"unit must be messages or turns, not {shown(unit)}")
        self.unit = unit

    def add(self, message: str | Mapping[str, Any] | Message) -> Receipt:
        """Remember a message of this session. It costs the same however long the session is."""
        return self._conversation.add(message)

    def messages(self) -> list[dict[str, Any]]:
        """What to send: the system's messages, then the last ones, in their order."""
        return self._conversation.view(self._read).messages()

    def _read(self) -> View:
        conversation = self._conversation
        choose = last_messages if self.unit == "messages" else last_turns
        tail = Tail(conversation.stretch())
        kept: list[Unit] | None = None
        while kept is None:
            tail.more()
            kept = choose(tail.units(), self.last, tail.whole)
        return View(conversation.system(), tuple(kept), live=tail.live)


def tokens_of(system: tuple[Turn, ...], kept: list[Unit], sizes: Sizes) -> int:
    """The tokens of what is sent, with those that prime the reply. What was cut is counted anew."""
    total = sizes.counter.messages(()) + sum(map(sizes.of, system))
    return total + sum(map(sizes.unit, kept))


def fill(tail: Tail, most: int, sizes: Sizes, asked: Turn | None) -> list[Unit]:
    """The newest units within so many tokens, among them what the user `asked` last.

    What followed that may have to make way for it: then there is a gap behind it. What is larger than the
    window alone gets half of it at least.
    """
    question = None if asked is None or not says_something(asked.message) else Unit((asked,))
    wanted = 0 if question is None else sizes.unit(question)
    reserved = wanted if wanted <= most else most // 2
    newer, over = _newer(tail, most - reserved, sizes, None if question is None else question.seq)
    if not newer and over is not None:
        short = shortened(over, most - reserved, sizes.counter)
        newer = [short] if short is not None else []
    if question is None:
        return newer
    left = most - _size(newer, sizes)
    if wanted > left:
        cut = shortened(question, left, sizes.counter)
        return [cut, *newer] if cut is not None else newer
    if over is not None:
        return [question, *newer]
    return [*_older(tail, left - wanted, sizes, question.seq), question, *newer]


def _newer(
    tail: Tail, most: int, sizes: Sizes, after: int | None
) -> tuple[list[Unit], Unit | None]:
    """The newest units after a `seq` that fit, and the first that doesn't."""
    while True:
        more = not (after is not None and tail.turns and tail.turns[0].seq <= after) and tail.more()
        made = [unit for unit in tail.units() if after is None or unit.seq > after]
        kept, over = fitting(made, most, sizes)
        if over is not None or not more:
            return kept, over


def _older(tail: Tail, most: int, sizes: Sizes, before: int) -> list[Unit]:
    """The newest units before a `seq` that fit."""
    while True:
        made = [unit for unit in tail.units() if unit.seq < before]
        kept, over = fitting(made, most, sizes)
        if over is not None or not tail.more():
            return kept


def _size(made: list[Unit], sizes: Sizes) -> int:
    return sum(map(sizes.unit, made))


def last_messages(made: list[Unit], last: int, whole: bool) -> list[Unit] | None:
    """The last units of at most so many messages, one unit at least; None where more must be read."""
    total = 0
    for number in range(len(made) - 1, -1, -1):
        total += len(made[number].turns)
        if total > last:
            return made[number + 1 :] or made[number:]
    return made if whole or total == last else None


def last_turns(made: list[Unit], last: int, whole: bool) -> list[Unit] | None:
    """The units from the user's last message but so many on; None where more must be read."""
    asked = [number for number, unit in enumerate(made) if unit.turns[0].message.role == "user"]
    if len(asked) >= last:
        return made[asked[-last] :]
    return made if whole else None
