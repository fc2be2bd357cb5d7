"""Moving a store to another embedder: scope by scope, resumable, the old vectors answering meanwhile."""

from __future__ import annotations

from collections.abc import Callable

from mnemic.errors import StoreBusy
from mnemic.models.embedder import Embedder, identity_of
from mnemic.stores.known import KnownEmbedder
from mnemic.stores.ledger import Ledger
from mnemic.writing.mend import fill_vectors
from mnemic.writing.remember import Writer

# Writers go on while a store moves; each round embeds what came since. More than this never settles.
MAX_ROUNDS = 100


def reembed(
    ledger: Ledger,
    writer_for: Callable[[KnownEmbedder], Writer],
    embedder: Embedder,
    progress: Callable[[int], None] | None = None,
) -> tuple[KnownEmbedder, int]:
    """Make every vector anew and switch over; returns the embedder as known, and how many were made."""
    current = ledger.embedder()
    if current is None:
        return ledger.adopt(*identity_of(embedder)), 0
    if (current.name, current.dimensions) == identity_of(embedder):
        return current, _fill(ledger, writer_for(current), progress, 0)
    target = ledger.start_move(*identity_of(embedder))
    writer = writer_for(target)
    made = 0
    for _ in range(MAX_ROUNDS):
        made = _fill(ledger, writer, progress, made)
        if ledger.finish_move(target):
            return target, made
    raise StoreBusy("others write faster than vectors are made; stop them and run reembed again")


def _fill(ledger: Ledger, writer: Writer, progress: Callable[[int], None] | None, made: int) -> int:
    for scope in ledger.scopes():
        made = fill_vectors(writer, scope, progress, made)
    return made
