"""The door: `Memory`, the handles it gives out, and the operator's view.

Each method is a table of contents; the steps live in `writing`, `retrieval` and `stores`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Connection

from mnemic.context.ask import DEFAULT_BUDGET, read_wanted
from mnemic.context.assemble import Assembler
from mnemic.context.result import Context
from mnemic.core import Core
from mnemic.errors import InputError
from mnemic.inputs import check_progress, read_name, read_zone
from mnemic.layers.facts import Facts
from mnemic.layers.procedural import Procedures
from mnemic.layers.sensory import stream
from mnemic.layers.tending import erase, look_after
from mnemic.models.embedder import Embedder
from mnemic.records import (
    DEFAULT_TENANT,
    Backup,
    Change,
    Erasure,
    Finding,
    Kind,
    MemoryRecord,
    Recall,
    Receipt,
    Restored,
    Scope,
    ScopeKind,
    Session,
    StoreStats,
)
from mnemic.retrieval.ask import MAX_LIMIT, read_question, read_whole
from mnemic.settings import Settings, default_db, from_environment, read_settings
from mnemic.stores import erasing
from mnemic.stores.erasing import Erased
from mnemic.stores.rows import SaidMessage, require_id, to_id, zone_of
from mnemic.timing import Timer
from mnemic.upkeep.doctor import check
from mnemic.upkeep.restoring import file_of, restore
from mnemic.writing.messages import RememberInput, read_input
from mnemic.writing.passages import make_passage
from mnemic.writing.reembed import reembed
from mnemic.writing.remember import Writer

_PAGE = 500


class Memory:
    """An open store of memories. Use it in a `with` block, or `close()` it.

    `target` is a file's path or an SQLAlchemy URL; without one, MNEMIC_DB, or `memory.db` in the user's
    data directory. `embedder` is the bundled model unless given. `short_term` is the URL of a Redis or
    Valkey where hosts share the recent turns of sessions. One object serves any number of threads.
    Raises `StoreUnreadable`, `StoreTooNew` or `StoreBusy` where the file can't be opened.
    """

    def __init__(
        self,
        target: str | os.PathLike[str] | None = None,
        *,
        embedder: Embedder | None = None,
        settings: Settings | None = None,
        short_term: str | None = None,
    ) -> None:
        self._core = Core(target, embedder, read_settings(settings), short_term)

    @staticmethod
    def restore(
        backup: str | os.PathLike[str],
        target: str | os.PathLike[str] | None = None,
        *,
        replace: bool = False,
    ) -> Restored:
        """Put a backup in the place of a store, in one transaction; `replace` allows one to be there.

        Processes that have it open go on with what was restored. What was forgotten after the backup
        was taken is back. Raises `InputError` or `StoreError`, and then nothing was changed.
        """
        place = from_environment().db or default_db() if target is None else target
        return restore(backup, place, replace=replace)

    def user(self, name: str) -> ScopedMemory:
        """The memory of one user, which nobody else's handle can see."""
        return Tenant(self._core, DEFAULT_TENANT).user(name)

    def agent(self, name: str) -> ScopedMemory:
        """The memory of one agent."""
        return Tenant(self._core, DEFAULT_TENANT).agent(name)

    def shared(self, name: str) -> ScopedMemory:
        """A space that several users or agents are given a handle to."""
        return Tenant(self._core, DEFAULT_TENANT).shared(name)

    def tenant(self, name: str) -> Tenant:
        """A customer of yours: the same user name in two tenants is two users."""
        return Tenant(self._core, read_name(name, "tenant"))

    @property
    def operator(self) -> Operator:
        """What concerns all scopes at once: ids, states and counts, never text."""
        return Operator(self._core)

    def close(self) -> None:
        """Give back every connection. What was acknowledged is on disk already."""
        self._core.close()

    def __enter__(self) -> Self:
        self._core.database.require_open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Tenant:
    """The users, agents and shared spaces of one tenant."""

    def __init__(self, core: Core, name: str) -> None:
        self._core = core
        self.name = name

    def user(self, name: str) -> ScopedMemory:
        """The memory of one user of this tenant."""
        return self._scoped("user", name)

    def agent(self, name: str) -> ScopedMemory:
        """The memory of one agent of this tenant."""
        return self._scoped("agent", name)

    def shared(self, name: str) -> ScopedMemory:
        """A shared space of this tenant."""
        return self._scoped("shared", name)

    def _scoped(self, kind: ScopeKind, name: str) -> ScopedMemory:
        return ScopedMemory(self._core, Scope(self.name, kind, read_name(name, kind)))


