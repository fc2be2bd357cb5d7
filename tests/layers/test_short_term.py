"""Short-term memory, in the database alone and with a real Valkey beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mnemic.memory import Memory
from mnemic.models.embedder import Embedder
from mnemic.settings import Settings
from mnemic.testing import FakeEmbedder, RecentTurnsContract
from mnemic.testing.opening import Target
from tests.layers.valkey import Valkey


@pytest.fixture(scope="module")
def valkey() -> Iterator[Valkey]:
    """One server for all tests that leave it running."""
    with Valkey() as server:
        yield server


class InFolder(RecentTurnsContract):
    """Stores in a folder of the test's own."""

    @pytest.fixture(autouse=True)
    def in_folder(self, tmp_path: Path, tokens_ready: None) -> None:
        self.folder = tmp_path
        self.number = 0

    def target(self) -> Target:
        self.number += 1
        return self.folder / f"memory {self.number}.db"


class TestInTheDatabase(InFolder):
    pass


class TestInValkey(InFolder):
    @pytest.fixture(autouse=True)
    def beside(self, valkey: Valkey) -> Iterator[None]:
        self.url = valkey.url
        valkey.client.flushall()
        yield

    def open(self, target: Target, embedder: Embedder | None = None) -> Memory:
        return Memory(
            target,
            embedder=embedder or FakeEmbedder(),
            settings=Settings(),
            short_term=self.url,
        )
