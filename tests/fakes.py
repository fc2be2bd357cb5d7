"""Stores that open at once, with embedders that need no model: what the tests are made with."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from mnemic.memory import Memory
from mnemic.models.embedder import Embedder
from mnemic.settings import Settings
from mnemic.testing import FailingEmbedder, FakeEmbedder, MeasuringEmbedder

__all__ = [
    "FailingEmbedder",
    "FakeEmbedder",
    "MeasuringEmbedder",
    "environment",
    "new_folder",
    "new_memory",
    "open_memory",
]


@cache
def _new_store() -> bytes:
    """The bytes of a store that was just made; copying them is quicker than migrating."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "new.db"
        Memory(path, embedder=FakeEmbedder(), settings=Settings()).close()
        return path.read_bytes()


def open_memory(path: Path, embedder: Embedder | None = None) -> Memory:
    """Open the store of a file, new where there is none, with a fake unless given an embedder."""
    if not path.exists():
        path.write_bytes(_new_store())
    return Memory(path, embedder=embedder or FakeEmbedder(), settings=Settings())


@contextmanager
def new_folder() -> Iterator[Path]:
    """A folder of its own for each example of a property test."""
    folder = Path(tempfile.mkdtemp())
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def new_memory(embedder: Embedder | None = None) -> Iterator[Memory]:
    """A memory of its own for each example of a property test."""
    with new_folder() as folder, open_memory(folder / "memory.db", embedder) as memory:
        yield memory


def environment() -> dict[str, str]:
    """The environment in which another Python finds what this one finds."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
