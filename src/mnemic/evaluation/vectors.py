"""Vectors kept between runs: an embedder that looks into a file first, which may be deleted."""

from __future__ import annotations

import hashlib
import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnemic.models.embedder import Embedder

_CHUNK = 500


class KeptVectors:
    """An embedder whose vectors are kept in a file, by the model's identity and the text.

    All that the embedder can do beside `embed` is passed on. `asked` and `made` count texts.
    """

    def __init__(self, embedder: Embedder, folder: Path) -> None:
        self._embedder = embedder
        self.name = embedder.name
        self.dimensions = embedder.dimensions
        self.asked = self.made = 0
        self._lock = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"vectors-{_digest(identity(embedder)).hex()}.db"
        self._file = sqlite3.connect(self.path, timeout=60, check_same_thread=False)
        self._file.execute("PRAGMA journal_mode=WAL")
        self._file.execute("PRAGMA synchronous=OFF")
        self._file.execute(
            "CREATE TABLE IF NOT EXISTS vectors(key BLOB PRIMARY KEY, vector BLOB) WITHOUT ROWID"
        )

    def __getattr__(self, name: str) -> Any:
        return getattr(self._embedder, name)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """As the embedder would; what was asked for before comes from the file, to the bit."""
        with self._lock:
            keys = [_digest(text) for text in texts]
            kept = self._kept(keys)
            missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in kept}
            self.asked += len(texts)
            self.made += len(missing)
            if missing:
                vectors = self._embedder.embed(list(missing.values()))
                for key, vector in zip(missing, vectors, strict=True):
                    kept[key] = vector.astype("<f4").tobytes()
                self._file.executemany(
                    "INSERT OR IGNORE INTO vectors VALUES (?, ?)",
                    [(key, kept[key]) for key in missing],
                )
                self._file.commit()
        raw = b"".join(kept[key] for key in keys)
        return np.frombuffer(raw, dtype="<f4").reshape(len(texts), self.dimensions).copy()

    def _kept(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = {}
        for at in range(0, len(keys), _CHUNK):
            some = keys[at : at + _CHUNK]
            marks = ",".join("?" * len(some))
            rows = self._file.execute(
                f"SELECT key, vector FROM vectors WHERE key IN ({marks})", some
            )
            found.update(rows.fetchall())
        size = 4 * self.dimensions
        return {key: vector for key, vector in found.items() if len(vector) == size}

    def close(self) -> None:
        """Close the file and the embedder."""
        self._file.close()
        close = getattr(self._embedder, "close", None)
        if close is not None:
            close()


def identity(embedder: Embedder) -> str:
    """What its vectors follow from: its checksums where it tells them, else its name and dimensions."""
    tell = getattr(embedder, "checksums", None)
    return f"{embedder.name}/{embedder.dimensions}/{tell() if callable(tell) else ''}"


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
