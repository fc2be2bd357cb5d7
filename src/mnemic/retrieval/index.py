"""The resident index of one scope: its vectors, its words, and where each memory was said.

It is a cache, made from rows and brought up to date from changes; it holds no text. A value: bringing
it up to date makes a new one that shares the large arrays, so that a search under way is undisturbed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnemic.records import KINDS
from mnemic.retrieval import postings as words
from mnemic.retrieval.postings import Postings
from mnemic.stores.rows import IndexRows, Stand

SOURCES = ("user", "assistant", "tool", "system", "document")
NEVER = np.iinfo(np.int64).max
_SEQ_BITS, _PASSAGE_BITS = 31, 13
_ARRIVAL = (1 << (_SEQ_BITS + _PASSAGE_BITS)) - 1

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Columns:
    """One value a row: codes of kind, source and speaker, times in microseconds."""

    ids: NDArray[np.uint64]  # (rows, 2): the 16 bytes of the id as two big-endian halves
    kind: NDArray[np.int8]
    source: NDArray[np.int8]
    speaker: NDArray[np.int32]
    said_at: NDArray[np.int64]
    expires_at: NDArray[np.int64]
    current: Mask
    has_vector: Mask
    check: NDArray[np.uint64]  # a sum over the row's terms, to tell whether its words changed

    def joined(self, other: Columns) -> Columns:
        """These rows, then those."""
        return self._each(lambda name: np.concatenate((getattr(self, name), getattr(other, name))))

    def kept(self, mask: Mask) -> Columns:
        """Only the rows of the mask."""
        return self._each(lambda name: getattr(self, name)[mask])

    def placed(self, at: NDArray[np.int64], other: Columns) -> Columns:
        """A copy in which the rows `at` have the values of `other`."""

        def put(name: str) -> Any:
            column = getattr(self, name).copy()
            column[at] = getattr(other, name)
            return column

        return self._each(put)

    def _each(self, make: Any) -> Columns:
        return Columns(*(make(name) for name in self.__slots__))


@dataclass(frozen=True, slots=True)
class Places:
    """Where memories were said, in the order of the conversation; a repeated memory has several.

    Sorted by `order`, which is session, then arrival, then passage. What follows from these is kept
    ready: `together[k - 1][i]` is 1 where places i and i + k are in one session, `plain` tells that
    place i is row i throughout; `of_row` is the place at which a row was said last. Passages belong to
    messages: `message` is a place's, `first` the place at which one begins, `stretch` the number of a
    message's session, and `opens` the message at which a session begins.
    """

    order: NDArray[np.int64]
    row: NDArray[np.int32]
    session: NDArray[np.int32]
    said_at: NDArray[np.int64]
    together: tuple[NDArray[np.float32], ...]
    plain: bool
    of_row: NDArray[np.int64]
    message: NDArray[np.int64]
    first: NDArray[np.int64]
    stretch: NDArray[np.int64]
    opens: NDArray[np.int64]

    @classmethod
    def of(cls, order: Any, row: Any, session: Any, said_at: Any) -> Places:
        """Make them of their sorted columns."""
        together = tuple(
            ((session[k:] == session[:-k]) & (session[k:] >= 0)).astype(np.float32) for k in (1, 2)
        )
        plain = bool((row == np.arange(len(row))).all())
        arrived = order & _ARRIVAL
        last = np.full(int(row.max(initial=-1)) + 1, -1, dtype=np.int64)
        np.maximum.at(last, row, arrived)
        of_row = np.zeros(len(last), dtype=np.int64)
        latest = np.flatnonzero(arrived == last[row])
        of_row[row[latest]] = latest
        message, first = _runs(order >> _PASSAGE_BITS)
        stretch, opens = _runs(session[first])
        return cls(
            order, row, session, said_at, together, plain, of_row, message, first, stretch, opens
        )

    @property
    def columns(self) -> tuple[NDArray[Any], ...]:
        """Order, row, session, time."""
        return self.order, self.row, self.session, self.said_at

    @property
    def arrival(self) -> NDArray[np.int64]:
        """What orders the places as they arrived, whatever their sessions."""
        arrived: NDArray[np.int64] = self.order & _ARRIVAL
        return arrived

    def merged(self, other: Places) -> Places:
        """Both, in order."""
        at = np.searchsorted(self.order, other.order)
        pairs = zip(self.columns, other.columns, strict=True)
        return Places.of(*(np.insert(mine, at, theirs) for mine, theirs in pairs))

    def kept(self, mask: Mask, number: NDArray[np.int32]) -> Places:
        """Only the places of the mask, their rows renumbered."""
        order, row, session, said_at = (column[mask] for column in self.columns)
        return Places.of(order, number[row], session, said_at)


def _runs(values: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The number of the run of equal values that each is in, and where each run begins.

    >>> [part.tolist() for part in _runs(np.array([7, 7, 3]))]
    [[0, 0, 1], [0, 2]]
    """
    begins = np.ones(len(values), dtype=np.bool_)
    begins[1:] = values[1:] != values[:-1]
    return np.cumsum(begins) - 1, np.flatnonzero(begins)


