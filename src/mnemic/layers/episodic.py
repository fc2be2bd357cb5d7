"""Episodic memory: what was said, found by likeness or by time. It holds nothing of its own."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Unpack

import numpy as np

from mnemic.errors import InputError
from mnemic.inputs import read_name
from mnemic.layers.asking import Narrowing, ask
from mnemic.layers.parts import Handle
from mnemic.records import MemoryRecord, Recall, Receipt
from mnemic.retrieval import timeline
from mnemic.retrieval.ask import MAX_LIMIT, read_moment, read_whole
from mnemic.retrieval.index import Index
from mnemic.retrieval.timeline import Rows, Span
from mnemic.stores.rows import now_micros
from mnemic.writing.messages import RememberInput

_PAGE = 500


class EpisodicMemory:
    """What was said to one user, agent or shared space, given its handle.

    An episode is a memory of the kind `episodic`: a passage of a message, to the letter. What is found by
    time comes from the resident index, which recall keeps as well: no page is read that isn't shown.
    """

    def __init__(self, handle: Handle) -> None:
        self._handle = handle

    def remember(self, said: RememberInput, *, session: str | None = None) -> Receipt:
        """Commit what was said, as the handle's `remember` does."""
        return self._handle.remember(said, session=session)

    def recall(
        self,
        question: str,
        *,
        limit: int = 10,
        in_session: str | None = None,
        **narrowed: Unpack[Narrowing],
    ) -> Recall:
        """Find the episodes that answer a question, best first; narrowed as the handle's `recall` is."""
        by = {"kinds": ["episodic"], "limit": limit, "in_session": in_session}
        return ask(self._handle._core, self._handle.scope, question, narrowed, **by)

    def between(
        self,
        since: datetime | str | None = None,
        until: datetime | str | None = None,
        *,
        limit: int = 100,
        in_session: str | None = None,
    ) -> list[MemoryRecord]:
        """The first episodes from `since` on and before `until`, in the order of time."""
        limit = read_whole(limit, "limit", MAX_LIMIT)
        index, rows = self._rows(_read_span(since, until, in_session))
        return list(self._load(index, rows[:limit]))

    def recent(self, limit: int = 20, *, in_session: str | None = None) -> list[MemoryRecord]:
        """The last episodes, in the order of time: the newest comes last."""
        limit = read_whole(limit, "limit", MAX_LIMIT)
        index, rows = self._rows(_read_span(None, None, in_session), limit)
        return list(self._load(index, rows))

    def iter_episodes(
        self,
        since: datetime | str | None = None,
        until: datetime | str | None = None,
        *,
        in_session: str | None = None,
    ) -> Iterator[MemoryRecord]:
        """Every episode from `since` on and before `until`, in the order of time, a page at a time.

        Which they are is settled at the call; what is forgotten meanwhile is left out. What was said
        several times comes once, where it was first said in that time.
        """
        return self._load(*self._rows(_read_span(since, until, in_session)))

    def _rows(self, span: Span, last: int | None = None) -> tuple[Index | None, Rows]:
        """The rows of a span, or the last of them, in the index as it is now; none in a new store."""
        reader = self._handle._core.reader()
        if reader is None:
            return None, np.zeros(0, dtype=np.int64)
        index, now = reader.indexes.current(self._handle.scope, reader.known), now_micros()
        if last is None:
            return index, timeline.episodes(index, span, now)
        return index, timeline.last_episodes(index, span, now, last)

    def _load(self, index: Index | None, rows: Rows) -> Iterator[MemoryRecord]:
        if index is None:
            return
        for at in range(0, len(rows), _PAGE):
            keys = [index.id_of(int(row)) for row in rows[at : at + _PAGE]]
            found = self._handle._core.store.find_records(self._handle.scope, keys)
            yield from (found[key] for key in keys if key in found)


def _read_span(
    since: datetime | str | None, until: datetime | str | None, session: str | None
) -> Span:
    first, last = read_moment(since, "since"), read_moment(until, "until")
    if first is not None and last is not None and first > last:
        raise InputError(f"since ({first.isoformat()}) lies after until ({last.isoformat()})")
    return Span(first, last, None if session is None else read_name(session, "in_session"))
