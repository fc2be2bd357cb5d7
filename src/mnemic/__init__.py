"""Mnemic: memory for LLM applications.

>>> import tempfile, pathlib
>>> from mnemic import Memory
>>> folder = tempfile.TemporaryDirectory()
>>> memory = Memory(pathlib.Path(folder.name) / "life.db")
>>> ana = memory.user("ana")
>>> receipt = ana.remember("I moved to Lisbon.")
>>> ana.recall("where does she live?")[0].memory.text
'I moved to Lisbon.'
>>> memory.close(); folder.cleanup()

Importing this loads nothing heavy; each name is fetched from its room at first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mnemic.agent import AsyncReplyStream, MemoryAgent, Reply, ReplyStream
    from mnemic.aio import AsyncMemory, AsyncScopedMemory
    from mnemic.context.result import Context, Dropped
    from mnemic.errors import (
        AmbiguousMessage,
        BadVector,
        BudgetTooSmall,
        EmbedderError,
        EmbedderMismatch,
        EmbedderUnavailable,
        IdConflict,
        InputError,
        MissingExtra,
        MnemicError,
        ModelError,
        ModelRefused,
        ModelUnavailable,
        StoreBusy,
        StoreClosed,
        StoreError,
        StoreFull,
        StoreMoved,
        StoreReadOnly,
        StoreTooNew,
        StoreUnreadable,
        VersionConflict,
    )
    from mnemic.layers.episodic import EpisodicMemory
    from mnemic.layers.long_term import LongTermMemory
    from mnemic.layers.semantic import SemanticMemory
    from mnemic.layers.sensory import AsyncSensoryBuffer, SensoryBuffer
    from mnemic.layers.short_term import ShortTermMemory
    from mnemic.layers.working.rendering import ChatCounter
    from mnemic.layers.working.summary import SummarizationMemory
    from mnemic.layers.working.window import ContextWindow, SlidingWindowMemory
    from mnemic.memory import Memory, ScopedMemory
    from mnemic.models.embedder import Embedder
    from mnemic.models.llm import LanguageModel
    from mnemic.records import (
        Change,
        Erasure,
        Example,
        Finding,
        Hit,
        Loaded,
        MemoryRecord,
        Message,
        Procedure,
        Recall,
        Receipt,
        Scope,
        ScopeStats,
        Skipped,
        StoreStats,
        StreamStats,
    )

__version__ = "0.1.0"

_ROOMS = {
    "mnemic.context.result": ("Context", "Dropped"),
    "mnemic.memory": ("Memory", "ScopedMemory"),
    "mnemic.agent": ("AsyncReplyStream", "MemoryAgent", "Reply", "ReplyStream"),
    "mnemic.aio": ("AsyncMemory", "AsyncScopedMemory"),
    "mnemic.layers.sensory": ("AsyncSensoryBuffer", "SensoryBuffer"),
    "mnemic.layers.episodic": ("EpisodicMemory",),
    "mnemic.layers.long_term": ("LongTermMemory",),
    "mnemic.layers.semantic": ("SemanticMemory",),
    "mnemic.layers.short_term": ("ShortTermMemory",),
    "mnemic.layers.working.rendering": ("ChatCounter",),
    "mnemic.layers.working.summary": ("SummarizationMemory",),
    "mnemic.layers.working.window": ("ContextWindow", "SlidingWindowMemory"),
    "mnemic.models.embedder": ("Embedder",),
    "mnemic.models.llm": ("LanguageModel",),
    "mnemic.records": (
        "Change",
        "Erasure",
        "Example",
        "Finding",
        "Hit",
        "Loaded",
        "MemoryRecord",
        "Message",
        "Procedure",
        "Recall",
        "Receipt",
        "Scope",
        "ScopeStats",
        "Skipped",
        "StoreStats",
        "StreamStats",
    ),
    "mnemic.errors": (
        "AmbiguousMessage",
        "BadVector",
        "BudgetTooSmall",
        "EmbedderError",
        "EmbedderMismatch",
        "EmbedderUnavailable",
        "IdConflict",
        "InputError",
        "MissingExtra",
        "MnemicError",
        "ModelError",
        "ModelRefused",
        "ModelUnavailable",
        "StoreBusy",
        "StoreClosed",
        "StoreError",
        "StoreFull",
        "StoreMoved",
        "StoreReadOnly",
        "StoreTooNew",
        "StoreUnreadable",
        "VersionConflict",
    ),
}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}

__all__ = [
    "AmbiguousMessage",
    "AsyncMemory",
    "AsyncReplyStream",
    "AsyncScopedMemory",
    "AsyncSensoryBuffer",
    "BadVector",
    "BudgetTooSmall",
    "Change",
    "ChatCounter",
    "Context",
    "ContextWindow",
    "Dropped",
    "Embedder",
    "EmbedderError",
    "EmbedderMismatch",
    "EmbedderUnavailable",
    "EpisodicMemory",
    "Erasure",
    "Example",
    "Finding",
    "Hit",
    "IdConflict",
    "InputError",
    "LanguageModel",
    "Loaded",
    "LongTermMemory",
    "Memory",
    "MemoryAgent",
    "MemoryRecord",
    "Message",
    "MissingExtra",
    "MnemicError",
    "ModelError",
    "ModelRefused",
    "ModelUnavailable",
    "Procedure",
    "Recall",
    "Receipt",
    "Reply",
    "ReplyStream",
    "Scope",
    "ScopeStats",
    "ScopedMemory",
    "SemanticMemory",
    "SensoryBuffer",
    "ShortTermMemory",
    "Skipped",
    "SlidingWindowMemory",
    "StoreBusy",
    "StoreClosed",
    "StoreError",
    "StoreFull",
    "StoreMoved",
    "StoreReadOnly",
    "StoreStats",
    "StoreTooNew",
    "StoreUnreadable",
    "StreamStats",
    "SummarizationMemory",
    "VersionConflict",
]


def __getattr__(name: str) -> Any:
    room = _ROOM_OF.get(name)
    if room is None:
        raise AttributeError(f"module 'mnemic' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(room), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