class ScopedMemory:
    """The memory of one user, agent or shared space. Nothing here reaches beyond its scope."""

    def __init__(self, core: Core, scope: Scope) -> None:
        self._core = core
        self.scope = scope
        self.facts = Facts(core, scope)
        self.procedures = Procedures(core, scope)

    def remember(self, said: RememberInput, *, session: str | None = None) -> Receipt:
        """Commit what was said: a string, a message, or a list of them, all or nothing.

        A message is `{"role", "content"}` with, where you have them, `name`, `id` (yours, unique in the
        session), `said_at` (or `at`), `metadata`, `tags` and `expires_at`. On disk when this returns,
        and seen by the next `recall` of any process. Raises `InputError` or `IdConflict`, and then
        nothing was changed.
        """
        timer = Timer()
        with timer.step("read"):
            read = read_input(said, session, datetime.now(UTC))
        receipt = self._core.writer().remember(self.scope, read, timer)
        # An embedder that has just failed isn't asked for others' vectors too.
        self._upkeep(heal=receipt.error is None)
        return receipt

    def recall(
        self,
        question: str,
        *,
        limit: int = 10,
        at: datetime | str | None = None,
        budget: int | None = None,
        kinds: Sequence[Kind] | None = None,
        since: datetime | str | None = None,
        until: datetime | str | None = None,
        in_session: str | None = None,
        where: Mapping[str, Any] | None = None,
        tags: Sequence[str] = (),
        diversity: float = 0.0,
        min_relevance: float | None = None,
    ) -> Recall:
        """Find the memories that answer a question, best first.

        `at` is when the question is asked (now): it anchors words such as "last May" and never filters.
        `budget` bounds the tokens (o200k) of `Recall.text`. `kinds`, `since` (inclusive), `until`
        (exclusive), `in_session`, `where` (metadata; a list means any of) and `tags` (all of them)
        narrow. `diversity` above 0, up to 1, prefers hits that differ (MMR). What is less likely than
        `min_relevance` to be evidence is left out, by default relative to the others (docs/recall.md).
        """
        narrowed = {
            "limit": limit,
            "at": at,
            "budget": budget,
            "kinds": kinds,
            "since": since,
            "until": until,
            "in_session": in_session,
            "where": where,
            "tags": tags,
            "diversity": diversity,
            "min_relevance": min_relevance,
        }
        asked = read_question(question, narrowed)
        reader = self._core.reader()
        if reader is None:
            return Recall(question, (), tokens=0)
        return reader.recall(self.scope, asked)

    stream = stream  # a model's reply, remembered as it arrives

    def context(
        self,
        query: str,
        *,
        session: str | None = None,
        agent: str | None = None,
        shared: Sequence[str] = (),
        budget: int = DEFAULT_BUDGET,
        prompt: str = "",
        at: datetime | str | None = None,
        counter: str | Callable[[str], int] = "o200k_base",
    ) -> Context:
        """Assemble the messages to send to a model for what the user says now; stores nothing.

        `session` is the conversation that goes on, `prompt` the system prompt. The instructions of
        `agent`, of the `shared` spaces and of this scope apply. What is sent has at most `budget` tokens
        by `counter`: o200k_base, cl100k_base, or a function from a text to its tokens. Raises
        `BudgetTooSmall` where the prompt, the standing instructions and the query alone have more.
        """
        given = {
            "session": session,
            "agent": agent,
            "shared": shared,
            "budget": budget,
            "prompt": prompt,
            "at": at,
            "counter": counter,
        }
        return Assembler(self._core, self.scope).context(read_wanted(query, self.scope, given))

    def get(self, id: str) -> MemoryRecord | None:
        """The memory of an id; None where this scope has none (any more)."""
        key = to_id(id)
        return None if key is None else self._core.store.find_records(self.scope, [key]).get(key)

    def iter_memories(self) -> Iterator[MemoryRecord]:
        """Every memory of this scope in the order of recording, read a page at a time."""
        after = b""
        while page := self._core.store.record_page(self.scope, after, _PAGE):
            yield from (record for _, record in page)
            after = page[-1][0]

    def history(self, id: str) -> list[Change]:
        """What happened to a memory, oldest first; also after it was forgotten. It holds no text."""
        return self._core.store.history(self.scope, require_id(id))

    def pin(self, id: str) -> bool:
        """Keep a memory from ever being pruned; False where there is no such memory."""
        return self._core.store.set_pinned(self.scope, require_id(id), True)

    def unpin(self, id: str) -> bool:
        """Take the pin off; False where there is no such memory."""
        return self._core.store.set_pinned(self.scope, require_id(id), False)

    def forget(
        self, id: str | None = None, *, message_id: str | None = None, session: str | None = None
    ) -> Erasure:
        """Erase a memory, or a message by your own id of it: text, vectors, terms, all its passages.

        Forgetting a memory forgets every message that says it; a fact or a version of an instruction
        that no message says goes alone. `session` says which message is meant where several sessions use
        the id; without it that raises `AmbiguousMessage`.
        """
        if (id is None) == (message_id is None):
            raise InputError("forget takes a memory's id, or message_id=, one of them")
        scope = self.scope
        if id is not None:
            if session is not None:
                raise InputError("session goes with message_id; a memory's id stands alone")
            key = require_id(id)
            store = self._core.store
            return self._scrubbed(lambda: store.erase_memory(scope, key, make_passage))
        named = read_name(message_id, "message_id")
        place = None if session is None else read_name(session, "session")
        return self._erase(lambda c: erasing.messages_named(c, scope, named, place))

    def forget_session(self, session: str) -> Erasure:
        """Erase every message of a session, with all that only they say."""
        name, scope = read_name(session, "session"), self.scope
        return self._erase(lambda c: erasing.messages_in_session(c, scope, name))

    def forget_everything(self) -> Erasure:
        """Erase all that this scope holds, its name in the store too."""
        store, scope = self._core.store, self.scope
        return self._scrubbed(lambda: store.erase_everything(scope))

    def sessions(self, limit: int = 100) -> list[Session]:
        """List this scope's conversations, the one last spoken in first; what has none has the name ""."""
        return self._core.session_rows.sessions(self.scope, read_whole(limit, "limit", MAX_LIMIT))

    def set_timezone(self, name: str | None) -> None:
        """Say in which time zone "yesterday" and a date are meant here: an IANA name, None for UTC."""
        zone = None if name is None else read_zone(name, "the time zone").key
        self._core.session_rows.set_timezone(self.scope, zone)

    def timezone(self) -> str:
        """The IANA name of the time zone in which dates are meant here."""
        return str(zone_of(self._core.session_rows.settings(self.scope)))

    def _writer(self) -> Writer:
        return self._core.writer()

    def _message_page(self, after: int, limit: int) -> list[SaidMessage]:
        return self._core.store.message_page(self.scope, after, limit)

    def _erase(self, chosen: Callable[[Connection], Sequence[bytes]]) -> Erasure:
        store, scope = self._core.store, self.scope
        return self._scrubbed(lambda: store.erase(scope, chosen, make_passage))

    def _scrubbed(self, erase_rows: Callable[[], Erased]) -> Erasure:
        return erase(self._core, self.scope, erase_rows)

    def _upkeep(self, *, now: bool = False, heal: bool = True) -> None:
        look_after(self._core, now=now, heal=heal)


