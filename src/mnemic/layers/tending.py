"""What follows a write: upkeep now and then, and after an erasure a look whether its bytes are gone."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from mnemic.errors import EmbedderError, StoreError
from mnemic.layers.parts import Parts
from mnemic.records import Erasure, Scope
from mnemic.stores.erasing import Erased
from mnemic.stores.store import SCRUB_GRACE_MICROS


def look_after(parts: Parts, *, now: bool = False, heal: bool = True) -> None:
    """Finish what was left undone, now and then, or `now`; `heal` asks the embedder too."""
    # What failed here is still in the outbox, and the caller's own write is done.
    with suppress(EmbedderError, StoreError):
        parts.upkeep(now=now, heal=heal)


def erase(parts: Parts, scope: Scope, erase_rows: Callable[[], Erased]) -> Erasure:
    """Take rows away, then their bytes, now or as soon as no reader holds the file."""
    erasure = parts.eraser().erase(scope, erase_rows)
    look_after(parts, now=erasure.state != "absent")
    if erasure.state == "pending":
        parts.upkeep_within(SCRUB_GRACE_MICROS / 1e6)
    return erasure
