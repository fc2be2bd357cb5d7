"""Working the outbox off: one job at a time is leased, done, and finished or put back.

A job may be done twice (a lease ran out while its holder was slow): every kind changes nothing then.
"""

from __future__ import annotations

from dataclasses import dataclass

from mnemic.errors import BadVector, EmbedderError, StoreError
from mnemic.stores.outbox import Outbox
from mnemic.stores.rows import now_micros
from mnemic.stores.store import COPIES, SCRUB
from mnemic.stores.streaming import STREAM, StreamRows
from mnemic.stores.turns import MOST_TTL, RecentTurns
from mnemic.timing import Timer
from mnemic.writing.forget import Eraser
from mnemic.writing.remember import Writer

# How many jobs of a kind one round looks at.
MAX_JOBS = 64
MAX_SCRUBS = 1_000
# And one that is to do all of them.
MAX_ALL = 100_000


@dataclass(frozen=True, slots=True)
class Worker:
    """Who does the jobs. With `all`, also those that are leased, or wait for a retry."""

    outbox: Outbox
    all: bool = False

    def scrub(self, eraser: Eraser) -> None:
        """Remove the bytes of erasures that a reader, or a crash, stood in the way of."""
        jobs = self.outbox.due(SCRUB, MAX_ALL if self.all else MAX_SCRUBS, all=self.all)
        taken = [job for job in jobs if self.outbox.take(job)]
        if not taken:
            return
        try:
            why = None if eraser.rewrite() else "a reader holds the file"
        except StoreError as error:
            why = error.code
        for job in taken:
            if why is None:
                self.outbox.finish(job.scope_key, job.id)
            else:
                self.outbox.put_back(job, why)

    def drop_copies(self, turns: RecentTurns) -> None:
        """Delete the copies of forgotten turns that couldn't be reached."""
        for job in self.outbox.due(COPIES, MAX_ALL if self.all else MAX_JOBS, all=self.all):
            if not self.outbox.take(job):
                continue
            keys = [job.payload[at : at + 16] for at in range(0, len(job.payload), 16)]
            # No copy outlives its longest life. A job's id has the milliseconds at which it was made.
            made_at = int.from_bytes(job.id[:6], "big") * 1_000
            over = now_micros() - made_at > MOST_TTL.total_seconds() * 1_000_000
            if not over and not turns.drop(job.scope_key, keys):
                self.outbox.put_back(job, "the place of short-term memory doesn't answer")
                return  # nor will it for the next one
            self.outbox.finish(job.scope_key, job.id)

    def recover(self, streams: StreamRows, writer: Writer) -> None:
        """Make messages, marked as interrupted, of replies whose process died while they were said."""
        for job in self.outbox.due(STREAM, MAX_ALL if self.all else MAX_JOBS, all=self.all):
            # None is leased: whoever comes second finds nothing left to do.
            if job.scope is None:
                self.outbox.finish(job.scope_key, job.id)
                continue
            message = streams.find_lost(job.scope, job.payload)
            if message is None:
                continue
            new = writer.prepare(message, False)
            done = streams.recover(job.scope, writer.known, job.payload, new)
            if done is not None:
                writer.embed(job.scope, done, Timer())

    def embed(self, writer: Writer) -> None:
        """Make the vectors that a writer which died, or a failing model, left undone.

        Raises the embedder's error; what was made before it stays.
        """
        refused = None
        for job in self.outbox.due("embed", MAX_ALL if self.all else MAX_JOBS, all=self.all):
            if not self.outbox.take(job):
                continue
            try:
                writer.finish(job)
            except BadVector as error:
                # This job's own fault; the next may be well.
                self.outbox.put_back(job, error.code)
                refused = error
            except EmbedderError as error:
                self.outbox.put_back(job, error.code)
                raise
        if refused is not None:
            raise refused
