"""The flow of a write: read, commit, embed, commit the vectors; each step's time on the receipt.

The messages are durable before the embedder is asked. If it fails, they are found by their words,
and a job in the outbox has the vectors made later.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from mnemic.errors import BadVector, EmbedderError, StoreError
from mnemic.models.embedder import Embedder, embed_coded
from mnemic.records import MemoryRecord, Message, Receipt, Scope
from mnemic.stores.derived import DerivedRows
from mnemic.stores.known import KnownEmbedder
from mnemic.stores.outbox import Job, Outbox
from mnemic.stores.rows import Appended, Embedded, NewMessage, chunks, from_id, pack_vectors
from mnemic.stores.store import Store
from mnemic.timing import Timer
from mnemic.writing.messages import digest_of
from mnemic.writing.passages import passages_of, text_to_embed

# Vectors are committed in batches of this many, so that a long import can be taken up again.
EMBED_BATCH = 512


@dataclass(frozen=True, slots=True)
class Writer:
    """What a write needs: the rows and the model that makes their vectors."""

    store: Store
    derived: DerivedRows
    outbox: Outbox
    embedder: Embedder
    known: KnownEmbedder

    def remember(self, scope: Scope, read: Sequence[tuple[Message, bool]], timer: Timer) -> Receipt:
        """Commit messages that were read, each with whether its id was given; then their vectors."""
        with timer.step("read"):
            new = [self.prepare(message, id_given) for message, id_given in read]
        return self.commit(scope, new, timer)

    def prepare(self, message: Message, id_given: bool) -> NewMessage:
        """Cut a message into passages."""
        return NewMessage(
            message, digest_of(message), passages_of(message, self.embedder), id_given
        )

    def commit(self, scope: Scope, new: Sequence[NewMessage], timer: Timer) -> Receipt:
        """Commit prepared messages, then their vectors."""
        with timer.step("commit"):
            done = self.append(scope, new)
        error = self.embed(scope, done, timer)
        return receipt_of(new, done, error, timer)

    def append(self, scope: Scope, new: Sequence[NewMessage]) -> Appended:
        """The first of the two commits: prepared messages, on disk when this returns."""
        return self.store.append(scope, self.known, new) if new else Appended()

    def embed(self, scope: Scope, done: Appended, timer: Timer) -> str | None:
        """The second: the vectors of what was appended; says why where they have to follow later."""
        batches = list(chunks(done.to_embed, EMBED_BATCH))
        for number, batch in enumerate(batches, 1):
            try:
                with timer.step("embed"):
                    texts = [text_to_embed(speaker, text) for _, speaker, text in batch]
                    vectors, codes = embed_coded(self.embedder, texts)
                with timer.step("vectors"):
                    packed = zip(batch, pack_vectors(vectors), codes, strict=True)
                    made = [Embedded(*passage, vector, code) for passage, vector, code in packed]
                    job = done.job if number == len(batches) else None
                    self.store.add_vectors(scope, self.known, made, job)
            except (EmbedderError, StoreError) as error:
                return f"{error} (the words are safe; the vectors follow)"
        return None

    def finish(self, job: Job) -> None:
        """Make the vectors that a job is due, and take it out of the outbox."""
        if job.scope is None:
            self.outbox.finish(job.scope_key, job.id)
            return
        keys = [job.payload[at : at + 16] for at in range(0, len(job.payload), 16)]
        self.embed_records(job.scope, self.derived.due(job.scope, self.known, keys))
        self.outbox.finish(job.scope_key, job.id)

    def embed_records(self, scope: Scope, records: Sequence[tuple[bytes, MemoryRecord]]) -> None:
        """Make and commit the vectors of records.

        Raises `BadVector` for one that the embedder can't do, after the others are done.
        """
        refused = None
        for some in chunks(records, EMBED_BATCH):
            try:
                self._embed_some(scope, some)
            except BadVector as error:
                refused = error
                for one in some if len(some) > 1 else ():
                    with suppress(BadVector):
                        self._embed_some(scope, [one])
        if refused is not None:
            raise refused

    def _embed_some(self, scope: Scope, records: Sequence[tuple[bytes, MemoryRecord]]) -> None:
        texts = [text_to_embed(record.speaker, record.text) for _, record in records]
        vectors, codes = embed_coded(self.embedder, texts)
        packed = zip(records, pack_vectors(vectors), codes, strict=True)
        made = [Embedded(key, r.speaker, r.text, v, code) for (key, r), v, code in packed]
        self.store.add_vectors(scope, self.known, made, None)


def receipt_of(
    new: Sequence[NewMessage], done: Appended, error: str | None, timer: Timer
) -> Receipt:
    """What the two commits of prepared messages did; `error` is what held up their vectors."""
    return Receipt(
        message_ids=tuple(item.message.id for item in new),
        memory_ids=tuple(from_id(key) for key in dict.fromkeys(done.memory_ids)),
        made=len(done.to_embed),
        state="unchanged" if not done.stored else "committed" if error else "indexed",
        skipped=tuple(done.skipped),
        error=error,
        timings_ms=timer.spent,
    )
