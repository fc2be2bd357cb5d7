"""Short-term memory: the recent turns of a session, from hours to days, shared by whoever is in it.

The database has them. Where hosts share a Redis or Valkey, a copy there answers (`stores/redis_turns.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from mnemic.errors import InputError
from mnemic.inputs import kind_of, read_name, read_number
from mnemic.layers.adding import add
from mnemic.layers.parts import Handle
from mnemic.layers.working.rendering import ChatCounter, to_openai
from mnemic.layers.working.units import units
from mnemic.records import Message, Receipt, Turn
from mnemic.stores.turns import LEAST_TTL, MOST_MESSAGES, MOST_TTL, Limits, session_digest

LEAST_TOKENS, MOST_TOKENS = 10, 100_000_000
# What the reply's beginning costs beside the messages.
_REPLY = ChatCounter(len).messages(())
# Sizes are kept for so many messages.
_KEPT_SIZES = 4_096


class ShortTermMemory:
    """The recent turns of one session, from the newest back.

    Those recorded within `ttl`, at most `max_messages`, and as many as come to at most `max_tokens` (exact,
    rendered, as `counter` counts). The first that is too old, or doesn't fit, ends it: there is no gap.
    Nothing is held here, so any number of objects, threads and processes may share a session; what
    one has added, the next `turns()` of any of them has.
    """

    def __init__(
        self,
        memory: Handle,
        session: str,
        *,
        ttl: timedelta = timedelta(days=2),
        max_messages: int = 200,
        max_tokens: int | None = None,
        counter: str | Callable[[str], int] = "o200k_base",
    ) -> None:
        self.session = read_name(session, "session")
        self._memory = memory
        self._counter = ChatCounter(counter)
        self._sizes: dict[tuple[int, datetime], int] = {}
        tokens = None
        if max_tokens is not None:
            tokens = read_number(max_tokens, "max_tokens", LEAST_TOKENS, MOST_TOKENS) - _REPLY
        self._limits = Limits(
            messages=read_number(max_messages, "max_messages", 1, MOST_MESSAGES),
            ttl=_read_ttl(ttl),
            tokens=tokens,
            counter=f"{counter.removesuffix('_base')}_base" if isinstance(counter, str) else None,
            tokens_of=self._tokens_of,
        )

    def add(self, message: str | Mapping[str, Any] | Message) -> Receipt:
        """Remember a message of this session, as `remember` does it: on disk when this returns."""
        receipt = add(self._memory, self.session, message)
        self._memory._core.turns.push(self._memory.scope, self.session, self._limits)
        return receipt

    def turns(self) -> list[Turn]:
        """The recent turns, oldest first, all of them as they were said."""
        return self._memory._core.turns.recent(self._memory.scope, self.session, self._limits)

    def messages(self) -> list[dict[str, Any]]:
        """The recent turns as an OpenAI-style API takes them.

        Without a tool's result whose call is no longer recent, and a call that lacks results.
        """
        return [to_openai(turn.message) for unit in units(self.turns()) for turn in unit.turns]

    def clear(self) -> None:
        """Delete the copy in the Redis, if there is one; the next `turns()` makes another.

        The database keeps its messages: `forget_session` is what forgets.
        """
        key = self._memory.scope.key
        self._memory._core.turns.drop(key, [session_digest(key, self.session)])

    def _tokens_of(self, turn: Turn) -> int:
        # One `seq` may say something else once it has another time: a reply that was still being said.
        place = (turn.seq, turn.message.recorded_at)
        size = self._sizes.get(place)
        if size is None:
            if len(self._sizes) >= _KEPT_SIZES:
                self._sizes.clear()
            size = self._sizes[place] = self._counter.message(to_openai(turn.message))
        return size


def _read_ttl(ttl: Any) -> timedelta:
    if not isinstance(ttl, timedelta):
        raise InputError(f"ttl must be a timedelta such as timedelta(days=2), not {kind_of(ttl)}")
    if not LEAST_TTL <= ttl <= MOST_TTL:
        raise InputError(f"ttl must be from a minute to {MOST_TTL.days} days, not {ttl}")
    return ttl
