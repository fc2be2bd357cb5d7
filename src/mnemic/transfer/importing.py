"""Importing: items in batches through the same writer as `remember`, so that a second run skips them."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import groupby, islice
from pathlib import Path
from typing import Any, TypeVar, get_args

from mnemic.errors import IdConflict, InputError, MnemicError
from mnemic.inputs import read_name, read_path, read_share, read_time, read_zone, shown
from mnemic.memory import Memory, ScopedMemory
from mnemic.records import MemoryRecord, Message, MessageState, Status
from mnemic.stores.rows import (
    TIMEZONE,
    Appended,
    NewMessage,
    NewPassage,
    from_id,
    from_json,
    require_id,
)
from mnemic.timing import Timer
from mnemic.transfer.facts import read_fact_line
from mnemic.transfer.formats import Item, ItemKind, read_items
from mnemic.transfer.procedures import read_procedure_line, write_procedure
from mnemic.writing.messages import digest_of, read_input
from mnemic.writing.passages import make_passage
from mnemic.writing.remember import Writer

N = TypeVar("N")
R = TypeVar("R")

# Messages that are committed together, and lost together if the machine stops before.
BATCH = 256
# Batches whose vectors are under way at a time.
EMBEDDING = 2


@dataclass(slots=True)
class ImportReport:
    """What an import did. `there_already` counts what an earlier run had brought.

    `memories` counts those that messages, `facts` and instructions (`procedures`) made.
    """

    messages: int = 0
    memories: int = 0
    there_already: int = 0
    repeats: int = 0
    users: list[str] = field(default_factory=list)
    facts: int = 0
    procedures: int = 0


def import_file(
    memory: Memory,
    path: str | os.PathLike[str],
    form: str = "jsonl",
    *,
    user: str | None = None,
    fallback_user: str | None = None,
    into: ScopedMemory | None = None,
    progress: Callable[[ImportReport], None] | None = None,
) -> ImportReport:
    """Import a file, for whom it says.

    `user`, or any handle as `into`, takes all of it; `fallback_user` takes what names no user.

    What was imported before is skipped, so that a run that broke off is simply run again.
    What is there under the same name, an instruction or a setting, stays as it is. Raises `InputError`
    naming the place in the file, and how many messages, or other lines, before it are kept.
    """
    report = ImportReport()

    def owner(item: Item) -> str:
        if into is not None:
            return str(into.scope)
        name = user or item.user or fallback_user
        if name is None:
            raise InputError(f"{item.where} doesn't say whose memory it is; name a user")
        try:
            return read_name(name, "user")
        except InputError as error:
            raise InputError(f"{item.where}: {error}") from None

    def place(item: Item) -> tuple[str, ItemKind]:
        return owner(item), item.kind

    file = Path(read_path(path, "a file to import"))
    try:
        _import_all(memory, into, groupby(read_items(file, form), place), report, progress)
    except MnemicError as error:
        kept = report.messages + report.there_already
        others = report.facts + report.procedures
        if kept or others:
            what = f"{kept + others:,} {'lines' if others else 'messages'} before it are kept"
            says = f"{what}; run it again once this is mended"
            error.args = (f"{error} ({says})", *error.args[1:])
        raise
    return report


def _import_all(
    memory: Memory,
    into: ScopedMemory | None,
    by_place: Iterable[tuple[tuple[str, ItemKind], Iterable[Item]]],
    report: ImportReport,
    progress: Callable[[ImportReport], None] | None,
) -> None:
    # While batches are embedded, and their vectors committed, the next is read and committed.
    with ThreadPoolExecutor(EMBEDDING) as pool:
        embedding: deque[Future[str | None]] = deque()
        for (name, kind), items in by_place:
            if name not in report.users:
                report.users.append(name)
            handle = into or memory.user(name)
            writer = handle._writer()
            for batch in _batches(items, BATCH):
                done = APPEND[kind](handle, writer, batch, report)
                if len(embedding) == EMBEDDING:
                    embedding.popleft().result()
                embedding.append(pool.submit(writer.embed, handle.scope, done, Timer()))
                if progress is not None:
                    progress(report)


def _append_messages(
    handle: ScopedMemory, writer: Writer, items: Sequence[Item], report: ImportReport
) -> Appended:
    """Commit messages to one scope, in one transaction, and count them."""
    now = datetime.now(UTC)
    new = _without_taken_ids(handle, [_prepare(writer, item, now) for item in items])
    try:
        done = writer.append(handle.scope, new)
    except IdConflict as error:
        where = next(i.where for i in reversed(items) if i.fields.get("id") == error.message_id)
        raise IdConflict(f"{where}: {error}", error.message_id) from None
    report.messages += done.stored
    report.there_already += len(new) - done.stored
    report.repeats += sum(skipped.reason == "repeat" for skipped in done.skipped)
    report.memories += len(done.to_embed)
    return done


def _append_facts(
    handle: ScopedMemory, writer: Writer, items: Sequence[Item], report: ImportReport
) -> Appended:
    """Commit facts to one scope, in one transaction, and count them."""
    now = datetime.now(UTC)
    new = [_at(item, read_fact_line, now) for item in items]
    places = [item.where for item in items]
    done = handle._core.fact_rows.append(handle.scope, writer.known, new, places)
    made = len(done.to_embed)
    report.facts += made
    report.memories += made
    report.repeats += done.stored - made
    report.there_already += len(new) - done.stored
    return done


def _append_procedures(
    handle: ScopedMemory, writer: Writer, items: Sequence[Item], report: ImportReport
) -> Appended:
    """Commit instructions to one scope, in one transaction, and count them."""
    now = datetime.now(UTC)
    new = [_at(item, read_procedure_line, now) for item in items]
    with handle._core.procedure_rows.writing(handle.scope, writer.known) as writing:
        written = sum(write_procedure(writing, each) for each in new)
    report.procedures += written
    report.memories += len(writing.done.to_embed)
    report.there_already += len(new) - written
    return writing.done


def _append_settings(
    handle: ScopedMemory, writer: Writer, items: Sequence[Item], report: ImportReport
) -> Appended:
    """Set what isn't set yet."""
    rows = handle._core.session_rows
    for item in items:
        unknown = item.fields.keys() - {TIMEZONE}
        if unknown:
            raise InputError(f"{item.where}: unknown setting {min(map(shown, unknown))}")
        zone = _at(item, lambda fields, _: read_zone(fields[TIMEZONE], TIMEZONE), None)
        if TIMEZONE not in (from_json(rows.settings(handle.scope)) or {}):
            rows.set_timezone(handle.scope, zone.key)
    return Appended()


