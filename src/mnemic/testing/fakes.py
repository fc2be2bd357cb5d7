"""Embedders that need no model: quick, without weights, and the same on every machine.

They are made for tests. What they call near shares words; of meaning they know nothing.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mnemic.errors import EmbedderUnavailable

__all__ = ["FailingEmbedder", "FakeEmbedder", "MeasuringEmbedder"]

_WORD = re.compile(r"\w+")
_TOKEN = re.compile(r"\S+")


class FakeEmbedder:
    """A hashed bag of words: texts that share words are near, and case doesn't matter.

    The vectors follow from `name`, `dimensions` and the text alone, to the bit: in every process, on
    every machine, whatever else is embedded. Another `name` makes other vectors, as another model would.
    `calls` counts the calls of `embed`, for tests that ask from one thread.

    >>> lisbon, tram, tea = FakeEmbedder().embed(["a tram in Lisbon", "The tram.", "green tea"])
    >>> bool(lisbon @ tram > lisbon @ tea)
    True
    """

    def __init__(self, name: str = "fake", dimensions: int = 32) -> None:
        if dimensions < 1:
            raise ValueError(f"dimensions must be at least 1, not {dimensions}")
        self.name = name
        self.dimensions = dimensions
        self.calls = 0

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one unit vector a text: shape `(len(texts), dimensions)`, float32, in order."""
        self.calls += 1
        rows = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        for number, text in enumerate(texts):
            rows[number] = self._vector(text)
        return rows

    def _vector(self, text: str) -> list[float]:
        values = [0.0] * self.dimensions
        for word in _WORD.findall(text.casefold()):
            digest = hashlib.blake2b(f"{self.name} {word}".encode(), digest_size=8).digest()
            for part in digest[:4]:
                values[part % self.dimensions] += 1.0 if part & 128 else -1.0
        values[0] += 0.01  # a text without words has a direction too
        # Not by NumPy, whose sums differ in the last bit from one processor to the next.
        length = math.sqrt(math.fsum(value * value for value in values))
        return [value / length for value in values]


class MeasuringEmbedder(FakeEmbedder):
    """One that takes few words, and tells how many a text has: its tokens are what spaces part.

    Longer messages are therefore cut into passages of at most `max_tokens` words.
    """

    def __init__(self, max_tokens: int = 12) -> None:
        super().__init__("fake-measuring")
        if max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, not {max_tokens}")
        self.max_tokens = max_tokens

    def token_offsets(self, text: str) -> list[tuple[int, int]]:
        """Return the characters `(start, stop)` of each word, in order."""
        return [match.span() for match in _TOKEN.finditer(text)]


class FailingEmbedder(FakeEmbedder):
    """One that can't be reached while `failing`, or once it was called `after` times.

    `embed` then raises `EmbedderUnavailable`. Set both back, and it is well again.
    """

    def __init__(self, name: str = "fake", dimensions: int = 32, after: int | None = None) -> None:
        super().__init__(name, dimensions)
        self.failing = False
        self.after = after

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return what `FakeEmbedder` returns, or raise `EmbedderUnavailable`."""
        if self.failing or (self.after is not None and self.calls >= self.after):
            raise EmbedderUnavailable("the model is away")
        return super().embed(texts)
