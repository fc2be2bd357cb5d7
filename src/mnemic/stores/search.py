"""Looking for what erasures left in a file that a database has open, in one pass and bounded memory."""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_CHUNK = 1 << 20
# The shortest piece of a text that is told from chance.
_PIECE = 12

_MAGIC = b"SQLite format 3\0"
_FILE_HEADER = 100
# Kind of a page, place of its first free block (passed over), number of cells, where these begin.
_PAGE_HEADER = struct.Struct(">BxxHH")
# Where the list of cells begins in a page, by its kind; other pages have no gap.
_CELLS_AT = {2: 12, 5: 12, 10: 8, 13: 8}

# POSIX drops a process's locks on a file when it closes any descriptor of it, SQLite's among them. So
# the descriptor that we read by is shared by all who have the file open, and closed after the last.
# A lock that the same thread may take again: garbage is collected anywhere, and closes what it finds.
_lock = threading.RLock()


@dataclass(slots=True)
class _Open:
    users: int = 0
    reader: int | None = None


_open: dict[tuple[int, int], _Open] = {}
Key = tuple[int, int]


def _forget_all() -> None:
    """In a child process: descriptors share their place with the parent's, so none is used on."""
    global _lock
    _lock = threading.RLock()
    _open.clear()


if hasattr(os, "register_at_fork"):  # POSIX
    os.register_at_fork(after_in_child=_forget_all)


def place_of(path: Path) -> Key | None:
    """Which file a path names just now; None where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


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


def left_over(path: Path, key: Key, texts: Sequence[bytes]) -> bool:
    """Tell whether a piece of any of the texts is left in the file where no row is.

    With `secure_delete` SQLite zeroes the rows and the pages that it frees, but not what stays behind
    when it moves rows between pages. That lies in one place: in a page's gap between the list of
    its cells and the cells (sqlite.org/fileformat2.html, "B-tree Pages").
    """
    short = {text for text in texts if len(text) < _PIECE}
    pieces = {text[at : at + _PIECE] for text in texts for at in range(len(text) - _PIECE + 1)}
    for gap in _gaps(path, key):
        if any(text in gap for text in short):
            return True
        if any(gap[at : at + _PIECE] in pieces for at in range(len(gap) - _PIECE + 1)):
            return True
    return False


def _gaps(path: Path, key: Key) -> Iterator[bytes]:
    """The gap of each page, without zeros at its ends: all but a few are empty."""
    size, header = 0, _FILE_HEADER
    for chunk in _chunks(path, key):
        size = size or _page_size(chunk)
        for page in range(0, len(chunk) - size + 1, size):
            kind, cells, content = _PAGE_HEADER.unpack_from(chunk, page + header)
            if kind in _CELLS_AT:
                first = page + header + _CELLS_AT[kind] + 2 * cells
                yield chunk[first : page + (content or size)].strip(b"\0")
            header = 0


def _page_size(chunk: bytes) -> int:
    size = int.from_bytes(chunk[16:18])
    return 65_536 if size == 1 else size


def _chunks(path: Path, key: Key) -> Iterator[bytes]:
    """The file in pieces of whole pages."""
    at = 0
    while chunk := _read(path, key, at):
        yield chunk
        at += _CHUNK


def _read(path: Path, key: Key, at: int) -> bytes:
    """The piece from there on, shorter only at the end of the file."""
    with _lock:
        file = _open[key]
        if file.reader is None:
            file.reader = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        # Not `pread`, which Windows lacks; the lock keeps the place.
        os.lseek(file.reader, at, os.SEEK_SET)
        pieces: list[bytes] = []
        size = _CHUNK
        while size and (piece := os.read(file.reader, size)):
            pieces.append(piece)
            size -= len(piece)
    return b"".join(pieces)