APPEND: Mapping[ItemKind, Callable[..., Appended]] = {
    "message": _append_messages,
    "fact": _append_facts,
    "procedure": _append_procedures,
    "settings": _append_settings,
}


def _at(item: Item, read: Callable[[Mapping[str, Any], N], R], now: N) -> R:
    """Read an item's fields; an error names the place in the file."""
    try:
        return read(item.fields, now)
    except InputError as error:
        raise InputError(f"{item.where}: {error}") from None


def _state(state: Any) -> MessageState:
    if state is not None and state != "complete" and state != "interrupted":
        raise InputError(f"state is complete or interrupted, not {shown(state)}")
    return "interrupted" if state == "interrupted" else "complete"


def _batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


def _prepare(writer: Writer, item: Item, now: datetime) -> NewMessage:
    try:
        recorded_at = (
            now if item.recorded_at is None else read_time(item.recorded_at, "recorded_at")
        )
        [(message, given)] = read_input(item.fields, None, recorded_at)
        message = replace(message, state=_state(item.state))
        if item.memories is None:
            return writer.prepare(message, given)
        passages = tuple(_passage(message, memory) for memory in item.memories)
    except InputError as error:
        raise InputError(f"{item.where}: {error}") from None
    return NewMessage(message, digest_of(message), passages, given)


def _passage(message: Message, memory: Any) -> NewPassage:
    """A passage as an export wrote it: its own memory, or the repeat of another's."""
    start, stop = memory.get("start"), memory.get("stop")
    if not (isinstance(start, int) and isinstance(stop, int)):
        raise InputError("a memory needs its start and stop in the message")
    if not 0 <= start < stop <= len(message.content):
        raise InputError(f"a memory lies outside its message: {start} to {stop}")
    kept = None if "repeats" in memory else _kept(message, memory)
    return make_passage(message, start, stop, kept)


def _kept(message: Message, memory: Any) -> MemoryRecord:
    key = from_id(require_id(memory.get("id")))
    status = memory.get("status", "current")
    if status not in get_args(Status):
        raise InputError(f"unknown status {shown(status)}; known are {', '.join(get_args(Status))}")

    def moment(name: str) -> datetime | None:
        return None if memory.get(name) is None else read_time(memory[name], name)

    return MemoryRecord(
        id=key,
        kind="episodic",
        text="",
        said_at=message.said_at,
        recorded_at=moment("recorded_at") or message.recorded_at,
        source="user",
        status=status,
        valid_from=moment("valid_from"),
        valid_to=moment("valid_to"),
        confidence=read_share(memory.get("confidence", 1.0), "confidence"),
        importance=read_share(memory.get("importance", 0.0), "importance"),
        pinned=memory.get("pinned") is True,
    )


def _without_taken_ids(handle: ScopedMemory, new: list[NewMessage]) -> list[NewMessage]:
    """Let go of memory ids that this scope has already: those memories get ids of their own."""
    ids = [p.kept.id for item in new for p in item.passages if p.kept is not None]
    taken = {key for key in ids if handle.get(key) is not None} if ids else set()
    seen: set[str] = set()
    freed: list[NewMessage] = []
    for item in new:
        passages = []
        for passage in item.passages:
            kept = passage.kept
            if kept is not None and (kept.id in taken or kept.id in seen):
                passage = make_passage(item.message, passage.start, passage.stop)
            elif kept is not None:
                seen.add(kept.id)
            passages.append(passage)
        freed.append(NewMessage(item.message, item.digest, tuple(passages), item.id_given))
    return freed