class Operator:
    """What concerns all scopes at once. It sees ids, states and counts, never text."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def stats(self) -> StoreStats:
        """Count what the store holds, by scope."""
        return self._core.ledger.stats()

    def scopes(self) -> list[Scope]:
        """Every scope that holds something."""
        return self._core.ledger.scopes()

    def reembed(self, progress: Callable[[int], None] | None = None) -> int:
        """Move the store over to this memory's embedder; returns how many vectors were made.

        Interrupted, it goes on where it was when called again; until it is done, the old vectors
        answer. `progress(done)` is called after each batch.
        """
        check_progress(progress)
        core = self._core
        known, made = reembed(core.ledger, core.writer_for, core.embedder, progress)
        core.moved(known)
        return made

    def backup(
        self,
        path: str | os.PathLike[str],
        progress: Callable[[int, int], None] | None = None,
        *,
        replace: bool = False,
    ) -> Backup:
        """Copy one moment of the store to a new file while others write; whole or not at all.

        `replace` allows an older backup to be there. `progress(bytes, of)` is called now and then.
        """
        check_progress(progress)
        file = file_of(path, "backup")
        size = self._core.ledger.copy_to(file, replace, progress)
        return Backup(str(file), size)

    def check(self) -> list[Finding]:
        """Look at the file, the model, and what is left undone; nothing is changed."""
        core = self._core
        return check(core.ledger, core.outbox, core.embedder, core.turns)

    def upkeep(self) -> StoreStats:
        """Finish what was left undone (vectors to make, erased bytes to remove), and count again."""
        self._core.upkeep(now=True, all=True)
        return self.stats()

    def repair(self, progress: Callable[[int], None] | None = None) -> list[str]:
        """Mend what can be: damaged indexes of the file, vectors and terms that are missing or unusable.

        Says what was done, a line each. Text is never touched: where that is damaged, restore a backup.
        `progress(done)` is called after each batch.
        """
        check_progress(progress)
        return self._core.repair(progress)
