"""What a contract of a whole memory has to know of the store under test, and how it looks into one."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mnemic.memory import Memory, ScopedMemory
from mnemic.models.embedder import Embedder
from mnemic.records import Recall
from mnemic.settings import Settings
from mnemic.stores.sqlite import sqlite_path
from mnemic.testing.fakes import FakeEmbedder
from mnemic.transfer.exporting import export_lines

Target = str | os.PathLike[str]


class OpensMemory:
    """Which store is under test, and how it is opened."""

    opens_twice: bool = True

    def target(self) -> Target:
        """A path or URL of a store that is new and empty: another one at every call."""
        raise NotImplementedError("a contract needs a store: define `target(self)`")

    def open(self, target: Target, embedder: Embedder | None = None) -> Memory:
        """Open the memory under test; without an embedder, with a fake one."""
        return Memory(target, embedder=embedder or FakeEmbedder(), settings=Settings())

    def holds(self, target: Target, piece: bytes) -> bool:
        """Tell whether these bytes stand anywhere in what the store keeps on disk.

        This looks into an SQLite file and its log. For a database that can't be looked into, False.
        """
        path = sqlite_path(target)
        files = [] if path is None else [Path(f"{path}{end}") for end in ("", "-wal")]
        return any(piece in file.read_bytes() for file in files if file.exists())

    @contextmanager
    def _new(self, embedder: Embedder | None = None) -> Iterator[Memory]:
        """A new store, open."""
        with self.open(self.target(), embedder) as memory:
            yield memory


def said(handle: ScopedMemory) -> list[dict[str, Any]]:
    """Every message of a scope, as an export has it, in the order of arrival."""
    return [json.loads(line) for line in export_lines(handle)][1:]


def contents(handle: ScopedMemory) -> list[str]:
    """What every message says."""
    return [message["content"] for message in said(handle)]


def kept(handle: ScopedMemory) -> list[str]:
    """The text of every memory, in the order of recording."""
    return [record.text for record in handle.iter_memories()]


def found(recall: Recall) -> list[str]:
    """The text of every hit."""
    return [hit.memory.text for hit in recall]


def actions(handle: ScopedMemory, id: str) -> list[str]:
    """What happened to a memory."""
    return [change.action for change in handle.history(id)]


def trace(handle: ScopedMemory, words: str) -> dict[str, list[str]]:
    """Every way by which a text can come out of a scope, and what comes out by it."""
    return {
        "recall": found(handle.recall(words, limit=100)),
        "iter_memories": kept(handle),
        "export": contents(handle),
    }


def without(places: dict[str, list[str]], text: str) -> bool:
    """Tell whether a text is in none of the places."""
    return not any(text in texts for texts in places.values())


def numbers(count: int, of: str = "thing") -> list[str]:
    """So many texts, none like another."""
    return [f"{of} number {n}" for n in range(count)]


def messages(texts: Iterable[str], prefix: str = "m") -> list[dict[str, Any]]:
    """A message a text, with ids in order."""
    return [{"id": f"{prefix}{n}", "content": text} for n, text in enumerate(texts)]
