"""Choosing what fits: recalled memories and facts within a number of tokens. Pure.

Sizes are added up line by line, which is close; the caller counts the whole and asks for less if need be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import tzinfo

from mnemic.context.fence import day_of, line_of, words_of
from mnemic.context.result import Dropped
from mnemic.layers.working.rendering import ChatCounter
from mnemic.records import Hit, MemoryRecord

# A memory that doesn't fit whole is cut to what is left, if that is worth reading.
LEAST_PIECE = 64


def pack_hits(
    hits: Sequence[Hit], most: int, counter: ChatCounter, zone: tzinfo
) -> tuple[list[Hit], list[Dropped]]:
    """Take hits, best first, while their lines and the days above them fit; the rest makes way.

    The first that doesn't fit is cut at a sentence border; later ones are taken if they fit whole.
    """
    taken: list[Hit] = []
    dropped: list[Dropped] = []
    days: set[object] = set()
    left, cut = most, False
    for hit in hits:
        # No word is less than a token, and counting a line takes far longer.
        if cut and len(hit.memory.text.split()) > left:
            dropped.append(Dropped("memory", hit.memory.id, "no room beside better ones"))
            continue
        day = day_of(hit.memory, zone)
        above = 0 if day in days else counter.text(f"{day}\n")
        size = above + counter.text(line_of(hit.memory, zone) + "\n")
        if size > left and not cut and left - above >= LEAST_PIECE:
            cut = True
            hit = _shortened(hit, left - above, counter, zone)
            size = above + counter.text(line_of(hit.memory, zone) + "\n")
        if size <= left:
            taken.append(hit)
            days.add(day)
            left -= size
        else:
            dropped.append(Dropped("memory", hit.memory.id, "no room beside better ones"))
    return taken, dropped


def _shortened(hit: Hit, most: int, counter: ChatCounter, zone: tzinfo) -> Hit:
    frame = counter.text(line_of(replace(hit.memory, text=""), zone) + "\n")
    text = counter.cut(hit.memory.text, max(most - frame - 4, 0))
    return replace(hit, memory=replace(hit.memory, text=text))


def fact_line(fact: MemoryRecord, zone: tzinfo) -> str:
    """A fact as a line of the profile: since when it is known, and by whom, where not by the user."""
    day = day_of(fact, zone).isoformat()
    known = day if fact.source == "user" else f"noted by the {fact.source}, {day}"
    return f"- {words_of(fact, zone)} ({known})"


def pack_facts(
    facts: Sequence[MemoryRecord], most: int, counter: ChatCounter, zone: tzinfo
) -> tuple[list[MemoryRecord], list[Dropped]]:
    """Take facts in their order while they fit; the rest is left to recall."""
    taken: list[MemoryRecord] = []
    dropped: list[Dropped] = []
    left = most
    for fact in facts:
        size = counter.text(fact_line(fact, zone) + "\n")
        if size <= left:
            taken.append(fact)
            left -= size
        else:
            dropped.append(Dropped("fact", fact.id, "no room in the profile"))
    return taken, dropped
