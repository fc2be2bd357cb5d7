"""A scope's settings and conversations: turns, read from either end, and summaries of their beginnings.

Each reading costs what it returns, however long the session is. A session without a name is "".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, Select, delete, func, insert, select, update

from mnemic.records import Scope, Session, Summary, Turn
from mnemic.stores import schema
from mnemic.stores.appending import set_version, take_version
from mnemic.stores.database import Database
from mnemic.stores.rows import (
    TIMEZONE,
    from_json,
    from_micros,
    message_from_row,
    now_micros,
    to_json,
    to_micros,
)

_SYSTEM = ("system", "developer")
# More system messages than this in one session are an error of whoever writes them.
MAX_SYSTEM = 1_000


class SessionRows:
    """The sessions of one database."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def settings(self, scope: Scope) -> str | None:
        """What is set for a scope, as JSON."""
        query = select(schema.scopes.c.settings).where(schema.scopes.c.scope == scope.key)
        with self.database.read_once() as connection:
            found: str | None = connection.execute(query).scalar()
        return found

    def set_timezone(self, scope: Scope, name: str | None) -> None:
        """Set, or unset, the time zone of a scope."""
        with self.database.write() as connection:
            version = take_version(connection, scope, now_micros())
            own = schema.scopes.c.scope == scope.key
            found = connection.execute(select(schema.scopes.c.settings).where(own)).scalar()
            settings = {**(from_json(found) or {}), TIMEZONE: name}
            given = {key: value for key, value in settings.items() if value is not None}
            connection.execute(update(schema.scopes).where(own).values(settings=to_json(given)))
            change = {"scope": scope.key, "at": now_micros(), "action": "set", "record": None}
            connection.execute(insert(schema.changes), {**change, "seq": version + 1})
            set_version(connection, scope, version + 1)

    def sessions(self, scope: Scope, limit: int) -> list[Session]:
        """The sessions of a scope, the one last spoken in first."""
        columns = schema.sessions.c
        query = (
            select(columns.session, columns.started_at, columns.last_at)
            .where(columns.scope == scope.key)
            .order_by(columns.last_at.desc(), columns.session)
            .limit(limit)
        )
        with self.database.read_once() as connection:
            rows = connection.execute(query).all()
        return [
            Session(row.session, from_micros(row.started_at), from_micros(row.last_at))
            for row in rows
        ]

    def changed(self, scope: Scope, session: str) -> int:
        """The `seq` of the last change to any message of a session; 0 where there is no such session."""
        columns = schema.sessions.c
        query = select(columns.changed).where(
            columns.scope == scope.key, columns.session == session
        )
        with self.database.read_once() as connection:
            return int(connection.execute(query).scalar() or 0)

    def stamp(self, scope: Scope, session: str) -> tuple[int, int]:
        """What a session is known by until any of its messages changes: `changed`, and when it was.

        The time (microseconds) tells a store from itself before a backup was put in its place.
        """
        columns = schema.sessions.c
        query = select(columns.changed, columns.last_at).where(
            columns.scope == scope.key, columns.session == session
        )
        with self.database.read_once() as connection:
            row = connection.execute(query).one_or_none()
        return (0, 0) if row is None else (int(row.changed or 0), row.last_at)

    def latest(self, scope: Scope, session: str, role: str) -> Turn | None:
        """The last turn of a role in a session; costs what was said since."""
        query = _turns(scope, session).where(schema.messages.c.role == role)
        query = query.order_by(schema.messages.c.seq.desc()).limit(1)
        with self.database.read_once() as connection:
            row = connection.execute(query).mappings().one_or_none()
        return None if row is None else Turn(row["seq"], message_from_row(row))

    def count(self, scope: Scope, session: str, *, after: int = 0, most: int | None = None) -> int:
        """How many turns there are after a `seq`, those of the system aside; counted up to `most`."""
        query = _turns(scope, session).where(
            schema.messages.c.seq > after, schema.messages.c.role.not_in(_SYSTEM)
        )
        some = query.with_only_columns(schema.messages.c.seq).limit(most).subquery()
        with self.database.read_once() as connection:
            return int(connection.execute(select(func.count()).select_from(some)).scalar_one())

    def tail(
        self, scope: Scope, session: str, limit: int, *, before: int | None = None, after: int = 0
    ) -> list[Turn]:
        """The last turns of a session, in the order of arrival: those with `after` < `seq` < `before`."""
        query = _turns(scope, session).where(schema.messages.c.seq > after)
        if before is not None:
            query = query.where(schema.messages.c.seq < before)
        query = query.order_by(schema.messages.c.seq.desc()).limit(limit)
        with self.database.read_once() as connection:
            rows = connection.execute(query).mappings().all()
        return [Turn(row["seq"], message_from_row(row)) for row in reversed(rows)]

    def turns(
        self, scope: Scope, session: str, limit: int, *, after: int = 0, until: int | None = None
    ) -> list[Turn]:
        """The next turns of a session, in the order of arrival: those with `after` < `seq` <= `until`."""
        query = _turns(scope, session).where(schema.messages.c.seq > after)
        if until is not None:
            query = query.where(schema.messages.c.seq <= until)
        with self.database.read_once() as connection:
            rows = connection.execute(query.order_by(schema.messages.c.seq).limit(limit))
            return [Turn(row["seq"], message_from_row(row)) for row in rows.mappings()]

    def system(self, scope: Scope, session: str) -> list[Turn]:
        """The system's and developer's messages of a session, at most `MAX_SYSTEM`."""
        # Literally as the index has it, or SQLite would read the whole session.
        query = _turns(scope, session).where(schema.SYSTEM_ONLY)
        with self.database.read_once() as connection:
            rows = connection.execute(query.order_by(schema.messages.c.seq).limit(MAX_SYSTEM))
            return [Turn(row["seq"], message_from_row(row)) for row in rows.mappings()]

    def summary(self, scope: Scope, session: str) -> Summary | None:
        """The summary of a session's beginning, if there is one."""
        with self.database.read_once() as connection:
            row = connection.execute(_summary(scope, session)).one_or_none()
        return None if row is None else _read_summary(row)

    def set_summary(self, scope: Scope, new: Summary, instead_of: Summary | None) -> bool:
        """Put a summary in the place of the one it was made from.

        False, and nothing is changed, where another has come meanwhile, or where messages that it stands
        for were forgotten.
        """
        with self.database.write() as connection:
            row = connection.execute(_summary(scope, new.session)).one_or_none()
            if (None if row is None else _read_summary(row)) != instead_of:
                return False
            known = None
            if instead_of is not None and instead_of.first == new.first:
                # It would be gone if any of its messages were: only those after it are counted.
                known = (instead_of.last, instead_of.messages)
            if _count(connection, scope, new, known) != new.messages:
                return False
            of_session = (
                schema.summaries.c.scope == scope.key,
                schema.summaries.c.session == new.session,
            )
            connection.execute(delete(schema.summaries).where(*of_session))
            connection.execute(insert(schema.summaries), _summary_row(scope, new))
        return True


