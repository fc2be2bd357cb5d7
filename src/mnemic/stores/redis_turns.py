"""Copies of recent turns in a Redis or Valkey, for hosts that share sessions.

A copy is one list: a head, then turns. It is exact for the stamp in its head, and used where the session
still has that stamp; else it is brought up to date, or made anew. What is written there is written by one
script (`lua/push.lua`), which refuses whoever knew another copy than the one it finds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache, partial
from itertools import chain
from pathlib import Path
from secrets import token_hex
from time import perf_counter
from typing import Any, NamedTuple

from mnemic.errors import StoreError
from mnemic.records import Finding, Message, Scope, Turn
from mnemic.stores.redis_link import Link
from mnemic.stores.rows import from_micros, optional_micros, optional_moment, to_micros
from mnemic.stores.turns import (
    MOST_MESSAGES,
    MOST_TTL,
    Limits,
    Stamp,
    Taken,
    TurnRows,
    session_digest,
    take,
)

# A copy that would be larger than this isn't made; bytes.
MOST_BYTES = 4_000_000
# The mark that takes a forgotten copy's place: it refuses whoever read the rows before they went. By then
# they are refused for their age (`push.lua`: a minute).
_MARK_MS = 600_000
_AT_ONCE = 500
_PREFIX = "mnemic:"
_FORMAT = "m1"


class _DamagedError(Exception):
    """What is there isn't as we write it."""


class Seen(NamedTuple):
    """What was there under a key, and when by the server's clock, in ms. `entries` are its last ones."""

    head: bytes
    at: int
    entries: list[bytes]


class Left(NamedTuple):
    """The newest turn that a copy doesn't hold: recorded when, its tokens, expires when (0: never)."""

    recorded_at: int
    tokens: int
    expires_at: int


@dataclass(frozen=True, slots=True)
class Head:
    """What the first element of a copy says. `limits` are those within which it is kept.

    `count` is how many turns there have to be.
    """

    stamp: Stamp
    left: Left | None
    limits: Limits
    count: int = 0


