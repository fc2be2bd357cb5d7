"""For people who test with Mnemic, or test parts of their own: fakes, a scripted model, contracts.

    FakeEmbedder, MeasuringEmbedder, FailingEmbedder    embedders that need no model
    ScriptedServer, Reply, ToolCall, Request            a model server that says what its script says
    EmbedderContract, MemoryContract, RecentTurnsContract    suites to subclass, with pytest or without
    failures                                            runs one and returns what failed

Nothing here needs pytest, and `import mnemic` doesn't load it.
"""

from __future__ import annotations

from mnemic.testing.contract import failures
from mnemic.testing.embedders import EmbedderContract
from mnemic.testing.fakes import FailingEmbedder, FakeEmbedder, MeasuringEmbedder
from mnemic.testing.memories import MemoryContract
from mnemic.testing.server import Request, ScriptedServer
from mnemic.testing.turns import RecentTurnsContract
from mnemic.testing.wire import Reply, ToolCall

__all__ = [
    "EmbedderContract",
    "FailingEmbedder",
    "FakeEmbedder",
    "MeasuringEmbedder",
    "MemoryContract",
    "RecentTurnsContract",
    "Reply",
    "Request",
    "ScriptedServer",
    "ToolCall",
    "failures",
]
