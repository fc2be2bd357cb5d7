"""The recent turns of a session within limits: who gives them, and how they are read from the rows.

The rows are the truth. Whoever keeps copies elsewhere tells by a session's *stamp* whether a copy is still
right, and by the history of the scope whether it can be brought up to date instead of being made anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from sqlalchemy import Connection, RowMapping, and_, bindparam, select

from mnemic.records import Finding, Scope, Turn
from mnemic.stores import schema
from mnemic.stores.database import Database
from mnemic.stores.rows import message_from_row, now_micros, optional_micros, to_micros

if TYPE_CHECKING:
    from mnemic.stores.redis_link import Link

# Recent is at least a minute and at most a month.
LEAST_TTL, MOST_TTL = timedelta(minutes=1), timedelta(days=30)
MOST_MESSAGES = 1_000
_PAGE = 100
# Over so many changes a copy isn't brought up to date but made anew.
_MOST_CHANGES = 2_000
# The changes that take no message away and alter none. One that isn't named here may do either.
_HARMLESS = ("remembered", "supported", "pinned", "unpinned", "set")
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Limits:
    """What counts as recent: the newest messages, without a gap, that keep within all of these.

    `tokens_of` says how large a turn is. `counter` is the name of that way to count, by which another
    process knows it; None where there is no such name.
    """

    messages: int
    ttl: timedelta
    tokens: int | None = None
    counter: str | None = None
    tokens_of: Callable[[Turn], int] = lambda turn: 0

    def since(self, now: int) -> int:
        """The moment before which a message is too old, where it is `now`; microseconds."""
        return now - self.ttl // _MICROSECOND


class Stamp(NamedTuple):
    """The last change to a session: its `seq`, and when it was made.

    The time tells apart what two stores, or one store before and after a restore, counted alike.
    """

    changed: int
    at: int


class Taken(NamedTuple):
    """Turns within limits, in order, with their tokens where those were counted (else 0).

    `rest` is the newest turn that is left out; None where there is none.
    """

    turns: list[Turn]
    sizes: list[int]
    rest: Turn | None
    rest_size: int = 0


class RecentTurns(Protocol):
    """Who gives a session's recent turns."""

    clock: Callable[[], int]

    @property
    def copied(self) -> bool:
        """Whether copies are kept elsewhere, which forgetting has to delete."""
        ...

    @property
    def status(self) -> str:
        """`embedded`, or whether the other place is `up` or `down`."""
        ...

    def recent(self, scope: Scope, session: str, limits: Limits) -> list[Turn]:
        """The recent turns, oldest first, as the database has them when this is called."""
        ...

    def push(self, scope: Scope, session: str, limits: Limits) -> None:
        """Take note of what was committed, so that the next `recent` is quick. Never raises."""
        ...

    def drop(self, scope_key: bytes, digests: Sequence[bytes]) -> bool:
        """Delete the copies of sessions, by `session_digest`; False where they can't be reached."""
        ...

    def check(self) -> Finding | None:
        """Look whether the other place answers; None where there is no other."""
        ...

    def close(self) -> None:
        """Give back connections."""
        ...


def session_digest(scope_key: bytes, session: str) -> bytes:
    """16 bytes that stand for a session where no name may."""
    return hashlib.blake2b(
        session.encode(), digest_size=16, key=scope_key, person=b"mnemic.session"
    ).digest()


def open_link(url: str | None) -> Link | None:
    """The line to what a URL names; nothing is reached for yet.

    Raises `InputError` for a URL that names nothing of use, `MissingExtra` without its library.
    """
    if url is None:
        return None
    from mnemic.stores.redis_link import Link

    return Link(url)


def turns_over(database: Database, link: Link | None) -> RecentTurns:
    """The database's own turns; with a link, copied to what that leads to."""
    rows = TurnRows(database)
    if link is None:
        return rows
    from mnemic.stores.redis_turns import RedisTurns

    return RedisTurns(rows, link)


def take(newest_first: Iterable[tuple[Turn, int | None]], limits: Limits, now: int) -> Taken:
    """Take turns for as long as they keep within limits; each comes with its tokens, where known.

    One that has expired counts for nothing. The first that is too old, or doesn't fit, ends it: what is
    recent has no gaps.
    """
    turns: list[Turn] = []
    sizes: list[int] = []
    since, left = limits.since(now), limits.tokens
    for turn, size in newest_first:
        expires_at = optional_micros(turn.message.expires_at)
        if expires_at is not None and expires_at <= now:
            continue
        if left is None:
            size = 0
        elif size is None:
            size = limits.tokens_of(turn)
        old = to_micros(turn.message.recorded_at) < since
        if old or len(turns) == limits.messages or (left is not None and size > left):
            return Taken(turns[::-1], sizes[::-1], turn, size)
        left = None if left is None else left - size
        turns.append(turn)
        sizes.append(size)
    return Taken(turns[::-1], sizes[::-1], None)


