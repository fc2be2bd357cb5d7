"""The rows of messages that are still being said: their text so far, their end, and what a crash left.

A stream's message has a key of its own from the start, which is its job's as well. The job is leased for
as long as signs of life come; whoever finds it later makes an interrupted message of what is there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from sqlalchemy import Connection, RowMapping, delete, select, update

from mnemic.records import Message, Scope
from mnemic.stores import appending, erasing, schema
from mnemic.stores.appending import Place, add_job, finish_job
from mnemic.stores.database import Database
from mnemic.stores.known import KnownEmbedder, require_in_use
from mnemic.stores.making import MEASURES
from mnemic.stores.rows import (
    STALE_MICROS,
    Appended,
    NewMessage,
    NewPassage,
    message_from_row,
    now_micros,
    to_json,
    to_micros,
)

STREAM = "stream"
# A stream gives a sign of life every two seconds; one that gave none for so long has lost its process.
LEASE_MICROS = 15_000_000
# What stands for the error of a reply whose process ended.
LOST = "ProcessLost"

Fate = Literal["written", "taken", "recovered", "gone"]
PassageOf = Callable[[Message, int, int], NewPassage]


@dataclass(frozen=True, slots=True)
class Heard:
    """What has arrived of one stream. `known`: it was written before; `news`: there is text since then."""

    scope: Scope
    key: bytes
    message: Message
    known: bool
    news: bool


class StreamRows:
    """The messages of one database that are still being said."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def write(self, heard: Sequence[Heard]) -> list[Fate]:
        """Write what has arrived of some streams, or a sign of life; says what has become of each.

        `taken`: another message has its id. `recovered`: someone took the process for dead. `gone`: it was
        forgotten. Nothing is written for those. Not synced: it outlives the process, not the machine.
        """
        with self.database.write(durable=False) as connection:
            return [_write(connection, each, now_micros()) for each in heard]

    def finish(
        self,
        scope: Scope,
        embedder: KnownEmbedder,
        key: bytes,
        new: NewMessage,
        known: bool,
        passage_of: PassageOf,
    ) -> Appended | None:
        """Commit a message that has ended, on disk when this returns, in the place of what is there of it.

        None, and nothing is committed, where what was `known` of it to be there was forgotten meanwhile.
        """
        with self.database.write() as connection:
            require_in_use(connection, embedder)
            finish_job(connection, scope.key, key)
            row = _find(connection, scope, key)
            if row is None and known:
                return None
            place = None if row is None else Place(key, row["seq"])
            if row is not None and row["state"] == "streaming":
                _drop(connection, scope, row)
            elif row is not None:
                # Someone took this process for dead, and made memories of what was there.
                _take_back(connection, scope, key, passage_of)
            return appending.append(connection, scope, [new], now_micros(), place)

    def find_lost(self, scope: Scope, key: bytes) -> Message | None:
        """What is there of a message whose process shows no sign of life any more.

        None where it lives; also where nothing is left to do, and then its job goes.
        """
        with self.database.read() as connection:
            row = _find(connection, scope, key)
        if row is not None and row["state"] == "streaming":
            stale = now_micros() - row["recorded_at"] >= STALE_MICROS
            return _broken_off(message_from_row(row)) if stale else None
        with self.database.write(durable=False) as connection:
            finish_job(connection, scope.key, key)
        return None

    def recover(
        self, scope: Scope, embedder: KnownEmbedder, key: bytes, new: NewMessage
    ) -> Appended | None:
        """Commit what was there of a lost message; None where it was no longer as it was found."""
        with self.database.write() as connection:
            require_in_use(connection, embedder)
            row = _find(connection, scope, key)
            written_at = to_micros(new.message.recorded_at)
            if row is None or (row["state"], row["recorded_at"]) != ("streaming", written_at):
                return None
            finish_job(connection, scope.key, key)
            _drop(connection, scope, row)
            place = Place(key, row["seq"])
            return appending.append(connection, scope, [new], now_micros(), place)


def _broken_off(message: Message) -> Message:
    measures = message.metadata.get(MEASURES, {})
    metadata = {**message.metadata, MEASURES: {**measures, "error": LOST}}
    return replace(message, state="interrupted", metadata=metadata)


def _write(connection: Connection, heard: Heard, now: int) -> Fate:
    scope, key, message = heard.scope, heard.key, heard.message
    values: dict[str, Any] = {"recorded_at": now}
    if heard.news:
        values |= {"content": message.content, "metadata": to_json(dict(message.metadata))}
    messages, jobs = schema.messages, schema.jobs
    mine = (messages.c.scope == scope.key, messages.c.id == key, messages.c.state == "streaming")
    if connection.execute(update(messages).where(*mine).values(values)).rowcount:
        job = (jobs.c.scope == scope.key, jobs.c.id == key)
        connection.execute(update(jobs).where(*job).values(run_at=now + LEASE_MICROS))
        return "written"
    if _find(connection, scope, key) is not None:
        return "recovered"
    if heard.known:
        finish_job(connection, scope.key, key)
        return "gone"
    named = (
        messages.c.scope == scope.key,
        messages.c.session == (message.session or ""),
        messages.c.message_id == message.id,
    )
    if connection.execute(select(messages.c.id).where(*named)).first() is not None:
        return "taken"
    appending.begin(connection, scope, key, message, now)
    add_job(connection, scope, STREAM, key, now + LEASE_MICROS, key)
    return "written"


def _find(connection: Connection, scope: Scope, key: bytes) -> RowMapping | None:
    messages = schema.messages
    query = select(messages).where(messages.c.scope == scope.key, messages.c.id == key)
    return connection.execute(query).mappings().one_or_none()


def _drop(connection: Connection, scope: Scope, row: RowMapping) -> None:
    """Take away what is there of a message, of which more comes, and what sums it up."""
    messages, summaries = schema.messages, schema.summaries
    mine = (messages.c.scope == scope.key, messages.c.id == row["id"])
    connection.execute(delete(messages).where(*mine))
    around = (
        summaries.c.scope == scope.key,
        summaries.c.session == row["session"],
        summaries.c.first <= row["seq"],
        summaries.c.last >= row["seq"],
    )
    connection.execute(delete(summaries).where(*around))


def _take_back(connection: Connection, scope: Scope, key: bytes, passage_of: PassageOf) -> None:
    """Take away an interrupted message, of which the whole is there now, with what only it says."""
    # Facts that it says stay: the message is about to be there again.
    erased = erasing.erase_messages(connection, scope, [key], now_micros(), facts=False)
    for record in erased.reworded:
        erasing.reword(connection, scope, record, passage_of)
    if erased.reworded:
        add_job(connection, scope, "embed", b"".join(erased.reworded), now_micros())
