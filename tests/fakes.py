"""Embedders that need no model, and stores that open at once: what the tests are made with."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnemic.errors import EmbedderUnavailable
from mnemic.memory import Memory
from mnemic.models.embedder import Embedder
from mnemic.settings import Settings

_WORD = re.compile(r"\w+")


class FakeEmbedder:
    """A hashed bag of words: texts that share words are near. Its rows have length 1."""

    def __init__(self, name: str = "fake", dimensions: int = 32) -> None:
        self.name = name
        self.dimensions = dimensions
        self.calls = 0

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.calls += 1
        rows = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            for word in _WORD.findall(text.casefold()):
                digest = hashlib.blake2b(f"{self.name} {word}".encode(), digest_size=8).digest()
                for part in digest[:4]:
                    row[part % self.dimensions] += 1.0 if part & 128 else -1.0
            row[0] += 0.01
            length = float(np.linalg.norm(row))
            row /= length
        return rows


class MeasuringEmbedder(FakeEmbedder):
    """One that takes few words, and tells how many a text has: its tokens are what spaces part."""

    def __init__(self, max_tokens: int = 12) -> None:
        super().__init__("fake-measuring")
        self.max_tokens = max_tokens

    def token_offsets(self, text: str) -> list[tuple[int, int]]:
        return [match.span() for match in re.finditer(r"\S+", text)]


class FailingEmbedder(FakeEmbedder):
    """One that can't be reached while `failing`, or once it was called `after` times."""

    def __init__(self, name: str = "fake", dimensions: int = 32, after: int | None = None) -> None:
        super().__init__(name, dimensions)
        self.failing = False
        self.after = after

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if self.failing or (self.after is not None and self.calls >= self.after):
            raise EmbedderUnavailable("the model is away")
        return super().embed(texts)


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
