"""What the benches that run several processes share: an embedder that costs little, and texts."""

from __future__ import annotations

import re
import time
import zlib
from collections.abc import Sequence
from itertools import product
from random import Random

import numpy as np
from numpy.typing import NDArray

NAMES = (None, "Ana", "Ben")
WORDS = ["".join(parts) for parts in product("blmtvz", "aeiou", "dnrks", ["o", "y", "ew"])]
_HEX = "bcdfghjkmnprtvwy"


class HashedWords:
    """An embedder that costs little: a bag of hashed words, and some sleep to be killed in."""

    def __init__(
        self, name: str = "hashed-words", dimensions: int = 64, sleep: float = 0.003
    ) -> None:
        self.name, self.dimensions, self.sleep = name, dimensions, sleep

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if self.sleep:
            time.sleep(Random().random() * self.sleep)
        rows = np.full((len(texts), self.dimensions), 1e-3, dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            for word in re.findall(r"\w+", text.casefold()):
                row[zlib.crc32(word.encode()) % self.dimensions] += 1
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def text_of(seed: int, *place: int) -> tuple[str | None, str]:
    """Who says what at a place (numbers below 4,096); each sentence begins with a word of its own."""
    rng = Random(f"{seed} {place}")
    mark = "zq" + "".join(_HEX[int(digit, 16)] for n in place for digit in f"{n:03x}") + "x"
    sentences = 1 if rng.random() < 0.9 else rng.randint(12, 40)
    said = [" ".join([mark, *rng.choices(WORDS, k=rng.randint(6, 16))]) for _ in range(sentences)]
    return rng.choice(NAMES), ". ".join(said) + "."


def mark_of(text: str) -> str:
    """The word that only this text, or one that repeats it, holds."""
    return text.split(" ", 1)[0].strip(".").casefold()


def first_sentence(text: str) -> str:
    """What to ask for, so that the text is found."""
    return text.split(". ")[0]