@dataclass(frozen=True, slots=True)
class Index:
    """One scope as it stood once. `vectors` may have room to spare: the first `len(index)` rows count."""

    stand: Stand
    embedder: int
    vectors: NDArray[np.float32]
    columns: Columns
    postings: Postings
    places: Places
    speakers: tuple[str, ...]
    sessions: dict[str, int]

    def __len__(self) -> int:
        return len(self.columns.kind)

    @property
    def matrix(self) -> NDArray[np.float32]:
        """The vectors, shape `(rows, dimensions)`."""
        return self.vectors[: len(self)]

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        arrays = [getattr(self.columns, n) for n in Columns.__slots__]
        places = self.places
        arrays += [*places.columns, *places.together, places.of_row, places.message]
        arrays += [places.first, places.stretch, places.opens]
        return int(self.vectors.nbytes + self.postings.nbytes + sum(a.nbytes for a in arrays))

    def id_of(self, row: int) -> bytes:
        """The id of a row."""
        return bytes(self.columns.ids[row].astype(">u8").tobytes())

    def ids_without_vector(self, most: int) -> list[bytes]:
        """Some of the rows whose vectors are not there yet."""
        rows = np.flatnonzero(~self.columns.has_vector)
        if len(rows) > most:
            # By chance, so that a few that never get one can't hide those that did.
            rows = np.random.default_rng().choice(rows, most, replace=False)
        return [self.id_of(int(row)) for row in rows]

    def rows_of(self, ids: Sequence[bytes]) -> NDArray[np.int64]:
        """The row of each id, -1 for one that isn't here."""
        keys = _id_halves(ids)
        mine = self.columns.ids
        if len(ids) <= 32:
            found = [np.flatnonzero((mine[:, 0] == a) & (mine[:, 1] == b)) for a, b in keys]
            return np.array([rows[0] if len(rows) else -1 for rows in found], dtype=np.int64)
        at = {tuple(pair): row for row, pair in enumerate(mine.tolist())}
        return np.array([at.get(tuple(pair), -1) for pair in keys.tolist()], dtype=np.int64)


def load(rows: IndexRows, embedder: int, dimensions: int) -> Index:
    """Make the index of a whole scope."""
    speakers: list[str] = []
    sessions: dict[str, int] = {}
    columns, vectors = _read(rows, dimensions, speakers)
    column = rows.columns
    return Index(
        stand=rows.stand,
        embedder=embedder,
        vectors=vectors,
        columns=columns,
        postings=words.build(column["hashes"], column["counts"], column["length"]),
        places=_read_places(rows, np.arange(len(rows)), sessions),
        speakers=tuple(speakers),
        sessions=sessions,
    )


def apply(old: Index, rows: IndexRows) -> Index:
    """Bring an index up to date with rows that changed, came or went."""
    speakers, sessions = list(old.speakers), dict(old.sessions)
    columns, vectors = _read(rows, old.vectors.shape[1], speakers)
    at = old.rows_of([bytes(key) for key in rows.columns["id"]])
    known = at >= 0
    same = np.zeros(len(rows), dtype=np.bool_)
    same[known] = old.columns.check[at[known]] == columns.check[known]
    gone = old.rows_of(rows.gone)
    # A row whose words changed is dropped and comes anew, like one that was never here.
    dropped = np.concatenate((gone[gone >= 0], at[known & ~same]))
    index = replace(_updated(old, at[same], columns.kept(same), vectors[same]), stand=rows.stand)
    stays = np.ones(len(old), dtype=np.bool_)
    stays[dropped] = False
    place_stays = stays.copy()
    place_stays[at[same]] = False
    index = _kept(index, stays, place_stays)
    number = np.full(len(rows), -1, dtype=np.int64)
    number[same] = (np.cumsum(stays) - 1)[at[same]]
    fresh = ~same
    number[fresh] = len(index) + np.arange(int(fresh.sum()))
    index = _appended(index, rows, fresh, columns.kept(fresh), vectors[fresh])
    places = index.places.merged(_read_places(rows, number, sessions))
    index = replace(index, places=places, speakers=tuple(speakers), sessions=sessions)
    return _without_strangers(index) if len(dropped) or known.any() else index


def _without_strangers(old: Index) -> Index:
    """Let go of the names of speakers none of whose words are left."""
    used = np.unique(old.columns.speaker[old.columns.speaker >= 0])
    if len(used) == len(old.speakers):
        return old
    number = np.full(len(old.speakers) + 1, -1, dtype=np.int32)
    number[used] = np.arange(len(used))
    columns = replace(old.columns, speaker=number[old.columns.speaker])
    return replace(old, columns=columns, speakers=tuple(old.speakers[code] for code in used))


def _updated(
    old: Index, at: NDArray[np.int64], columns: Columns, vectors: NDArray[np.float32]
) -> Index:
    """Take over the values of rows whose words are as they were."""
    if not len(at):
        return old
    room = old.vectors
    there = old.columns.has_vector[at]
    if (room[at][there] != vectors[there]).any():
        # Someone may be searching these; a vector that was missing can come in place.
        room = old.matrix.copy()
    room[at] = vectors
    return replace(old, vectors=room, columns=old.columns.placed(at, columns))


