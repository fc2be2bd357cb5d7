"""The outbox: work that is still to be done, and who is at it. It holds ids, never text.

A job is made in the transaction that makes the work, and deleted in the one that finishes it. Until
`run_at` it is left to whoever made or took it; a process that died at it is found out by that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import uniform

from sqlalchemy import case, func, select, update

from mnemic.records import Scope
from mnemic.stores import schema
from mnemic.stores.appending import finish_job
from mnemic.stores.database import Database
from mnemic.stores.rows import now_micros

# Whoever takes a job has this long; after that another may take it.
LEASE_MICROS = 60_000_000
# The wait after a failure doubles from the first to the longest; then the job is left to a person.
FIRST_WAIT_MICROS = 30_000_000
LONGEST_WAIT_MICROS = 3_600_000_000
MAX_ATTEMPTS = 20


@dataclass(frozen=True, slots=True)
class Job:
    """A piece of work. The payload holds ids."""

    scope: Scope | None
    scope_key: bytes
    id: bytes
    kind: str
    payload: bytes
    attempts: int


class Outbox:
    """The jobs of one database."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def due(self, kind: str, limit: int, *, all: bool = False) -> list[Job]:
        """Jobs that nobody is at work on, oldest first; with `all`, those that wait for a retry too."""
        jobs, scopes = schema.jobs, schema.scopes
        query = (
            select(jobs, scopes.c.tenant, scopes.c.kind.label("scope_kind"), scopes.c.name)
            .outerjoin(scopes, scopes.c.scope == jobs.c.scope)
            .where(jobs.c.kind == kind)
            .order_by(jobs.c.run_at)
            .limit(limit)
        )
        if not all:
            query = query.where(jobs.c.run_at <= now_micros(), jobs.c.state != "failed")
        with self.database.read() as connection:
            rows = connection.execute(query).all()
        return [
            Job(
                None if row.name is None else Scope(row.tenant, row.scope_kind, row.name),
                bytes(row.scope),
                bytes(row.id),
                row.kind,
                bytes(row.payload),
                row.attempts,
            )
            for row in rows
        ]

    def take(self, job: Job) -> bool:
        """Lease a job; False where another was quicker."""
        return self._change(job, job.attempts, "leased", LEASE_MICROS, job.attempts + 1)

    def put_back(self, job: Job, why: str) -> None:
        """Give up a job that was taken: it waits, longer each time, and in the end for a person."""
        attempts = job.attempts + 1
        wait = min(FIRST_WAIT_MICROS << min(job.attempts, 20), LONGEST_WAIT_MICROS)
        state = "waiting" if attempts < MAX_ATTEMPTS else "failed"
        # Spread out, so that many processes don't come back at one moment.
        self._change(job, attempts, state, int(wait * uniform(0.75, 1.25)), attempts, why)

    def finish(self, scope_key: bytes, job: bytes) -> None:
        """Take a finished job out of the outbox."""
        with self.database.write(durable=False) as connection:
            finish_job(connection, scope_key, job)

    def counts(self) -> Mapping[tuple[str, str], int]:
        """How many jobs of each kind are `under way`, `due`, `waiting` for a retry, or `failed`."""
        jobs = schema.jobs
        state = case(
            (jobs.c.state == "failed", "failed"),
            (jobs.c.run_at <= now_micros(), "due"),
            (jobs.c.attempts > 0, jobs.c.state),
            else_="leased",
        ).label("now")
        query = select(jobs.c.kind, state, func.count()).group_by(jobs.c.kind, state)
        with self.database.read() as connection:
            found = connection.execute(query).all()
        return {(kind, "under way" if now == "leased" else now): int(n) for kind, now, n in found}

    def _change(
        self, job: Job, held: int, state: str, wait: int, attempts: int, why: str | None = None
    ) -> bool:
        jobs = schema.jobs
        statement = (
            update(jobs)
            .where(jobs.c.scope == job.scope_key, jobs.c.id == job.id, jobs.c.attempts == held)
            .values(state=state, attempts=attempts, run_at=now_micros() + wait, error=why)
        )
        with self.database.write(durable=False) as connection:
            return bool(connection.execute(statement).rowcount)
