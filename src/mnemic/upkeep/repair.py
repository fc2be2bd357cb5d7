"""Mending a store: all that can be made again is, where it is missing or can't be used.

What people said can't be made again, and is never touched here.
"""

from __future__ import annotations

from collections.abc import Callable

from mnemic.errors import StoreUnreadable
from mnemic.stores.ledger import Ledger
from mnemic.writing.mend import mend_scope
from mnemic.writing.remember import Writer


def mend_files(ledger: Ledger) -> list[str]:
    """Mend what the database itself finds wrong; says what was done, a line each."""
    if not ledger.damage():
        return []
    ledger.reindex()
    if damage := ledger.damage():
        raise StoreUnreadable(
            f"the file is damaged beyond its indexes: {damage[0]}; restore a backup"
        )
    return ["the file's indexes were damaged, and were made anew"]


def mend_derived(
    ledger: Ledger, writer: Writer, progress: Callable[[int], None] | None
) -> list[str]:
    """Make terms and vectors where there are none of use; says what was done, a line each."""
    done: list[str] = []
    words, vectors = 0, 0
    for scope in ledger.scopes():
        mended = mend_scope(writer, scope, progress, codes=True)
        words, vectors = words + mended[0], vectors + mended[1]
    if words:
        done.append(f"words of memories counted anew: {words:,}")
    if vectors:
        done.append(f"vectors made: {vectors:,}")
    return done