def _kept(old: Index, stays: Mask, place_stays: Mask) -> Index:
    if place_stays.all():
        return old
    number = np.cumsum(stays, dtype=np.int32) - 1
    places = old.places.kept(place_stays[old.places.row], number)
    if stays.all():
        return replace(old, places=places)
    return replace(
        old,
        vectors=old.matrix[stays],
        columns=old.columns.kept(stays),
        postings=words.keep(old.postings, stays),
        places=places,
    )


def _appended(
    old: Index, rows: IndexRows, fresh: Mask, columns: Columns, vectors: NDArray[np.float32]
) -> Index:
    if not fresh.any():
        return old
    first, last = len(old), len(old) + len(vectors)
    room = old.vectors
    if len(room) < last:
        room = np.empty((max(last, int(last * 1.25)), old.vectors.shape[1]), dtype=np.float32)
        room[:first] = old.matrix
    room[first:last] = vectors
    picked = [int(i) for i in np.flatnonzero(fresh)]
    column = rows.columns
    return replace(
        old,
        vectors=room,
        columns=old.columns.joined(columns),
        postings=words.extend(
            old.postings,
            [column["hashes"][i] for i in picked],
            [column["counts"][i] for i in picked],
            [column["length"][i] for i in picked],
        ),
    )


def _read(
    rows: IndexRows, dimensions: int, speakers: list[str]
) -> tuple[Columns, NDArray[np.float32]]:
    column = rows.columns
    codes = {name: number for number, name in enumerate(speakers)}
    for name in column["speaker"]:
        if name is not None and name not in codes:
            codes[name] = len(speakers)
            speakers.append(name)
    size = len(rows)
    blank = bytes(2 * dimensions)
    raw = b"".join(vector or blank for vector in column["vector"])
    vectors = np.frombuffer(raw, dtype="<f2").reshape(size, dimensions).astype(np.float32)
    columns = Columns(
        ids=_id_halves([bytes(key) for key in column["id"]]),
        kind=np.array([KINDS.index(kind) for kind in column["kind"]], dtype=np.int8),
        source=np.array([SOURCES.index(source) for source in column["source"]], dtype=np.int8),
        speaker=np.array([codes.get(name, -1) for name in column["speaker"]], dtype=np.int32),
        said_at=np.array(column["said_at"], dtype=np.int64),
        expires_at=np.array([NEVER if e is None else e for e in column["expires_at"]], np.int64),
        current=np.array([status == "current" for status in column["status"]], dtype=np.bool_),
        has_vector=np.array([vector is not None for vector in column["vector"]], dtype=np.bool_),
        check=_checks(column["hashes"], column["counts"]),
    )
    return columns, vectors


def _checks(hashes: Sequence[bytes | None], counts: Sequence[bytes | None]) -> NDArray[np.uint64]:
    sizes = np.array([len(h or b"") // 8 for h in hashes], dtype=np.int64)
    flat = np.frombuffer(b"".join(h or b"" for h in hashes), dtype="<u8").astype(np.uint64)
    flat = flat * np.frombuffer(b"".join(c or b"" for c in counts), dtype="<u2").astype(np.uint64)
    total = np.concatenate((np.zeros(1, dtype=np.uint64), np.cumsum(flat, dtype=np.uint64)))
    ends = np.cumsum(sizes)
    checks: NDArray[np.uint64] = total[ends] - total[ends - sizes]
    return checks


def _id_halves(ids: Sequence[bytes]) -> NDArray[np.uint64]:
    return np.frombuffer(b"".join(ids), dtype=">u8").astype(np.uint64).reshape(len(ids), 2)


def _read_places(rows: IndexRows, number: NDArray[Any], sessions: dict[str, int]) -> Places:
    """The places of the rows, whose numbers in the index are given."""
    column = rows.columns
    row_of = (
        {bytes(key): int(number[i]) for i, key in enumerate(column["id"])} if rows.repeats else {}
    )
    # A fact or an instruction was said in no conversation: it has no neighbours.
    session = [
        sessions.setdefault(name, len(sessions)) if kind == "episodic" else -1
        for name, kind in zip(column["session"], column["kind"], strict=True)
    ]
    seq, passage = list(column["seq"]), list(column["passage"])
    said_at, row = list(column["said_at"]), number.tolist()
    for key, name, at_seq, at_passage, moment in rows.repeats:
        session.append(sessions.setdefault(name, len(sessions)))
        seq.append(at_seq)
        passage.append(at_passage)
        said_at.append(moment)
        row.append(row_of[key])
    codes = np.array(session, dtype=np.int64)
    order = (
        (codes << (_SEQ_BITS + _PASSAGE_BITS))
        | (np.array(seq, dtype=np.int64) << _PASSAGE_BITS)
        | np.minimum(np.array(passage, dtype=np.int64), (1 << _PASSAGE_BITS) - 1)
    )
    sort = np.argsort(order, kind="stable")
    return Places.of(
        order[sort],
        np.array(row, dtype=np.int32)[sort],
        codes[sort].astype(np.int32),
        np.array(said_at, dtype=np.int64)[sort],
    )
