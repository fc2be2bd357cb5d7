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

from mnemic.models.embedder import Embedder, embed_coded

_CHUNK = 500


class KeptVectors:
    """An embedder whose vectors and codes are kept in a file, by the model's identity and the text.

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
            "CREATE TABLE IF NOT EXISTS vectors(key BLOB PRIMARY KEY, vector BLOB, codes BLOB)"
            " WITHOUT ROWID"
        )

    def __getattr__(self, name: str) -> Any:
        return getattr(self._embedder, name)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """As the embedder would; what was asked for before comes from the file, to the bit."""
        return self.embed_coded(texts)[0]

    def embed_coded(self, texts: Sequence[str]) -> tuple[NDArray[np.float32], list[bytes | None]]:
        """The same with the codes of tokens, None where the embedder makes none."""
        with self._lock:
            keys = [_digest(text) for text in texts]
            kept = self._kept(keys)
            missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in kept}
            self.asked += len(texts)
            self.made += len(missing)
            if missing:
                vectors, codes = embed_coded(self._embedder, list(missing.values()))
                made = zip(missing, vectors.astype("<f4"), codes, strict=True)
                rows = [(key, vector.tobytes(), code) for key, vector, code in made]
                kept |= {key: (vector, code) for key, vector, code in rows}
                self._file.executemany("INSERT OR IGNORE INTO vectors VALUES (?, ?, ?)", rows)
                self._file.commit()
        raw = b"".join(kept[key][0] for key in keys)
        vectors = np.frombuffer(raw, dtype="<f4").reshape(len(texts), self.dimensions).copy()
        return vectors, [kept[key][1] for key in keys]

    def _kept(self, keys: Sequence[bytes]) -> dict[bytes, tuple[bytes, bytes | None]]:
        found: dict[bytes, tuple[bytes, bytes | None]] = {}
        for at in range(0, len(keys), _CHUNK):
            some = keys[at : at + _CHUNK]
            marks = ",".join("?" * len(some))
            rows = self._file.execute(
                f"SELECT key, vector, codes FROM vectors WHERE key IN ({marks})", some
            )
            found |= {key: (vector, codes) for key, vector, codes in rows}
        size = 4 * self.dimensions
        return {key: made for key, made in found.items() if len(made[0]) == size}

    def close(self) -> None:
        """Close the file and the embedder."""
        self._file.close()
        close = getattr(self._embedder, "close", None)
        if close is not None:
            close()


def identity(embedder: Embedder) -> str:
    """What its vectors follow from: its checksums where it tells them, else its name and dimensions."""
    tell = getattr(embedder, "checksums", None)
    return (
        f"{embedder.name}/{embedder.dimensions}/{sorted(tell().items()) if callable(tell) else ''}"
    )


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
