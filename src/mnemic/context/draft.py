"""A context in the making: what is in it, how it is rendered, and what gives way first. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, tzinfo

from mnemic.context.fence import body_of
from mnemic.context.pack import fact_line
from mnemic.context.result import Dropped, Rendered, as_text
from mnemic.layers.procedural import render as render_procedures
from mnemic.layers.quoting import MEMORIES, PROFILE, fenced, summed_up
from mnemic.layers.working.rendering import ChatCounter
from mnemic.layers.working.units import Unit
from mnemic.records import Hit, MemoryRecord, Procedure, Summary


@dataclass(slots=True)
class Draft:
    """The parts of a context. `procedures` has those that must stay first, `fixed` of them.

    `facts` and `hits` have the most important first; `units` are in the order in which they were said.
    """

    query: str
    zone: tzinfo
    today: date
    system: Sequence[str] = ()
    procedures: list[Procedure] = field(default_factory=list)
    fixed: int = 0
    facts: list[MemoryRecord] = field(default_factory=list)
    summary: Summary | None = None
    summed_up: str = ""
    units: list[Unit] = field(default_factory=list)
    hits: list[Hit] = field(default_factory=list)

    def messages(self) -> list[Rendered]:
        """The messages to send."""
        said = [dict(message) for unit in self.units for message in unit.rendered]
        if self.summary is not None:
            # A turn of the user's own, or at the head of one: some models take no two in a row.
            block = summed_up(self.summed_up)
            if said and said[0]["role"] == "user" and isinstance(said[0]["content"], str):
                said[0]["content"] = f"{block}\n\n{said[0]['content']}"
            else:
                said.insert(0, {"role": "user", "content": block})
        system = self._system()
        first = [{"role": "system", "content": system}] if system else []
        return [*first, *said, {"role": "user", "content": f"{self._recalled()}{self.query}"}]

    def size(self, counter: ChatCounter) -> int:
        """Tokens, counted from scratch: of the messages or of the plain text, whichever is more."""
        messages = self.messages()
        return max(counter.messages(messages), counter.text(as_text(messages)))

    def shed(self, counter: ChatCounter, most: int) -> list[Dropped]:
        """Let go of what matters least until the whole has at most so many tokens, or nothing may go."""
        gone: list[Dropped] = []
        while (over := self.size(counter) - most) > 0:
            dropped = self._shed_some(counter, over)
            if not dropped:
                break
            gone += dropped
        return gone

    def _shed_some(self, counter: ChatCounter, over: int) -> list[Dropped]:
        why = "no room in the budget"
        if self.hits:
            gone: list[Dropped] = []
            while self.hits and over > 0:
                hit = self.hits.pop()
                over -= counter.text(hit.memory.text)
                gone.append(Dropped("memory", hit.memory.id, why))
            return gone
        if self.units:
            return [Dropped("turn", t.message.id, why) for t in self.units.pop(0).turns]
        if self.summary is not None:
            self.summary = None
            return [Dropped("summary", None, why)]
        if self.facts:
            return [Dropped("fact", self.facts.pop().id, why)]
        if len(self.procedures) > self.fixed:
            return [Dropped("instruction", self.procedures.pop().id, why)]
        return []

    def _system(self) -> str:
        parts = [*self.system]
        if self.procedures:
            parts.append(render_procedures(self.procedures))
        if self.facts:
            lines = "\n".join(fact_line(fact, self.zone) for fact in self.facts)
            parts.append(fenced(PROFILE, lines))
        return "\n\n".join(parts)

    def _recalled(self) -> str:
        if not self.hits:
            return ""
        body = body_of([hit.memory for hit in self.hits], self.zone)
        return fenced(MEMORIES, body, asked=self.today.isoformat()) + "\n\n"
