"""What the tests of the agent share: a memory, agents on it, and no model from the environment."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mnemic.agent import MemoryAgent
from mnemic.memory import Memory
from mnemic.testing import ScriptedServer
from tests.fakes import open_memory

Make = Callable[..., MemoryAgent]


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("MNEMIC_", "OPENAI_"))]:
        monkeypatch.delenv(name)


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Memory]:
    with open_memory(tmp_path / "life.db") as opened:
        yield opened


@pytest.fixture
def agent_of(memory: Memory) -> Iterator[Make]:
    made: list[MemoryAgent] = []

    def make(server: ScriptedServer, **given: Any) -> MemoryAgent:
        made.append(MemoryAgent(memory, "any", base_url=server.url, **given))
        return made[-1]

    yield make
    for agent in made:
        agent.close()
