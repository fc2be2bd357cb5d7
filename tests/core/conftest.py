"""A memory of its own for each test, with the fake embedder."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from mnemic.memory import Memory, ScopedMemory
from mnemic.models.tokens import count_tokens
from tests.fakes import open_memory


@pytest.fixture(scope="session")
def tokens_ready() -> None:
    """Load the token counter once: the package behind it calls what Python 3.11 deprecates."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        count_tokens("")


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "memory.db"


@pytest.fixture
def memory(db: Path) -> Iterator[Memory]:
    with open_memory(db) as opened:
        yield opened


@pytest.fixture
def ana(memory: Memory) -> ScopedMemory:
    return memory.user("ana")
