"""Recalled memories as a fenced block: by day, with who said them and which dates they mean. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, tzinfo

from mnemic.context.dates import resolved
from mnemic.layers.quoting import MEMORIES, fenced, quoted
from mnemic.records import Hit, MemoryRecord


def line_of(memory: MemoryRecord, zone: tzinfo) -> str:
    """A memory as a line: who said it, and what."""
    who = " ".join(quoted(memory.speaker or memory.source).split())
    return f"{who}: {words_of(memory, zone)}"


def words_of(memory: MemoryRecord, zone: tzinfo) -> str:
    """The words, which dates the "yesterday" in them and the like mean, and when a fact holds."""
    dates = resolved(memory.text, memory.said_at.astimezone(zone))
    meant = "; ".join(f"{phrase} = {label}" for phrase, label in dates)
    holds = f" ({memory.holds})" if memory.holds else ""
    return f"{quoted(memory.text)}{f' [{quoted(meant)}]' if meant else ''}{holds}"


def day_of(memory: MemoryRecord, zone: tzinfo) -> date:
    """The day on which a memory was said, to the user."""
    return memory.said_at.astimezone(zone).date()


def body_of(memories: Sequence[MemoryRecord], zone: tzinfo) -> str:
    """Memories in the order in which they were said, under the day of each."""
    lines: list[str] = []
    last: date | None = None
    for memory in sorted(memories, key=lambda m: (m.said_at, m.recorded_at, m.id)):
        day = day_of(memory, zone)
        if day != last:
            lines.append(day.isoformat())
            last = day
        lines.append(line_of(memory, zone))
    return "\n".join(lines)


def fence(hits: Sequence[Hit], zone: tzinfo) -> str:
    """Recalled memories as a fenced block; empty where there are none."""
    memories = [hit.memory for hit in hits]
    return fenced(MEMORIES, body_of(memories, zone)) if memories else ""
