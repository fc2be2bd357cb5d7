"""What an embedder is: one method, two facts about it, and one optional ability.

It makes no choice of model (`mnemic.models.choose` does) and keeps no vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mnemic.errors import BadVector, EmbedderError, EmbedderUnavailable
from mnemic.inputs import shown

Vectors = NDArray[np.float32]

MAX_NAME = 512


class Embedder(Protocol):
    """Turns texts into vectors.

    `name` changes whenever the vectors would, for a store remembers it and refuses vectors of another.
    """

    @property
    def name(self) -> str:
        """What a store remembers."""
        ...

    @property
    def dimensions(self) -> int:
        """Length of the vectors."""
        ...

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return one unit vector a text: shape `(len(texts), dimensions)`, in order."""
        ...


class MeasuresText(Protocol):
    """The optional ability of an embedder that knows how much text fits it."""

    max_tokens: int

    def token_offsets(self, text: str) -> list[tuple[int, int]]:
        """Return the characters `(start, stop)` of each token, none cut away."""
        ...


def identity_of(embedder: Embedder) -> tuple[str, int]:
    """What a store remembers of an embedder: its name, and the length of its vectors.

    Raises `EmbedderUnavailable` where it doesn't tell.
    """
    name, dimensions = embedder.name, embedder.dimensions
    if not isinstance(name, str) or not name.strip() or len(name) > MAX_NAME:
        raise EmbedderUnavailable(
            f"an embedder's `name` is a text of 1 to {MAX_NAME} characters, not {shown(name)}"
        )
    if isinstance(dimensions, bool) or not isinstance(dimensions, int) or dimensions < 1:
        raise EmbedderUnavailable(
            f"{name} gives its `dimensions` as {shown(dimensions)}; they are a whole number from 1"
        )
    return name, dimensions


def embed_checked(embedder: Embedder, texts: Sequence[str]) -> Vectors:
    """Embed, and refuse what isn't one finite unit vector a text (`BadVector`).

    An embedder is other people's code: whatever it raises becomes `EmbedderUnavailable`.
    """
    try:
        vectors = np.asarray(embedder.embed(texts), dtype=np.float32)
    except EmbedderError:
        raise
    except Exception as error:
        raise EmbedderUnavailable(
            f"{embedder.name} failed: {type(error).__name__}: {shown(str(error))}"
        ) from error
    wanted = (len(texts), embedder.dimensions)
    if vectors.shape != wanted:
        raise BadVector(
            f"{embedder.name} returned an array of shape {vectors.shape} where {wanted} was due"
        )
    norms = np.linalg.norm(vectors, axis=1)
    if not np.isfinite(norms).all():
        raise BadVector(f"{embedder.name} returned a vector that isn't finite")
    if np.abs(norms - 1.0).max(initial=0.0) > 1e-3:
        safe = np.where(norms > 0, norms, 1.0)
        vectors = (vectors / safe[:, None]).astype(np.float32)
    return vectors
