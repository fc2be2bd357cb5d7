"""Moving a store to another embedder: scope by scope, resumable, the old vectors answering meanwhile."""

from __future__ import annotations

from collections.abc import Callable

from mnemic.errors import StoreBusy
from mnemic.models.embedder import Embedder
from mnemic.stores.known import KnownEmbedder
from mnemic.stores.ledger import Ledger
from mnemic.stores.store import Store
from mnemic.writing.remember import EMBED_BATCH, Writer

# Writers go on while a store moves; each round embeds what came since. More than this never settles.
MAX_ROUNDS = 100


def reembed(
    store: Store,
    ledger: Ledger,
    embedder: Embedder,
    progress: Callable[[int], None] | None = None,
) -> tuple[KnownEmbedder, int]:
    """Make every vector anew and switch over; returns the embedder as known, and how many were made."""
    current = ledger.embedder()
    if current is None:
        return ledger.adopt(embedder.name, embedder.dimensions), 0
    if (current.name, current.dimensions) == (embedder.name, embedder.dimensions):
        return current, _fill(store, ledger, Writer(store, ledger, embedder, current), progress, 0)
    target = ledger.start_move(embedder.name, embedder.dimensions)
    writer = Writer(store, ledger, embedder, target)
    made = 0
    for _ in range(MAX_ROUNDS):
        made = _fill(store, ledger, writer, progress, made)
        if ledger.finish_move(target):
            return target, made
    raise StoreBusy("others write faster than vectors are made; stop them and run reembed again")


def _fill(
    store: Store,
    ledger: Ledger,
    writer: Writer,
    progress: Callable[[int], None] | None,
    made: int,
) -> int:
    for scope in ledger.scopes():
        while batch := store.without_vector(scope, writer.known, EMBED_BATCH):
            writer.embed_records(scope, batch)
            made += len(batch)
            if progress is not None:
                progress(made)
    return made
