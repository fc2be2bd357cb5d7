"""Freshness: how long after `remember` has returned another process recalls what was said.

A second process keeps asking for each message by its own words; times are of the machine's clock. Before
that, messages are committed whose vectors can't be made, so that the outbox is backlogged.
"""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from time import sleep, time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnemic.errors import EmbedderUnavailable
from mnemic.memory import Memory
from mnemic.models.embedder import Embedder
from mnemic.models.minilm import MiniLM

Row = dict[str, Any]
BACKLOG = 500
MESSAGES = 200
PATIENCE = 30.0  # seconds until a message counts as not found
_USER = "fresh"


class _Away:
    """An embedder that fails while it is `away`."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self.name = embedder.name
        self.dimensions = embedder.dimensions
        self.away = True

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if self.away:
            raise EmbedderUnavailable("away, so that jobs pile up")
        return self._embedder.embed(texts)


def measure(messages: int = MESSAGES, backlog: int = BACKLOG) -> Row:
    """Write in this process, ask in another; milliseconds as median, p99 and most."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "fresh.db"
        embedder = _Away(MiniLM(1))
        with Memory(path, embedder=embedder) as memory:
            handle = memory.user(_USER)
            for number in range(backlog):
                handle.remember(f"Backlog {number}: parcel {number * 7919 % 10_007} is on its way.")
            embedder.away = False
            mine, theirs = context.Pipe()
            asking = context.Process(target=_asking, args=(str(path), theirs), daemon=True)
            asking.start()
            theirs.close()  # so that its end is heard, should it die
            spent: list[float] = []
            try:
                mine.recv()  # it has opened the store
                for number in range(messages):
                    text = f"Order {number * 104_729 % 1_000_003} was handed to the courier."
                    mine.send(text)
                    handle.remember(text)
                    done = time()
                    if not mine.poll(PATIENCE):
                        break
                    spent.append(max(0.0, (mine.recv() - done) * 1000))
                mine.send(None)
                asking.join(PATIENCE)
            except (EOFError, OSError):
                pass  # it died: what it never found counts as such
            finally:
                asking.kill()
    every = spent + [PATIENCE * 1000] * (messages - len(spent))
    return {
        "messages": messages,
        "backlog": backlog,
        "median_ms": float(np.median(every)),
        "p99_ms": float(np.percentile(every, 99)),
        "most_ms": float(max(every)),
    }


def _asking(path: str, pipe: Connection) -> None:
    """The other process: for each text, ask until it is there, and say when."""
    with Memory(path, embedder=MiniLM(1)) as memory:
        handle = memory.user(_USER)
        handle.recall("anything")
        pipe.send(True)
        while (text := pipe.recv()) is not None:
            until = time() + PATIENCE
            while time() < until:
                found = handle.recall(text, limit=3, min_relevance=0)
                if any(hit.memory.text == text for hit in found):
                    pipe.send(time())
                    break
                sleep(0.001)
