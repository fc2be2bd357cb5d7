"""The parts that one open memory is made of, put together once and handed to its handles.

It decides nothing about memories; `writing` and `retrieval` do.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from time import monotonic

from mnemic.errors import BadVector, EmbedderError, EmbedderMismatch, InputError
from mnemic.forking import renew_in_child
from mnemic.inputs import kind_of
from mnemic.layers.flushing import Flusher
from mnemic.models.choose import choose_embedder
from mnemic.models.embedder import Embedder, identity_of
from mnemic.retrieval.cache import ResidentIndexes
from mnemic.retrieval.recall import Reader
from mnemic.settings import Settings, default_db
from mnemic.stores.database import Database, backend_of
from mnemic.stores.derived import DerivedRows
from mnemic.stores.facts import FactRows
from mnemic.stores.known import KnownEmbedder
from mnemic.stores.ledger import Ledger
from mnemic.stores.outbox import Outbox
from mnemic.stores.procedures import ProcedureRows
from mnemic.stores.sessions import SessionRows
from mnemic.stores.store import Store
from mnemic.stores.streaming import StreamRows
from mnemic.stores.turns import RecentTurns, open_link, turns_over
from mnemic.upkeep.jobs import Worker
from mnemic.upkeep.repair import mend_derived, mend_files
from mnemic.writing.forget import Eraser
from mnemic.writing.mend import mend_scope
from mnemic.writing.remember import Writer

# How often a process that is in use looks for what others left undone, in seconds.
UPKEEP_EVERY = 30.0


class Core:
    """One open store, its embedder and its resident indexes."""

    def __init__(
        self,
        target: str | os.PathLike[str] | None,
        embedder: Embedder | None,
        settings: Settings,
        short_term: str | None = None,
    ) -> None:
        if embedder is not None and not callable(getattr(embedder, "embed", None)):
            raise InputError(
                f"an embedder has `name`, `dimensions` and `embed`; {kind_of(embedder)} doesn't"
            )
        link = open_link(settings.short_term_url if short_term is None else short_term)
        self.embedder = choose_embedder(settings) if embedder is None else embedder
        self.database = Database(
            backend_of(settings.db or default_db() if target is None else target)
        )
        self.turns = turns_over(self.database, link)
        self.store = Store(self.database, copied=self.turns.copied)
        self.session_rows = SessionRows(self.database)
        self.fact_rows = FactRows(self.database)
        self.procedure_rows = ProcedureRows(self.database)
        self.stream_rows = StreamRows(self.database)
        self.derived = DerivedRows(self.database)
        self.ledger = Ledger(self.database)
        self.outbox = Outbox(self.database)
        self.indexes = ResidentIndexes(self.store, settings.resident_mb * 1_000_000)
        self._known: KnownEmbedder | None = None
        self._next_upkeep = 0.0
        self._lock = threading.Lock()
        self.flusher = Flusher(self.stream_rows)
        renew_in_child(self)
        # A memory that nobody closed gives its connections and threads back when nobody holds it.
        owned = self.embedder if embedder is None else None
        self._release = weakref.finalize(
            self, _release, self.database, self.indexes, self.flusher, self.turns, owned
        )

    def writer(self) -> Writer:
        """What a write needs; a new store takes on the embedder, another's refuses it."""
        known = self._find_known()
        if known is None:
            known = self._known = self._checked(self.ledger.adopt(*identity_of(self.embedder)))
        return self.writer_for(known)

    def reader(self) -> Reader | None:
        """What a question needs; None where nothing was ever written."""
        known = self._find_known()
        return None if known is None else Reader(self.store, self.indexes, self.embedder, known)

    def eraser(self) -> Eraser:
        """What an erasure needs."""
        return Eraser(self.store, self.ledger, self.outbox, self.turns)

    def writer_for(self, known: KnownEmbedder) -> Writer:
        """What a write needs, whose vectors are an embedder's as the store knows it."""
        return Writer(self.store, self.derived, self.outbox, self.embedder, known)

    def upkeep(self, *, now: bool = False, heal: bool = True, all: bool = False) -> None:
        """Finish what was left undone: erased bytes to remove, vectors to make, damage to mend.

        At most every `UPKEEP_EVERY` seconds, unless `now`. `all` takes jobs that another has leased, or
        that wait for a retry, too.
        """
        with self._lock:
            if not now and monotonic() < self._next_upkeep:
                return
            self._next_upkeep = monotonic() + UPKEEP_EVERY
        worker = Worker(self.outbox, all)
        # Erased bytes first: they are gone whether or not the embedder answers.
        worker.scrub(self.eraser())
        worker.drop_copies(self.turns)
        if heal and self._find_known() is not None:
            writer = self.writer()
            worker.recover(self.stream_rows, writer)
            worker.embed(writer)
            for scope in self.indexes.ailing():
                with suppress(BadVector):  # of one text; the others are mended
                    mend_scope(writer, scope)
                self.indexes.mended(scope)

    def upkeep_within(self, seconds: float) -> None:
        """Have a write look for what was left undone after so many seconds at the latest."""
        with self._lock:
            self._next_upkeep = min(self._next_upkeep, monotonic() + seconds)

    def repair(self, progress: Callable[[int], None] | None) -> list[str]:
        """Look for all that can be mended, and mend it; says what was done."""
        done = mend_files(self.ledger)
        self.upkeep(now=True, heal=False, all=True)  # whether or not the embedder answers
        if self._find_known() is not None:
            done += mend_derived(self.ledger, self.writer(), progress)
        self.upkeep(now=True, all=True)
        self.indexes.clear()
        return done

    def moved(self, known: KnownEmbedder) -> None:
        """Take note that the store has moved to the embedder at hand."""
        self._known = self._checked(known)
        self.indexes.clear()

    def close(self) -> None:
        """Give back connections, threads and memory, once calls under way are done."""
        self.flusher.close(wait=True)
        self._release()

    def renew(self) -> None:
        """Give a child process a lock of its own."""
        self._lock = threading.Lock()

    def _find_known(self) -> KnownEmbedder | None:
        """The store's embedder, which must be ours; None where nothing was ever written."""
        if self._known is None:
            found = self.ledger.embedder()
            self._known = None if found is None else self._checked(found)
        return self._known

    def _checked(self, known: KnownEmbedder) -> KnownEmbedder:
        try:
            mine = (self.embedder.name, self.embedder.dimensions)
        except EmbedderError:
            # A server that is away can't tell its dimensions; words are kept all the same.
            mine = (self.embedder.name, known.dimensions)
        if mine != (known.name, known.dimensions):
            raise EmbedderMismatch(
                f"this store holds vectors of {known.name} ({known.dimensions} dimensions), and"
                f" {mine[0]} ({mine[1]}) can't be mixed with them; open it with the former, or move"
                " it over with: mnemic reembed"
            )
        return known


def _release(
    database: Database,
    indexes: ResidentIndexes,
    flusher: Flusher,
    turns: RecentTurns,
    owned: Embedder | None,
) -> None:
    flusher.close()
    indexes.clear()
    database.close()
    turns.close()
    close = getattr(owned, "close", None)
    if close is not None:
        close()
