"""What a context says already, so that nothing is said in it twice. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from mnemic.context.result import Dropped
from mnemic.records import Hit, MemoryRecord, Turn

_SPACE = re.compile(r"\s+")
_SENTENCE = re.compile(r"(?<=[.!?\u2026])\s+|\n+")


def folded(text: str) -> str:
    """A text without its case, its white space and its final stops.

    >>> folded("I like  Tea.") == folded("i like tea")
    True
    """
    return _SPACE.sub(" ", text).strip().rstrip(".!\u2026 ").casefold()


class Unsaid:
    """Tells which recalled memories a context doesn't say already."""

    def __init__(self, query: str, turns: Iterable[Turn], facts: Sequence[MemoryRecord]) -> None:
        messages = [turn.message for turn in turns]
        self._messages = {(m.session, m.id) for m in messages}
        self._said = {folded(query), *(folded(m.content) for m in messages)}
        self._said.update(folded(fact.text) for fact in facts)
        self._facts = {fact.id for fact in facts}
        self._summary = ""

    def also(self, summary: str) -> None:
        """Take note of what a summary says."""
        self._summary = f" {folded(summary)} "

    def of(self, hits: Sequence[Hit]) -> tuple[list[Hit], list[Dropped]]:
        """The hits that say something new, without the sentences that a summary holds."""
        new: list[Hit] = []
        dropped: list[Dropped] = []
        for hit in hits:
            memory = hit.memory
            text = folded(memory.text)
            why = self._why_not(memory, text)
            if why is None and self._summary:
                hit = self._without_summed_up(hit)
                why = None if hit.memory.text else "said in the summary"
            if why is None:
                new.append(hit)
                self._said.add(text)
            else:
                dropped.append(Dropped("memory", memory.id, why))
        return new, dropped

    def _why_not(self, memory: MemoryRecord, text: str) -> str | None:
        if memory.id in self._facts:
            return "in the profile"
        if any((memory.session, message) in self._messages for message in memory.message_ids):
            return "among the session's turns"
        return "said already" if text in self._said else None

    def _without_summed_up(self, hit: Hit) -> Hit:
        sentences = [part for part in _SENTENCE.split(hit.memory.text) if part.strip()]
        left = [part for part in sentences if folded(part) not in self._summary]
        if len(left) == len(sentences):
            return hit
        return replace(hit, memory=replace(hit.memory, text=" [...] ".join(left)))
