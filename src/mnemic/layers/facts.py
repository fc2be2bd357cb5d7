"""Facts: what is so, each with its confidence, when it holds, and the messages that say it.

Here they are written by hand, or by an application. How a scope's facts are rendered for a model is
`context`'s.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypedDict, Unpack

from mnemic.layers.asking import Narrowing, ask
from mnemic.layers.parts import Parts
from mnemic.layers.tending import erase, look_after
from mnemic.records import Erasure, MemoryRecord, Recall, Scope, Source
from mnemic.retrieval.ask import read_whole
from mnemic.stores.rows import require_id, to_id
from mnemic.timing import Timer
from mnemic.writing.facts import read_fact
from mnemic.writing.passages import make_passage

MAX_PROFILE = 1_000
_PAGE = 500


class FactFields(TypedDict, total=False):
    """What else may be said of a fact; what isn't given is as `Facts.remember` says."""

    importance: float
    pinned: bool
    source: Source
    session: str | None
    expires_at: datetime | str | float | None
    tags: Sequence[str]
    metadata: Mapping[str, Any] | None


class Facts:
    """The facts of one scope. Nothing here reaches beyond it.

    A fact is a memory of the kind `semantic`: `get`, `history`, `pin`, `unpin` and `iter_memories` of the
    scope's handle serve facts too, and its `recall` finds them beside what was said.
    """

    def __init__(self, parts: Parts, scope: Scope) -> None:
        self._parts = parts
        self._scope = scope

    def remember(
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
        """Commit a fact: a sentence or two. On disk when this returns, and seen by the next recall.

        `said_at` is when it was learned (now). `valid_from` and `valid_to` say when it holds; without
        them, always. `message_ids` are your ids of messages that say it; `session` says where, if
        several sessions use an id. Besides: `importance` (0.5), `pinned`, `source` ("user"), `tags`,
        `metadata`, `expires_at`.

        The same again (words, source, labels and times of validity) makes no second fact: further
        messages support it, and the higher confidence and importance stay. Raises `InputError`, also for
        a message that isn't there, and then nothing was changed.
        """
        given: dict[str, Any] = {
            "confidence": confidence,
            "said_at": said_at,
            "valid_from": valid_from,
            "valid_to": valid_to,
            "message_ids": message_ids,
            **more,
        }
        new = read_fact(text, given, datetime.now(UTC))
        writer = self._parts.writer()
        record, done = self._parts.fact_rows.remember(self._scope, writer.known, new)
        # Without its vector it is found by its words; the job that it left makes the vector later.
        error = writer.embed(self._scope, done, Timer())
        look_after(self._parts, heal=error is None)
        return record

    def recall(self, question: str, *, limit: int = 10, **narrowed: Unpack[Narrowing]) -> Recall:
        """Find the facts that answer a question, best first; narrowed as the handle's `recall` is.

        Facts that no longer hold are found too: `valid_to` says so, and so does their rendered line.
        """
        by = {"kinds": ["semantic"], "limit": limit}
        return ask(self._parts, self._scope, question, narrowed, **by)

    def get(self, id: str) -> MemoryRecord | None:
        """The fact of an id; None where this scope has no such fact (any more)."""
        key = to_id(id)
        found = {} if key is None else self._parts.store.find_records(self._scope, [key])
        return next((record for record in found.values() if record.kind == "semantic"), None)

    def iter_facts(self) -> Iterator[MemoryRecord]:
        """Every fact of this scope in the order of recording, read a page at a time."""
        after = b""
        while page := self._parts.fact_rows.page(self._scope, after, _PAGE):
            yield from (record for _, record in page)
            after = page[-1][0]

    def profile(self, limit: int = 20) -> list[MemoryRecord]:
        """The facts that a prompt should hold: those that hold now, the most important first.

        The pinned come first, then the others by importance times confidence, then the newest.
        """
        limit = read_whole(limit, "limit", MAX_PROFILE)
        return self._parts.fact_rows.profile(self._scope, limit)

    def forget(self, id: str, *, keep_messages: bool = False) -> Erasure:
        """Erase a fact with every message that says it, as the handle's `forget` does.

        With `keep_messages` the fact goes alone, say because it was wrong: what was said stays, and is
        found by recall. Anything but a fact is left as it is, and `absent`.
        """
        key = require_id(id)
        if self.get(id) is None:
            return Erasure("absent")
        rows, scope = self._parts.store, self._scope
        return erase(
            self._parts,
            scope,
            lambda: rows.erase_memory(scope, key, make_passage, keep_messages=keep_messages),
        )
