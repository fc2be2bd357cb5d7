"""Looking for byte strings in a file that a database has open, in one pass and bounded memory."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

_CHUNK = 8 << 20
_KEY = 8
_MIX = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(44)

# POSIX drops a process's locks on a file when it closes any descriptor of it, SQLite's among them. So
# the descriptor that we read by is shared by all who have the file open, and closed after the last.
_lock = threading.Lock()


@dataclass(slots=True)
class _Open:
    users: int = 0
    reader: int | None = None


_open: dict[tuple[int, int], _Open] = {}
Key = tuple[int, int]


def _forget_all() -> None:
    """In a child process: descriptors share their place with the parent's, so none is used on."""
    global _lock
    _lock = threading.Lock()
    _open.clear()


if hasattr(os, "register_at_fork"):  # POSIX
    os.register_at_fork(after_in_child=_forget_all)


def opened(path: Path) -> Key:
    """Note that someone has the database open; to be undone by `closed`."""
    with _lock:
        found = path.stat()
        key = (found.st_dev, found.st_ino)
        _open.setdefault(key, _Open()).users += 1
        return key


def closed(key: Key) -> None:
    """Note that someone's connections are closed; the last one closes the reader."""
    with _lock:
        file = _open.get(key)
        if file is None:
            return  # opened by the process that forked this one
        file.users -= 1
        if file.users == 0:
            del _open[key]
            if file.reader is not None:
                os.close(file.reader)


def holds_any(path: Path, key: Key, probes: Sequence[bytes]) -> bool:
    """Tell whether any of the probes, each of at least 8 bytes or looked for singly, is in the file."""
    short = [probe for probe in probes if len(probe) < _KEY]
    long = {probe for probe in probes if len(probe) >= _KEY}
    most = max((len(probe) for probe in probes), default=0)
    table = _table(long)
    for chunk in _chunks(path, key, most):
        if any(probe in chunk for probe in short):
            return True
        if long and _in_chunk(chunk, long, table):
            return True
    return False


def _table(probes: set[bytes]) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """A set of 2^20 flags over mixed keys, which rules nearly every place of a file out at once."""
    table = np.zeros(1 << 20, dtype=np.bool_)
    keys = np.frombuffer(b"".join(probe[:_KEY] for probe in probes), dtype="<u8")
    table[(keys * _MIX) >> _SHIFT] = True
    return table


def _in_chunk(
    chunk: bytes, probes: set[bytes], table: np.ndarray[tuple[int], np.dtype[np.bool_]]
) -> bool:
    lengths = {len(probe) for probe in probes}  # nearly always one: pieces are cut alike
    for offset in range(_KEY):
        count = (len(chunk) - offset) // _KEY
        if count <= 0:
            continue
        words = np.frombuffer(chunk, dtype="<u8", count=count, offset=offset)
        for place in np.flatnonzero(table[(words * _MIX) >> _SHIFT]):
            at = offset + int(place) * _KEY
            if any(chunk[at : at + length] in probes for length in lengths):
                return True
    return False


def _chunks(path: Path, key: Key, overlap: int) -> Iterator[bytes]:
    """The file in pieces, each with the beginning of the next."""
    with _lock:
        file, at = _open[key], 0
        if file.reader is None:
            file.reader = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        while chunk := _read(file.reader, at, _CHUNK + overlap):
            yield chunk
            at += _CHUNK


def _read(reader: int, at: int, size: int) -> bytes:
    """That many bytes from there on, fewer only at the end of the file."""
    # Not `pread`, which Windows lacks; the lock keeps the place.
    os.lseek(reader, at, os.SEEK_SET)
    pieces: list[bytes] = []
    while size and (piece := os.read(reader, size)):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)