def _turns(scope: Scope, session: str) -> Select[Any]:
    messages = schema.messages
    return select(messages).where(
        messages.c.scope == scope.key,
        messages.c.session == session,
        (messages.c.expires_at.is_(None)) | (messages.c.expires_at > now_micros()),
    )


def _summary(scope: Scope, session: str) -> Select[Any]:
    summaries = schema.summaries
    return select(summaries).where(summaries.c.scope == scope.key, summaries.c.session == session)


def _count(
    connection: Connection, scope: Scope, summary: Summary, known: tuple[int, int] | None
) -> int:
    """How many messages there are now between a summary's ends that it may stand for.

    `known`: up to which `seq` they were counted before, and how many those were.
    """
    messages = schema.messages
    query = select(func.count()).where(
        messages.c.scope == scope.key,
        messages.c.session == summary.session,
        messages.c.seq >= summary.first if known is None else messages.c.seq > known[0],
        messages.c.seq <= summary.last,
        messages.c.role.not_in(_SYSTEM),
        messages.c.expires_at.is_(None),
    )
    return int(connection.execute(query).scalar_one()) + (0 if known is None else known[1])


def _read_summary(row: Row[Any]) -> Summary:
    return Summary(
        session=row.session,
        text=row.text,
        first=row.first,
        last=row.last,
        messages=row.messages,
        rolls=row.rolls,
        fresh=row.fresh,
        made_by=row.made_by,
        made_at=from_micros(row.made_at),
    )


def _summary_row(scope: Scope, summary: Summary) -> dict[str, Any]:
    names: Sequence[str] = ("session", "text", "first", "last", "messages", "rolls", "fresh")
    values = {name: getattr(summary, name) for name in (*names, "made_by")}
    return {"scope": scope.key, "made_at": to_micros(summary.made_at), **values}
