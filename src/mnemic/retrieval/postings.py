"""The words of one scope as a sparse matrix, and BM25 over it with the scope's own statistics.

Arrays are never changed in place: a search that runs while new rows come in sees its own moment.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Robertson's usual k1; a low b, since turns are short and a longer one is rarely less to the point.
K1 = 1.2
B = 0.5
_TAIL = 4096

Hashes = NDArray[np.uint64]
Rows = NDArray[np.intp]
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Postings:
    """Which rows hold which terms, how often.

    `vocabulary` is sorted; the postings of its i-th term are `rows[starts[i]:starts[i + 1]]`. What came
    since stands in the tail, in order of arrival. `lengths` counts the terms of each row.
    """

    vocabulary: Hashes
    starts: NDArray[np.int64]
    rows: Rows
    counts: Floats
    tail_hashes: Hashes
    tail_rows: Rows
    tail_counts: Floats
    lengths: Floats

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(
            array.nbytes
            for array in (
                self.vocabulary,
                self.starts,
                self.rows,
                self.counts,
                self.tail_hashes,
                self.tail_rows,
                self.tail_counts,
                self.lengths,
            )
        )

    def of_term(self, term: int) -> tuple[Rows, Floats]:
        """The rows that hold a term, and how often each does."""
        hashed = np.uint64(term)
        at = int(np.searchsorted(self.vocabulary, hashed))
        if at < len(self.vocabulary) and self.vocabulary[at] == hashed:
            span = slice(self.starts[at], self.starts[at + 1])
            rows, counts = self.rows[span], self.counts[span]
        else:
            rows, counts = self.rows[:0], self.counts[:0]
        if len(self.tail_hashes):
            late = np.flatnonzero(self.tail_hashes == hashed)
            if len(late):
                rows = np.concatenate((rows, self.tail_rows[late]))
                counts = np.concatenate((counts, self.tail_counts[late]))
        return rows, counts


def build(
    hashes: Sequence[bytes | None], counts: Sequence[bytes | None], lengths: Sequence[int | None]
) -> Postings:
    """Build postings from the stored terms of each row."""
    flat, rows, numbers = _flatten(hashes, counts, 0)
    return _sorted(flat, rows, numbers, np.array([n or 0 for n in lengths], dtype=np.float32))


def extend(
    old: Postings,
    hashes: Sequence[bytes | None],
    counts: Sequence[bytes | None],
    lengths: Sequence[int | None],
) -> Postings:
    """Postings with further rows at the end."""
    flat, rows, numbers = _flatten(hashes, counts, len(old.lengths))
    all_lengths = np.concatenate(
        (old.lengths, np.array([n or 0 for n in lengths], dtype=np.float32))
    )
    tail = (
        np.concatenate((old.tail_hashes, flat)),
        np.concatenate((old.tail_rows, rows)),
        np.concatenate((old.tail_counts, numbers)),
    )
    if len(tail[0]) <= max(_TAIL, len(old.rows) // 16):
        return Postings(old.vocabulary, old.starts, old.rows, old.counts, *tail, all_lengths)
    flat, rows, numbers = _unsorted(old)
    return _sorted(
        np.concatenate((flat, tail[0][len(old.tail_hashes) :])),
        np.concatenate((rows, tail[1][len(old.tail_rows) :])),
        np.concatenate((numbers, tail[2][len(old.tail_counts) :])),
        all_lengths,
    )


def keep(old: Postings, kept: NDArray[np.bool_]) -> Postings:
    """Postings of the kept rows only, renumbered."""
    flat, rows, numbers = _unsorted(old)
    stay = kept[rows]
    number = np.cumsum(kept, dtype=np.intp) - 1
    return _sorted(flat[stay], number[rows[stay]], numbers[stay], old.lengths[kept])


def bm25(postings: Postings, terms: Sequence[int]) -> Floats:
    """Score every row for the terms: shape `(rows,)`, zero where no term occurs.

    IDF is Lucene's, which is never negative.
    """
    total = len(postings.lengths)
    found = [postings.of_term(term) for term in terms]
    found = [(rows, counts) for rows, counts in found if len(rows)]
    if not found:
        return np.zeros(total, dtype=np.float32)
    sizes = [len(rows) for rows, _ in found]
    weights = [(K1 + 1) * math.log1p((total - size + 0.5) / (size + 0.5)) for size in sizes]
    rows = np.concatenate([rows for rows, _ in found])
    counts = np.concatenate([counts for _, counts in found])
    average = max(float(postings.lengths.sum(dtype=np.float64)) / total, 1.0)
    damped = postings.lengths[rows] * np.float32(K1 * B / average)
    damped += np.float32(K1 * (1 - B))
    damped += counts
    gains = np.repeat(np.array(weights, dtype=np.float32), sizes) * counts / damped
    return np.bincount(rows, weights=gains, minlength=total).astype(np.float32)


def _flatten(
    hashes: Sequence[bytes | None], counts: Sequence[bytes | None], first: int
) -> tuple[Hashes, Rows, Floats]:
    sizes = np.array([len(h or b"") // 8 for h in hashes], dtype=np.int64)
    flat = np.frombuffer(b"".join(h or b"" for h in hashes), dtype="<u8").astype(np.uint64)
    numbers = np.frombuffer(b"".join(c or b"" for c in counts), dtype="<u2").astype(np.float32)
    rows = np.repeat(np.arange(first, first + len(sizes), dtype=np.intp), sizes)
    return flat, rows, numbers


def _unsorted(old: Postings) -> tuple[Hashes, Rows, Floats]:
    flat = np.repeat(old.vocabulary, np.diff(old.starts))
    return (
        np.concatenate((flat, old.tail_hashes)),
        np.concatenate((old.rows, old.tail_rows)),
        np.concatenate((old.counts, old.tail_counts)),
    )


def _sorted(flat: Hashes, rows: Rows, numbers: Floats, lengths: Floats) -> Postings:
    order = np.argsort(flat, kind="stable")
    flat = flat[order]
    vocabulary, first = np.unique(flat, return_index=True)
    starts = np.append(first, len(flat)).astype(np.int64)
    none = np.zeros(0, dtype=np.uint64)
    return Postings(
        vocabulary,
        starts,
        rows[order],
        numbers[order],
        none,
        np.zeros(0, dtype=np.intp),
        np.zeros(0, dtype=np.float32),
        lengths,
    )
