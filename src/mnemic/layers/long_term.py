"""Long-term memory: episodes and facts, the two faces of one store, asked at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Unpack

from mnemic.layers.asking import Narrowing
from mnemic.layers.episodic import EpisodicMemory
from mnemic.layers.facts import FactFields
from mnemic.layers.parts import Handle
from mnemic.layers.semantic import SemanticMemory
from mnemic.records import MemoryRecord, Recall, Receipt
from mnemic.writing.messages import RememberInput


@dataclass(frozen=True, slots=True)
class LongTermRecall:
    """What answers a question: what was said, and what is known, each best first."""

    query: str
    episodes: Recall
    facts: Recall

    @property
    def text(self) -> str:
        """The facts, then the episodes, rendered a line each."""
        return "\n".join(part.text for part in (self.facts, self.episodes) if part)


class LongTermMemory:
    """Episodes and facts of one user, agent or shared space, given its handle."""

    def __init__(self, handle: Handle) -> None:
        self.episodes = EpisodicMemory(handle)
        self.facts = SemanticMemory(handle)

    def remember(self, said: RememberInput, *, session: str | None = None) -> Receipt:
        """Commit what was said, as the handle's `remember` does."""
        return self.episodes.remember(said, session=session)

    def remember_fact(
        self,
        text: str,
        *,
        confidence: float = 1.0,
        said_at: datetime | str | float | None = None,
        valid_from: datetime | str | float | None = None,
        valid_to: datetime | str | float | None = None,
        message_ids: Sequence[str] = (),
        **more: Unpack[FactFields],
    ) -> MemoryRecord:
        """Commit a fact, as `Facts.remember` does."""
        return self.facts.remember(
            text,
            confidence=confidence,
            said_at=said_at,
            valid_from=valid_from,
            valid_to=valid_to,
            message_ids=message_ids,
            **more,
        )

    def recall(
        self, question: str, *, episodes: int = 5, facts: int = 5, **narrowed: Unpack[Narrowing]
    ) -> LongTermRecall:
        """Find what answers a question in both: at most so many episodes and facts, best first.

        Narrowed as the handle's `recall` is, which ranks both kinds in one list; a `budget` is each one's.
        """
        return LongTermRecall(
            question,
            self.episodes.recall(question, limit=episodes, **narrowed),
            self.facts.recall(question, limit=facts, **narrowed),
        )
