"""What an embedder is: one method, two facts about it, and two optional abilities.

It makes no choice of model (`mnemic.models.choose` does) and keeps no vectors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, cast

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


class CodesTokens(Protocol):
    """The optional ability of an embedder that also tells what each word means where it stands.

    A token's state is `8 * token_bytes` numbers, and its code the bits of their signs: the more a state
    points where a code does, the nearer their meanings.
    """

    token_bytes: int

    def embed_coded(self, texts: Sequence[str]) -> tuple[Vectors, list[bytes]]:
        """Return what `embed` does, and the codes of each text's tokens, one behind the other."""
        ...

    def embed_states(self, text: str) -> tuple[Vectors, Vectors]:
        """Return a question's vector, shape `(dimensions,)`, and the states of its tokens."""
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


def embed_coded(embedder: Embedder, texts: Sequence[str]) -> tuple[Vectors, list[bytes | None]]:
    """Embed with the codes of tokens: None, where the embedder makes none.

    Refuses what isn't one finite unit vector a text (`BadVector`); what else an embedder raises becomes
    `EmbedderUnavailable`.
    """
    size = getattr(embedder, "token_bytes", None)
    if size is None:
        return embed_checked(embedder, texts), [None] * len(texts)
    with _explained(embedder):
        made, told = cast(CodesTokens, embedder).embed_coded(texts)
        vectors, codes = np.asarray(made, dtype=np.float32), [bytes(code) for code in told]
    if len(codes) != len(texts) or any(len(code) % size for code in codes):
        raise BadVector(f"{embedder.name} returned codes of tokens that don't fit its texts")
    return _checked(embedder, texts, vectors), [*codes]


def embed_checked(embedder: Embedder, texts: Sequence[str]) -> Vectors:
    """The vectors alone; raises as `embed_coded` does."""
    with _explained(embedder):
        vectors = np.asarray(embedder.embed(texts), dtype=np.float32)
    return _checked(embedder, texts, vectors)


def embed_question(embedder: Embedder, text: str) -> tuple[Vectors, Vectors]:
    """A question's vector and the states of its tokens: none, where the embedder tells none.

    States have length 1, shape `(tokens, 8 * token_bytes)`. Raises as `embed_coded` does.
    """
    size = getattr(embedder, "token_bytes", None)
    if size is None:
        return embed_checked(embedder, [text])[0], np.zeros((0, 0), np.float32)
    with _explained(embedder):
        made, told = cast(CodesTokens, embedder).embed_states(text)
        vector, states = np.asarray(made, np.float32)[None], np.asarray(told, np.float32)
    if states.ndim != 2 or states.shape[1] != 8 * size or not np.isfinite(states).all():
        raise BadVector(f"{embedder.name} returned states of tokens that don't fit their codes")
    states = states / np.maximum(np.linalg.norm(states, axis=1, keepdims=True), 1e-6)
    return _checked(embedder, [text], vector)[0], states


@contextmanager
def _explained(embedder: Embedder) -> Iterator[None]:
    """An embedder is other people's code: whatever it raises becomes `EmbedderUnavailable`."""
    try:
        yield
    except EmbedderError:
        raise
    except Exception as error:
        raise EmbedderUnavailable(
            f"{embedder.name} failed: {type(error).__name__}: {shown(str(error))}"
        ) from error


def _checked(embedder: Embedder, texts: Sequence[str], vectors: Vectors) -> Vectors:
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
