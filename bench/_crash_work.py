"""What the processes do that `crash.py` kills: each notes a call before it begins and after it returned."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count, cycle
from multiprocessing.connection import Connection
from random import Random
from typing import Any

from bench._cheap import first_sentence, mark_of, text_of
from bench._crash_notes import (
    ALL,
    EXTRA,
    FILES,
    IMPORTS,
    OWN,
    SAID_BY_ALL,
    Json,
    Log,
    Plan,
    embedder_names,
    embedder_of,
    hurry,
    import_path,
    import_said,
    newer,
)
from mnemic import Memory
from mnemic.errors import EmbedderMismatch, StoreBusy, StoreTooNew
from mnemic.memory import ScopedMemory
from mnemic.records import MemoryRecord
from mnemic.settings import Settings
from mnemic.stores import database
from mnemic.transfer.importing import ImportReport, import_file

# Errors that a process meets where others move the store away from under it: it opens it again.
MOVED = (EmbedderMismatch, StoreBusy, StoreTooNew)
STEPS = 5_000
WEIGHTS = (62, 22, 10, 3)


def work(plan: Plan, parent: Connection) -> None:
    """The life of a process: it says that it is ready, is let go, and works until it is killed."""
    hurry()
    log = Log(plan.log)
    if plan.real_model:
        embedder_of(None, True).embed(["wake up"])
    parent.send("ready")
    parent.recv()
    try:
        if plan.role in ("restorer", "reader"):
            restore(plan, log) if plan.role == "restorer" else read(plan, log)
        else:
            worker = Worker(plan, log)
            for step in worker.steps():
                worker.tried(step)
    except BaseException:
        log.note(broke=traceback.format_exc())
    parent.recv()


def restore(plan: Plan, log: Log) -> None:
    """Put two backups in the same place, in turn, without end."""
    for number in cycle(range(len(plan.backups))):
        log.note(do="restore", number=number)
        restored = Memory.restore(plan.backups[number], plan.file, replace=True)
        log.note(ack=restored.messages)


def read(plan: Plan, log: Log) -> None:
    """Look again and again at a store that others put backups in the place of."""
    made = embedder_of(plan.embedder, plan.real_model)
    with Memory(plan.file, embedder=made, settings=Settings()) as memory:
        while True:
            log.note(do="look")
            stats = memory.operator.stats()
            hits = memory.user(EXTRA).recall("what was said in between")
            log.note(ack=stats.messages, hits=len(hits), why=hits.error)


class Worker:
    """A process of any role: all of them remember and forget, most also do something of their own."""

    def __init__(self, plan: Plan, log: Log) -> None:
        self.plan, self.note = plan, log.note
        self.rng, self.call = Random(f"{plan.seed}/{plan.round}/{plan.slot}"), 0
        self.own = [f"{name}{plan.slot}" for name in OWN]
        self.crowded = [user for user in plan.crowded if user in self.own]
        self.left = [*plan.sessions]
        self.embedder = plan.embedder
        self.memory: Memory | None = None
        upgrade = database._upgrade

        def noted(*args: Any) -> None:
            self.note(part="upgrading")
            upgrade(*args)
            self.note(part="upgraded")

        database._upgrade = noted  # type: ignore[assignment]

    @property
    def store(self) -> Memory:
        """The store, opened if it isn't, with the embedder that it has."""
        if self.memory is None:
            self.memory = self.open(self.embedder)
            found = self.memory.operator.stats().embedder
            if found is not None and found != self.memory._core.embedder.name:
                self.memory.close()
                self.memory, self.embedder = None, found
                return self.store
        return self.memory

    def open(self, embedder: str | None) -> Memory:
        plan = self.plan
        self.note(do="open", migrates=plan.migrations is not None and plan.role != "old")
        with newer(None if plan.role == "old" else plan.migrations):
            made = embedder_of(embedder, plan.real_model)
            memory = Memory(plan.file, embedder=made, settings=Settings())
        self.note(ack="opened")
        return memory

    def tried(self, step: Callable[[], None]) -> None:
        """Do a step; where the store has moved on, close it, so that the next one opens it anew."""
        self.call += 1
        try:
            step()
        except MOVED as error:
            self.note(error=type(error).__name__, says=str(error))
            if self.memory is not None:
                self.memory.close()
                self.memory = None
            time.sleep(0.005)

    def steps(self) -> Iterator[Callable[[], None]]:
        """What to do, one thing after another."""
        own = {"importer": self.imports, "mover": self.moves, "keeper": self.backs_up}
        special = own[self.plan.role]() if self.plan.role in own else iter(())
        for _ in range(STEPS):
            yield from [step for step in [next(special, None)] if step is not None]
            for _ in range(self.rng.randint(0, 3) if self.plan.role in own else 1):
                user = self.rng.choice([*self.own, ALL])
                does = self.rng.choices(
                    [self.remember, self.forget, self.pin, self.clear], WEIGHTS
                )[0]
                yield partial(does, user)

    # --- what all of them do ---------------------------------------------------------------------

    def remember(self, user: str) -> None:
        rng, plan = self.rng, self.plan
        session = rng.choice([None, *(f"s{plan.round}-{plan.slot}-{n}" for n in range(4))])
        if user == ALL and session is None:
            session = f"s{plan.round}-{plan.slot}-0"
        number = 1 if rng.random() < 0.6 else rng.randint(2, 12)
        messages = [self.message(n, user) for n in range(number)]
        alone = messages[0] if len(messages[0]) > 2 else messages[0]["content"]
        given = alone if number == 1 and rng.random() < 0.8 else messages
        handle = self.store.user(user)
        self.note(do="remember", user=user, session=session, messages=messages)
        receipt = handle.remember(given, session=session)
        self.note(ack=list(receipt.message_ids), memories=list(receipt.memory_ids))
        if user != ALL and rng.random() < 0.1:
            self.look_for(handle, messages[-1]["content"])

    def message(self, number: int, user: str) -> Json:
        rng, plan = self.rng, self.plan
        place = (plan.slot, plan.round % 4096, self.call % 4096, number)
        if rng.random() < 0.15:  # Again what was said earlier, or may have been.
            earlier = rng.randint(max(0, plan.round - 20), plan.round)
            place = (plan.slot, earlier % 4096, rng.randint(1, 20), rng.randint(0, 2))
            if user == ALL:
                place = (SAID_BY_ALL, rng.randint(0, 30), 0, 0)
        name, text = text_of(plan.seed, *place)
        if len(text) < 200 and rng.random() < 0.1:
            text = text.upper()
        id = f"r{plan.round}p{plan.slot}n{self.call}k{number}"
        message = {"role": "user", "content": text, "name": name}
        message["id"] = id if user == ALL or rng.random() < 0.6 else None
        return {key: value for key, value in message.items() if value is not None}

    def look_for(self, handle: ScopedMemory, text: str) -> None:
        """What this process has just said, it finds."""
        hits = handle.recall(first_sentence(text), limit=5, min_relevance=0)
        if not any(mark_of(text) in hit.memory.text.casefold() for hit in hits):
            self.note(fault="not_recalled", says=f"{text[:60]!r}, just after it was remembered")

    def found(self, user: str) -> MemoryRecord | None:
        """Some memory of a user, by asking for something that may have been said."""
        rng, plan = self.rng, self.plan
        earlier = plan.round - rng.choice([0, 0, 0, 1, 2, 5])
        place = (plan.slot, max(0, earlier) % 4096, rng.randint(1, max(20, self.call)), 0)
        asked = first_sentence(text_of(plan.seed, *place)[1])
        hits = self.store.user(user).recall(asked, limit=3, min_relevance=0)
        return rng.choice(hits).memory if hits else None

    def forget(self, user: str) -> None:
        """Forget a session, or something that is recalled, of this round or an earlier one."""
        rng, plan, text = self.rng, self.plan, None
        by = rng.choice(("message", "session") if user == ALL else ("message", "memory", "session"))
        earlier = rng.choice((plan.round, rng.randint(max(0, plan.round - 5), plan.round)))
        key = f"s{earlier}-{plan.slot}-{rng.randint(0, 3)}"
        if user == ALL and self.left and rng.random() < 0.8:
            by, key = "session", self.left.pop()
        if by != "session":
            if (record := self.found(user)) is None:
                return
            key, text = record.message_ids[0] if by == "message" else record.id, record.text
        self.erase(user, by, key, text)

    def clear(self, user: str) -> None:
        """Forget everything of a user of one's own who has too much, or now and then."""
        if user == ALL:
            self.forget(user)
        elif self.crowded:
            self.erase(self.crowded.pop(), "everything", None, None)
        elif self.rng.random() < 0.1:
            self.erase(user, "everything", None, None)

    def erase(self, user: str, by: str, key: str | None, text: str | None) -> None:
        handle = self.store.user(user)
        self.note(do="forget", user=user, by=by, key=key, text=text)
        if by == "everything" or key is None:
            erasure = handle.forget_everything()
        elif by == "session":
            erasure = handle.forget_session(key)
        else:
            erasure = handle.forget(message_id=key) if by == "message" else handle.forget(key)
        self.note(ack=erasure.messages, state=erasure.state)

    def pin(self, user: str) -> None:
        """Pin a memory, or take the pin off; where others do it too, pins only."""
        if (record := self.found(user)) is None:
            return
        on = user == ALL or self.rng.random() < 0.7
        handle = self.store.user(user)
        self.note(do="pin", user=user, key=record.id, on=on)
        self.note(ack=handle.pin(record.id) if on else handle.unpin(record.id))

    # --- what some do ----------------------------------------------------------------------------

    def imports(self) -> Iterator[Callable[[], None]]:
        """Forget what an earlier import brought, then import files, some of them twice."""
        plan = self.plan
        for drop in plan.drop:
            yield partial(self.erase, IMPORTS[drop % 2], "session", f"import{drop}", None)
        for number in range(plan.first_file, plan.first_file + FILES):
            for _ in range(self.rng.randint(1, 2)):
                yield partial(self.import_one, number)

    def import_one(self, number: int) -> None:
        path, store = import_path(self.plan.file.parent, number), self.store
        self.note(do="import", number=number)

        def progress(report: ImportReport) -> None:
            self.note(part=report.messages + report.there_already)

        done = import_file(store, path, progress=progress)
        assert len(import_said(self.plan.seed, number)) == done.messages + done.there_already
        self.note(ack=done.messages + done.there_already, new=done.messages)

    def moves(self) -> Iterator[Callable[[], None]]:
        """Move the store to another embedder, again and again."""
        while True:
            yield self.move

    def move(self) -> None:
        names, here = embedder_names(self.plan.real_model), self.store._core.embedder.name
        self.store.close()
        self.memory, self.embedder = None, self.rng.choice([n for n in names if n != here])
        self.memory = self.open(self.embedder)
        self.note(do="reembed", to=self.embedder)
        made = self.memory.operator.reembed(lambda done: self.note(part=done))
        self.note(ack=made)

    def backs_up(self) -> Iterator[Callable[[], None]]:
        """Make backups, of new names or over the last one."""
        for number in count():
            plan, new = self.plan, self.rng.random() < 0.6
            mine = f"{plan.round}-{plan.slot}-{number}"
            name = mine if new else self.rng.choice([f"{plan.slot}", "shared"])
            yield partial(self.back_up, name)

    def back_up(self, name: str) -> None:
        operator = self.store.operator
        path = self.plan.file.parent / f"backup-{name}.db"
        self.note(do="backup", path=path.name)
        operator.backup(path, lambda done, of: self.note(part=done), replace=True)
        at = path.stat()
        self.note(ack=[at.st_ino, at.st_mtime_ns, at.st_size])
