"""The flow of an erasure: rows in one transaction, then the bytes, then a look whether any is left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

from mnemic.errors import StoreError
from mnemic.records import Erasure, Scope
from mnemic.stores.erasing import MAX_SOUGHT, Erased
from mnemic.stores.ledger import Ledger
from mnemic.stores.outbox import Outbox
from mnemic.stores.store import Store
from mnemic.stores.turns import RecentTurns, session_digest


@dataclass(frozen=True, slots=True)
class Eraser:
    """What an erasure needs: the rows, and the say over the file's bytes and over copies elsewhere."""

    store: Store
    ledger: Ledger
    outbox: Outbox
    turns: RecentTurns

    def erase(self, scope: Scope, erase_rows: Callable[[], Erased]) -> Erasure:
        """Take the rows away, then their bytes; where a reader stands in the way, a job does it later."""
        start = perf_counter()
        erased = erase_rows()
        rows_ms = (perf_counter() - start) * 1000
        if not erased.messages and not erased.memories:
            return Erasure("absent", timings_ms={"rows": rows_ms})
        clean = self._drop_copies(scope, erased)
        if self._scrub(erased):
            if erased.job is not None:
                self.outbox.finish(scope.key, erased.job)
        else:
            clean = False
        spent = {"rows": rows_ms, "bytes": (perf_counter() - start) * 1000 - rows_ms}
        return Erasure("clean" if clean else "pending", erased.messages, erased.memories, spent)

    def rewrite(self) -> bool:
        """Remove the bytes of erasures whose text is no longer known; False where a reader holds them."""
        # Where a reader stands in the way, writing the file anew would be for nothing.
        return self.ledger.truncate_log() and self.ledger.rewrite()

    def _drop_copies(self, scope: Scope, erased: Erased) -> bool:
        if erased.copies is None:
            return True
        digests = [session_digest(scope.key, name) for name in erased.sessions]
        gone = self.turns.drop(scope.key, digests)
        if gone:
            self.outbox.finish(scope.key, erased.copies)
        return gone

    def _scrub(self, erased: Erased) -> bool:
        try:
            return self._are_gone(erased)
        except StoreError:
            return False  # the rows are gone; the job says what was in the way of their bytes

    def _are_gone(self, erased: Erased) -> bool:
        if not self.ledger.truncate_log():
            return False
        # SQLite zeroes what it deletes, but not the copies that stay behind when it moves cells
        # between pages; they are rare, and a new file has none.
        if erased.size <= MAX_SOUGHT and not self.ledger.left_over(erased.texts):
            return True
        return self.ledger.rewrite()
