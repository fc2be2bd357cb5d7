"""The resident indexes of all scopes in this process, kept within a number of bytes.

Each asks the store for what changed before it answers, so that a write made anywhere is seen, and a
forgotten memory is not.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field

from mnemic.forking import renew_in_child
from mnemic.records import Scope
from mnemic.retrieval.damage import without_damage
from mnemic.retrieval.index import Index, apply, load
from mnemic.stores.known import KnownEmbedder
from mnemic.stores.rows import IndexRows
from mnemic.stores.store import Store

# How many memories that wait for their vectors are looked after at one question.
MAX_WAITING = 1_000
# How many scopes with something to mend are remembered at a time.
MAX_AILING = 1_000
# What an index takes beside its arrays, about.
SLOT_BYTES = 8_192


@dataclass(slots=True)
class _Slot:
    lock: threading.Lock = field(default_factory=threading.Lock)
    index: Index | None = None


class ResidentIndexes:
    """Indexes by scope; the least recently asked one goes first when they outgrow `max_bytes`."""

    def __init__(self, store: Store, max_bytes: int) -> None:
        self._store = store
        self._max_bytes = max_bytes
        self._slots: OrderedDict[bytes, _Slot] = OrderedDict()
        self._ailing: set[Scope] = set()
        self._lock = threading.Lock()
        renew_in_child(self)

    def current(self, scope: Scope, embedder: KnownEmbedder) -> Index:
        """The scope's index, with every write committed before this call."""
        with self._lock:
            slot = self._slots.setdefault(scope.key, _Slot())
            self._slots.move_to_end(scope.key)
        with slot.lock:
            before = slot.index
            index = slot.index = self._refreshed(scope, embedder, before)
        if not len(index):
            # Whoever asks for unknown users must not fill the memory with their names.
            with self._lock:
                self._slots.pop(scope.key, None)
        elif index is not before:
            self._evict(keep=scope.key)
        return index

    def nbytes(self) -> int:
        """Bytes held by all indexes."""
        with self._lock:
            return sum(
                s.index.nbytes + SLOT_BYTES for s in self._slots.values() if s.index is not None
            )

    def ailing(self) -> list[Scope]:
        """Scopes that were found to hold damaged or outdated vectors or terms."""
        with self._lock:
            return sorted(self._ailing, key=str)

    def mended(self, scope: Scope) -> None:
        """Take note that a scope was mended."""
        with self._lock:
            self._ailing.discard(scope)

    def clear(self) -> None:
        """Drop every index."""
        with self._lock:
            self._slots.clear()

    def renew(self) -> None:
        """Keep the indexes in a child process, under locks of its own."""
        self._lock = threading.Lock()
        self._slots = OrderedDict(
            (key, _Slot(index=slot.index)) for key, slot in self._slots.items()
        )

    def _refreshed(self, scope: Scope, embedder: KnownEmbedder, old: Index | None) -> Index:
        if old is not None and old.embedder != embedder.number:
            old = None
        rows = self._store.index_rows(scope, embedder, None if old is None else old.stand)
        if old is None or (rows is not None and rows.full):
            assert rows is not None  # a scope is read whole where nothing is known of it
            return load(self._sound(scope, embedder, rows), embedder.number, embedder.dimensions)
        index = old if rows is None else apply(old, self._sound(scope, embedder, rows))
        waiting = old.ids_without_vector(MAX_WAITING)
        if waiting:
            # Vectors come in a second transaction, which is no change of what was said.
            late = self._store.rows_by_id(scope, embedder, index.stand, waiting)
            late = self._sound(scope, embedder, late)
            if any(vector is not None for vector in late.columns["vector"]):
                index = apply(index, late)
        return index

    def _sound(self, scope: Scope, embedder: KnownEmbedder, rows: IndexRows) -> IndexRows:
        """The rows without what is damaged; the scope is noted where there is something to mend."""
        rows, ailing = without_damage(rows, embedder.dimensions)
        if ailing:
            with self._lock:
                if len(self._ailing) < MAX_AILING:
                    self._ailing.add(scope)
        return rows

    def _evict(self, keep: bytes) -> None:
        with self._lock:
            held = {
                key: slot.index.nbytes + SLOT_BYTES
                for key, slot in self._slots.items()
                if slot.index is not None
            }
            total = sum(held.values())
            for key in list(self._slots):
                if total <= self._max_bytes:
                    return
                if key != keep:
                    total -= held.get(key, 0)
                    del self._slots[key]
