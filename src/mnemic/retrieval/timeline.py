"""What was said when: the episodes of an index in the order of time. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from mnemic.records import KINDS
from mnemic.retrieval.index import Index
from mnemic.stores.rows import to_micros

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time, `until` not in it, and the session if only one is meant."""

    since: datetime | None = None
    until: datetime | None = None
    session: str | None = None


def episodes(index: Index, span: Span, now: int) -> Rows:
    """The rows of what was said in a span and hasn't expired, in the order of time.

    What was said several times comes once, where it was first said in the span.
    """
    at = _places(index, span, now)
    return _each_once(index.places.row[_in_order(index, at)])


def last_episodes(index: Index, span: Span, now: int, most: int) -> Rows:
    """The last `most` of them, each where it was last said; they too are in the order of time."""
    at = _places(index, span, now)
    said_at, count = index.places.said_at[at], most
    while True:
        # The latest places alone are put in order; repeats among them make way for more.
        late = at
        if count < len(at):
            late = at[said_at >= np.partition(said_at, len(at) - count)[len(at) - count]]
        rows = _each_once(index.places.row[_in_order(index, late)[::-1]])
        if len(rows) >= most or len(late) == len(at):
            return rows[:most][::-1]
        count *= 4


def _places(index: Index, span: Span, now: int) -> Rows:
    """The places in the span at which something was said that may be shown."""
    columns, places = index.columns, index.places
    shown = columns.current & (columns.expires_at > now)
    shown &= columns.kind == KINDS.index("episodic")
    there = shown[places.row]
    if span.session is not None:
        code = index.sessions.get(span.session)
        if code is None:
            return np.zeros(0, dtype=np.int64)
        there &= places.session == code
    if span.since is not None:
        there &= places.said_at >= to_micros(span.since)
    if span.until is not None:
        there &= places.said_at < to_micros(span.until)
    return np.flatnonzero(there)


def _in_order(index: Index, at: Rows) -> Rows:
    """Places by their time; those of one moment in the order in which they arrived."""
    order: Rows = at[np.lexsort((index.places.arrival[at], index.places.said_at[at]))]
    return order


def _each_once(rows: NDArray[np.int32]) -> Rows:
    _, first = np.unique(rows, return_index=True)
    return rows[np.sort(first)].astype(np.int64)
