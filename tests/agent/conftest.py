"""What the tests of the agent share: a memory, and no model from the environment."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mnemic.memory import Memory
from tests.fakes import open_memory


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("MNEMIC_", "OPENAI_"))]:
        monkeypatch.delenv(name)


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Memory]:
    with open_memory(tmp_path / "life.db") as opened:
        yield opened