_stamp = (
    select(schema.sessions.c.changed, schema.changes.c.at)
    .join(
        schema.changes,
        and_(
            schema.changes.c.scope == schema.sessions.c.scope,
            schema.changes.c.seq == schema.sessions.c.changed,
        ),
    )
    .where(
        schema.sessions.c.scope == bindparam("scope"),
        schema.sessions.c.session == bindparam("session"),
    )
)
_change_at = select(schema.changes.c.at).where(
    schema.changes.c.scope == bindparam("scope"), schema.changes.c.seq == bindparam("seq")
)
_harmful = (
    select(schema.changes.c.seq)
    .where(
        schema.changes.c.scope == bindparam("scope"),
        schema.changes.c.seq > bindparam("after"),
        schema.changes.c.seq <= bindparam("until"),
        schema.changes.c.action.not_in(_HARMLESS),
    )
    .limit(1)
)
_of_session = select(schema.messages).where(
    schema.messages.c.scope == bindparam("scope"),
    schema.messages.c.session == bindparam("session"),
    schema.messages.c.expires_at.is_(None) | (schema.messages.c.expires_at > bindparam("now")),
)
_before = (
    _of_session.where(schema.messages.c.seq < bindparam("before"))
    .order_by(schema.messages.c.seq.desc())
    .limit(bindparam("most"))
)
_after = (
    _of_session.where(schema.messages.c.seq > bindparam("after"))
    .order_by(schema.messages.c.seq)
    .limit(bindparam("most"))
)
_NO_END = 2**62


class TurnRows:
    """Recent turns, read from the rows of the database. The embedded way, and what copies are made of.

    A message's age is that of its recording. When it was said is the caller's word: an old conversation
    that is read in would be over at once, and a wrong clock elsewhere would keep a message for ever.
    """

    copied = False
    status = "embedded"

    def __init__(self, database: Database) -> None:
        self.database = database
        self.clock = now_micros

    def recent(self, scope: Scope, session: str, limits: Limits) -> list[Turn]:
        """The recent turns, oldest first. Costs what it returns, however long the session is."""
        return self.window(scope, session, limits)[1].turns

    def push(self, scope: Scope, session: str, limits: Limits) -> None:
        """Nothing: what was committed is in the rows."""

    def drop(self, scope_key: bytes, digests: Sequence[bytes]) -> bool:
        """Say whether there is nothing to delete: copies that are noted were made elsewhere."""
        return not digests

    def check(self) -> Finding | None:
        """None: the database is looked over as a whole."""
        return None

    def close(self) -> None:
        """Nothing: the connections are the database's."""

    def stamp(self, scope: Scope, session: str) -> Stamp | None:
        """The last change to a session; None where there is no session, or none was noted."""
        with self.database.read_once() as connection:
            return _find_stamp(connection, scope, session)

    def window(self, scope: Scope, session: str, limits: Limits) -> tuple[Stamp | None, Taken]:
        """The turns within limits and the stamp that they have, both of one moment.

        No stamp where one of them is still being said: what that says changes without a change.
        """
        now, unsaid = self.clock(), set[int]()
        with self.database.read() as connection:
            rows = self._newest_first(connection, scope, session, limits, now)
            taken = take(_turns_of(rows, unsaid), limits, now)
            stamp = None if unsaid else _find_stamp(connection, scope, session)
        return stamp, taken

    def news(
        self, scope: Scope, session: str, known: Stamp, most: int
    ) -> tuple[Stamp, list[Turn]] | None:
        """What came after a stamp, and the stamp now; None unless messages came, and nothing else.

        So whoever holds the session as it was at the one stamp has it as it is at the other.
        """
        where = {"scope": scope.key, "session": session}
        with self.database.read() as connection:
            stamp = _find_stamp(connection, scope, session)
            if stamp is None or not 0 <= stamp.changed - known.changed <= _MOST_CHANGES:
                return None
            # The stamp must be one of this very history.
            at = connection.execute(_change_at, {"scope": scope.key, "seq": known.changed})
            if at.scalar() != known.at:
                return None
            span = {"scope": scope.key, "after": known.changed, "until": stamp.changed}
            if connection.execute(_harmful, span).first() is not None:
                return None
            news = {**where, "after": known.changed, "now": self.clock(), "most": most + 1}
            rows = connection.execute(_after, news).mappings().all()
        unsaid = set[int]()
        turns = [turn for turn, _ in _turns_of(rows, unsaid)]
        return None if unsaid or len(turns) > most else (stamp, turns)

    def _newest_first(
        self, connection: Connection, scope: Scope, session: str, limits: Limits, now: int
    ) -> Iterator[RowMapping]:
        # One more than may be taken, to know whether there is more.
        page = min(limits.messages + 1, _PAGE)
        where: dict[str, Any] = {"scope": scope.key, "session": session, "now": now, "most": page}
        before = _NO_END
        while rows := connection.execute(_before, {**where, "before": before}).mappings().all():
            yield from rows
            if len(rows) < page:
                return
            before = rows[-1]["seq"]


def _turns_of(rows: Iterable[RowMapping], unsaid: set[int]) -> Iterator[tuple[Turn, None]]:
    """The turns of rows; notes which of them are still being said."""
    for row in rows:
        if row["state"] == "streaming":
            unsaid.add(row["seq"])
        yield Turn(row["seq"], message_from_row(row)), None


def _find_stamp(connection: Connection, scope: Scope, session: str) -> Stamp | None:
    row = connection.execute(_stamp, {"scope": scope.key, "session": session}).first()
    return None if row is None else Stamp(int(row.changed), int(row.at))