class RedisTurns:
    """Recent turns from a copy, where there is one that is right; else from the rows.

    A server that doesn't answer costs time, and no more: `ask` of the link gives None, the rows serve.
    """

    copied = True

    def __init__(self, rows: TurnRows, link: Link) -> None:
        self.link = link
        self._rows = rows

    @property
    def clock(self) -> Callable[[], int]:
        """What tells the time, in microseconds; a test may set another."""
        return self._rows.clock

    @clock.setter
    def clock(self, clock: Callable[[], int]) -> None:
        self._rows.clock = clock

    @property
    def status(self) -> str:
        """`up`, or `down` where the server didn't answer lately."""
        return "up" if self.link.trouble is None else "down"

    def recent(self, scope: Scope, session: str, limits: Limits) -> list[Turn]:
        """The recent turns, oldest first, as the database has them when this is called."""
        copy = _Copy(scope, session)
        seen = self.link.ask(lambda client: _look(client, copy.key, limits.messages))
        if seen is None:
            return self._rows.recent(scope, session, limits)
        head = copy.read_head(seen.head)
        if head is not None:
            with suppress(_DamagedError):
                turns = self._from_copy(copy, seen, head, limits)
                if turns is not None:
                    return turns
        return self._made_anew(copy, seen, head, limits)

    def push(self, scope: Scope, session: str, limits: Limits) -> None:
        """Bring the copy up to date, if there is one; the next `recent` makes one if not. Never raises."""
        copy = _Copy(scope, session)
        seen = self.link.ask(lambda client: _look(client, copy.key, 0))
        head = None if seen is None else copy.read_head(seen.head)
        if seen is None or head is None:
            return
        # What was committed is committed, whatever happens here: the next `recent` compares stamps.
        with suppress(StoreError):
            news = self._rows.news(scope, session, head.stamp, MOST_MESSAGES)
            if news is None:
                self.link.ask(partial(_mark, [copy.key]))
            elif news[0] != head.stamp:
                self._append(copy, seen, head, *news, limits)

    def drop(self, scope_key: bytes, digests: Sequence[bytes]) -> bool:
        """Delete the copies of sessions; False where the server doesn't answer: they may be there."""
        for at in range(0, len(digests), _AT_ONCE):
            keys = [_key(scope_key, digest) for digest in digests[at : at + _AT_ONCE]]
            if self.link.ask(partial(_mark, keys), always=True) is None:
                return False
        return True

    def check(self) -> Finding:
        """Look whether the server answers."""
        start = perf_counter()
        if self.link.ask(lambda client: client.ping(), always=True) is None:
            says = f"{self.link.place} doesn't answer ({self.link.trouble}); the database serves"
            return Finding("short-term", False, says)
        spent = (perf_counter() - start) * 1000
        return Finding("short-term", True, f"{self.link.place} answers in {spent:.1f} ms")

    def close(self) -> None:
        """Give back the connections."""
        self.link.close()

    def _from_copy(self, copy: _Copy, seen: Seen, head: Head, limits: Limits) -> list[Turn] | None:
        """The turns as the copy has them, brought up to date; None where it isn't of use."""
        stamp = self._rows.stamp(copy.scope, copy.session)
        if stamp is None:
            return None
        if len(seen.entries) != min(head.count, limits.messages):
            return None  # others write there too
        news: list[Turn] = []
        if stamp != head.stamp:
            found = self._rows.news(copy.scope, copy.session, head.stamp, limits.messages)
            if found is None:
                return None
            stamp, news = found
        known = limits.counter is not None and limits.counter == head.limits.counter
        now = self.clock()
        added = ((turn, None) for turn in reversed(news))
        taken = take(chain(added, copy.newest_first(seen.entries, known)), limits, now)
        if not _is_whole(taken, head, limits, now, known):
            return None
        if stamp != head.stamp:
            self._append(copy, seen, head, stamp, news, limits)
        return taken.turns

    def _made_anew(self, copy: _Copy, seen: Seen, head: Head | None, limits: Limits) -> list[Turn]:
        """The turns as the rows have them; the copy is made of them, large enough for all who use it."""
        wide = _merged(limits if head is None else head.limits, limits)
        stamp, window = self._rows.window(copy.scope, copy.session, wide)
        entries = _entries(window.turns, window.sizes)
        if stamp is not None and sum(map(len, entries)) <= MOST_BYTES:
            left = None if window.rest is None else _left(window.rest, window.rest_size)
            self._put(copy, seen, Head(stamp, left, wide), "replace", entries)
        elif head is not None:
            self.link.ask(partial(_mark, [copy.key]))  # it is of no use any more
        if wide == limits:
            return window.turns
        sizes = [None] * len(window.turns) if wide.tokens is None else window.sizes[::-1]
        return take(zip(window.turns[::-1], sizes, strict=True), limits, self.clock()).turns

    def _append(
        self, copy: _Copy, seen: Seen, head: Head, stamp: Stamp, news: list[Turn], limits: Limits
    ) -> None:
        wide = _merged(head.limits, limits)
        sizes = [0 if wide.tokens is None else limits.tokens_of(turn) for turn in news]
        self._put(copy, seen, Head(stamp, None, wide), "append", _entries(news, sizes))

    def _put(self, copy: _Copy, seen: Seen, head: Head, how: str, entries: list[bytes]) -> None:
        limits, left = head.limits, head.left
        life = int(limits.ttl / timedelta(milliseconds=1))
        most = -1 if limits.tokens is None else limits.tokens
        known = limits.tokens is not None and limits.counter
        arguments = [
            seen.head,
            seen.at,
            how,
            f"{_FORMAT} {copy.digest.hex()} {head.stamp.changed} {head.stamp.at}",
            *(("-", "-", "-") if left is None else left),
            limits.messages,
            most,
            MOST_BYTES,
            limits.since(self.clock()),
            life,
            f"{known or '-'} {limits.messages} {most} {life}",
            *entries,
        ]
        script = _script()
        self.link.ask(lambda client: client.register_script(script)([copy.key], arguments))


class _Copy:
    """Where the copy of a session is, and how it is read."""

    def __init__(self, scope: Scope, session: str) -> None:
        self.scope, self.session = scope, session
        self.digest = session_digest(scope.key, session)
        self.key = _key(scope.key, self.digest)

    def read_head(self, raw: bytes) -> Head | None:
        """The head of this session's copy; None where there is none, or it is none of ours."""
        words = raw[:400].decode("ascii", "replace").split(" ")
        if len(words) != 14 or words[:2] != [_FORMAT, self.digest.hex()]:
            return None
        counter = None if words[10] == "-" else words[10]
        try:
            changed, at = int(words[2]), int(words[3])
            left = None if words[4] == "-" else Left(*map(int, words[4:7]))
            count, messages, tokens, life = map(int, (words[7], *words[11:]))
        except ValueError:
            return None
        if not 0 < messages <= MOST_MESSAGES or not 0 < life <= MOST_TTL / timedelta(
            milliseconds=1
        ):
            return None
        budget = None if counter is None or tokens < 0 else tokens
        limits = Limits(messages, timedelta(milliseconds=life), budget, counter)
        return Head(Stamp(changed, at), left, limits, count)

    def newest_first(
        self, entries: Sequence[bytes], known: bool
    ) -> Iterator[tuple[Turn, int | None]]:
        """The turns of a copy; with their tokens where those are `known` to be counted our way."""
        try:
            read = json.loads(f"[{b','.join(entries).decode()}]")
        except ValueError as error:
            raise _DamagedError from error
        for entry in reversed(read):
            try:
                seq, tokens, recorded_at, expires_at, said = entry
                message = _message(self.session, recorded_at, expires_at, said)
            except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError) as error:
                raise _DamagedError from error
            yield Turn(seq, message), tokens if known else None


