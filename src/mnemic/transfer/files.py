"""Files as streams: read plain or gzipped, JSON arrays an element at a time, JSON lines; written whole."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import sys
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO, TextIO, cast

from mnemic.errors import InputError
from mnemic.inputs import shown
from mnemic.stores.copies import beside

_CHUNK = 1 << 20
# An element of an array, or a line, that is longer than this is refused rather than read into memory.
MAX_ELEMENT = 64 << 20
_OF_NUMBERS = "0123456789.eE+-"
_NOT_SPACE = re.compile(r"\S")


@contextmanager
def open_text(path: Path) -> Iterator[TextIO]:
    """Open a file for reading as UTF-8, through gzip where it is gzipped; `-` is standard input."""
    with ExitStack() as stack:
        try:
            raw: BinaryIO = stack.enter_context(_opened(path))
            # Looked at, and not read: a pipe can't be begun anew.
            zipped = cast(io.BufferedReader, raw).peek(2)[:2] == b"\x1f\x8b"
        except OSError as error:
            raise InputError(f"can't read {shown(str(path))}: {error.strerror or error}") from None
        if zipped:
            raw = cast(BinaryIO, stack.enter_context(gzip.GzipFile(fileobj=raw)))
        try:
            yield io.TextIOWrapper(raw, encoding="utf-8-sig")
        except (UnicodeDecodeError, gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise InputError(
                f"{shown(path.name)} is not UTF-8 text, or is cut off: {error}"
            ) from None
        except OSError as error:
            raise InputError(
                f"can't read on in {shown(path.name)}: {error.strerror or error}"
            ) from None


def _opened(path: Path) -> BinaryIO:
    if str(path) != "-":
        return path.open("rb")
    if sys.stdin is None:
        raise InputError("standard input is closed; name a file")
    return open(sys.stdin.fileno(), "rb", closefd=False)


def iter_json(handle: TextIO, where: str) -> Iterator[tuple[int, Any]]:
    """Yield the elements of a JSON array, or of JSON lines, or the one value there is; numbered from 1.

    Reads a piece at a time; an array's elements come as soon as each is complete.
    """
    stream = _Stream(handle)
    array = stream.peek() == "["
    if array:
        stream.at += 1
    for number in count(1):
        following = stream.peek()
        if array and following == "]" and not (number > 1 and stream.comma):
            stream.at += 1
            if stream.peek():
                raise InputError(f"{where}: something that is no JSON follows element {number - 1}")
            return
        if not array and following == "":
            return
        if array and number > 1 and not stream.comma and following:
            raise InputError(f"{where}: element {number} is no JSON: a comma is missing before it")
        yield number, stream.value(f"{where}: element {number}")
        stream.comma = stream.peek() == "," if array else False
        stream.at += stream.comma


def _said(error: Exception) -> str:
    """What a decoder says, without advice to programmers."""
    return str(error).partition(";")[0][:120]


class _Stream:
    """Text that is read as far as is needed, and the place in it."""

    def __init__(self, handle: TextIO) -> None:
        self.handle = handle
        self.text = ""
        self.at = 0
        self.ended = False
        self.comma = False
        self.decoder = json.JSONDecoder()

    def peek(self) -> str:
        """The next character that isn't white space; empty at the end."""
        while True:
            rest = _NOT_SPACE.search(self.text, self.at)
            if rest is not None:
                self.at = rest.start()
                return rest.group()
            self.at = len(self.text)  # blanks aren't kept, however many there are
            if not self._more():
                return ""

    def value(self, what: str) -> Any:
        """Decode the value that begins here."""
        while True:
            try:
                value, end = self.decoder.raw_decode(self.text, self.at)
            except (ValueError, RecursionError) as error:  # ValueError: thousands of digits, too
                if self.ended or len(self.text) - self.at > MAX_ELEMENT:
                    raise InputError(f"{what} is no JSON, or is cut off: {_said(error)}") from None
            else:
                # A number at the end of what was read may go on.
                if self.ended or (end < len(self.text) and self.text[end] not in _OF_NUMBERS):
                    self.at = end
                    return value
            self._more()

    def _more(self) -> bool:
        kept = self.text[self.at :]
        piece = self.handle.read(max(_CHUNK, len(kept)))
        self.text, self.at = kept + piece, 0
        self.ended = not piece
        return bool(piece)


def check_free(file: Path, replace: bool) -> None:
    """Refuse to write over what isn't an older export, before the store is open."""
    if file.is_dir():
        raise InputError(f"{file} is a folder; name a file in it")
    if not file.exists():
        return
    if not replace:
        raise InputError(f"{file} is there already; name another file, or add --replace")
    try:
        with file.open("rb") as there:
            database = there.read(16) == b"SQLite format 3\0"
    except OSError as error:
        raise InputError(f"can't read {file}: {error.strerror or error}") from None
    if database:
        raise InputError(f"{file} is a database, and no export; name another file")


@contextmanager
def written(file: Path | None) -> Iterator[TextIO]:
    """A file that is there in the end, whole, or not at all; or else standard output."""
    if file is None:
        yield sys.stdout
        return
    try:
        with beside(file.absolute(), "part") as part:
            with part.open("x", encoding="utf-8") as target:
                yield target
            os.replace(part, file)
    except OSError as error:
        raise InputError(f"can't write {file}: {error.strerror or error}") from None