def _is_whole(taken: Taken, head: Head, limits: Limits, now: int, known: bool) -> bool:
    """Whether what was taken of a copy is all that the session has within limits."""
    left = head.left
    if taken.rest is not None or len(taken.turns) == limits.messages or left is None:
        return True
    if left.expires_at and left.expires_at <= now:
        return False  # what comes before it would be looked at next
    if left.recorded_at < limits.since(now):
        return True
    return known and limits.tokens is not None and sum(taken.sizes) + left.tokens > limits.tokens


def _merged(one: Limits, other: Limits) -> Limits:
    """Limits within which there is room for what either wants; `other`'s way to count."""
    same = one.counter == other.counter and other.counter is not None
    tokens = None
    if same and one.tokens is not None and other.tokens is not None:
        tokens = max(one.tokens, other.tokens)
    return replace(
        other,
        messages=max(one.messages, other.messages),
        ttl=max(one.ttl, other.ttl),
        tokens=tokens,
    )


def _entries(turns: Sequence[Turn], sizes: Sequence[int]) -> list[bytes]:
    """Turns as a copy holds them: what the script has to know of each comes first."""
    return [
        b"[%d,%d,%d,%d,%b]"
        % (
            turn.seq,
            size,
            to_micros(turn.message.recorded_at),
            optional_micros(turn.message.expires_at) or 0,
            json.dumps(_said(turn.message), ensure_ascii=False, separators=(",", ":")).encode(),
        )
        for turn, size in zip(turns, sizes, strict=True)
    ]


def _said(message: Message) -> dict[str, Any]:
    said = {
        "i": message.id,
        "r": message.role,
        "c": message.content,
        "t": to_micros(message.said_at),
        "n": message.name,
        "g": message.tags,
        "m": dict(message.metadata),
        "x": dict(message.extra),
        "s": None if message.state == "complete" else message.state,
    }
    return {key: value for key, value in said.items() if value}


def _message(session: str, recorded_at: int, expires_at: int, said: dict[str, Any]) -> Message:
    return Message(
        id=said["i"],
        session=session or None,
        role=said["r"],
        content=said.get("c", ""),
        said_at=from_micros(said.get("t", 0)),
        recorded_at=from_micros(recorded_at),
        name=said.get("n"),
        expires_at=optional_moment(expires_at or None),
        tags=tuple(said.get("g", ())),
        metadata=said.get("m", {}),
        extra=said.get("x", {}),
        state=said.get("s", "complete"),
    )


def _left(turn: Turn, tokens: int) -> Left:
    message = turn.message
    return Left(to_micros(message.recorded_at), tokens, optional_micros(message.expires_at) or 0)


def _key(scope_key: bytes, digest: bytes) -> bytes:
    return f"{_PREFIX}{{{scope_key.hex()}}}:{digest.hex()}".encode()


def _look(client: Any, key: bytes, last: int) -> Seen:
    """The head of a list, its last elements, and the server's time, of one moment."""
    asked = client.pipeline(transaction=True)
    asked.time().lindex(key, 0)
    if last:
        asked.lrange(key, -last, -1)
    (seconds, micros), head, *rest = asked.execute()
    entries = rest[0] if rest else []
    at = seconds * 1000 + micros // 1000
    return Seen(head or b"", at, entries[1:] if entries[:1] == [head] else entries)


def _mark(keys: Sequence[bytes], client: Any) -> bool:
    """Put a mark that nobody has seen before in the place of each list."""
    asked = client.pipeline(transaction=True)
    for key in keys:
        asked.delete(key).rpush(key, f"forgotten {token_hex(8)}").pexpire(key, _MARK_MS)
    asked.execute()
    return True


@cache
def _script() -> str:
    text = (Path(__file__).parent / "lua" / "push.lua").read_text("utf-8")
    return re.sub(r"(?m)^--.*\n", "", text)
