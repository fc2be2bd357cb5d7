"""Whether the backups that killed processes left are whole, and hold one moment of the store."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from random import Random

from bench._cheap import first_sentence
from bench._crash_book import NEVER, Book, Step, Window
from bench._crash_notes import OWN, SLOTS, Place, Said, embedder_of
from mnemic import Memory
from mnemic.errors import MnemicError
from mnemic.settings import Settings

Content = dict[Place, Said]
_CONTENT = """SELECT s.name, m.message_id, m.session, m.name, m.content FROM messages AS m
    JOIN scopes AS s ON s.scope = m.scope"""


def content_of(file: Path) -> Content:
    """The messages of a store, read without opening it as one."""
    with closing(sqlite3.connect(f"{file.as_uri()}?mode=rw", uri=True)) as connection:
        rows = connection.execute(_CONTENT).fetchall()
    return {(user, id): Said(session or None, name, text) for user, id, session, name, text in rows}


def damage_of(file: Path) -> str:
    """What SQLite finds wrong with a file; empty where nothing is."""
    try:
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=rw", uri=True)) as connection:
            found = connection.execute("PRAGMA integrity_check").fetchall()
    except sqlite3.DatabaseError as error:
        return str(error)
    return "" if found == [("ok",)] else str(found)


class Copies:
    """The backups in a folder, from round to round."""

    def __init__(self, folder: Path, book: Book, real_model: bool) -> None:
        self.folder, self.book, self.real_model = folder, book, real_model
        self.tally = book.tally
        self.seen: dict[str, list[int]] = {}

    def check(self, round: int, rng: Random, left_beside: Callable[[str], bool]) -> None:
        """Look at every backup under its final name, and at what lies beside it."""
        killed: dict[str, float] = {}
        for intent in self.book.pending:
            if intent["do"] == "backup":
                killed[intent["path"]] = min(intent["t"], killed.get(intent["path"], NEVER))
        made = []
        for path in sorted(self.folder.glob("backup-*.db")):
            at = path.stat()
            file = [at.st_ino, at.st_mtime_ns, at.st_size]
            if self.seen.get(path.name) != file:
                made.append(path)
                self.look(path, file, killed)
            self.seen[path.name] = file
        for name in self.book.backups.keys() - self.seen.keys():
            self.tally.fault("missing", f"{name}, which was acknowledged")
        self.count_killed(killed, {path.name for path in made}, left_beside)
        self.check_parts(killed)
        if made:
            self.open(rng.choice(made), rng)
        for path in self.folder.glob(f"backup-{round}-*"):
            path.unlink()
            self.seen.pop(path.name, None)

    def count_killed(
        self, killed: dict[str, float], made: set[str], left_beside: Callable[[str], bool]
    ) -> None:
        """Count where backups were hit."""
        for name in killed:
            known = [window.file for window in self.book.backups.get(name, ())]
            step = "before it begins, or after"
            if left_beside(name):
                step = "while it is written"
            elif name in made and self.seen[name] not in known:
                step = "after it was put in place"
            self.tally.phases[f"backup, {step}"] += 1

    def check_parts(self, killed: dict[str, float]) -> None:
        """A backup that returned leaves nothing beside it."""
        for path in self.folder.glob("backup-*.db.*"):
            name = path.name.split(".db")[0] + ".db"
            if name in self.book.backups and name not in killed:
                self.tally.fault("left_undone", f"{path.name} is left of a backup that returned")

    def look(self, path: Path, file: list[int], killed: dict[str, float]) -> None:
        """Hold one backup against the moments that it may be of."""
        self.tally.checked["backups"] += 1
        if damage := damage_of(path):
            self.tally.fault("damaged", f"{path.name}: {damage}")
            return
        # Of two that write to one name, the first to return may find the other's file there.
        acked = self.book.backups.get(path.name, [])
        windows = [window for window in acked if window.file == file]
        if path.name in killed:
            windows.append(Window(killed[path.name], NEVER, None))
        if not windows:
            self.tally.fault("changed", f"{path.name} is no backup that anybody made")
            return
        content = content_of(path)
        found = [list(self.differences(content, window)) for window in windows]
        for kind, says in min(found, key=len):
            self.tally.fault(kind, f"{path.name}: {says}")

    def differences(self, content: Content, window: Window) -> Iterator[tuple[str, str]]:
        """Where a backup isn't the store at any moment of the time in which it was made."""
        alone = {f"{name}{slot}" for slot in SLOTS for name in OWN}
        for slot in SLOTS:
            users = {f"{name}{slot}" for name in OWN}
            mine = {place: s for place, s in content.items() if place[0] in users}
            base = {place: s for place, s in self.book.base.items() if place[0] in users}
            steps = [step for step in self.book.steps if step.slot == slot]
            states = list(_states(base, [s for s in steps if _users(s) & users], window))
            if not any(_same(mine, state) for state in states):
                lost = [p for p in states[0] if all(p in s for s in states) and p not in mine]
                kind = "missing" if lost else "half"
                yield kind, f"users of {slot} as they never were; missing {lost[:5]}"
        shared = {place: s for place, s in content.items() if place[0] not in alone}
        yield from self.shared_differences(shared, alone, window)

    def shared_differences(
        self, content: Content, alone: set[str], window: Window
    ) -> Iterator[tuple[str, str]]:
        """The same for users whom several write to: by each call's beginning and end alone."""
        steps = [step for step in self.book.steps if not _users(step) & alone]
        must = {place for place in self.book.base if place[0] not in alone}
        may, gone, going = {*must}, set[Place](), set[Place]()
        for step in steps:
            if step.ended < window.begun:
                must |= step.added.keys()
                gone |= step.taken
            if step.begun <= window.ended:
                may |= step.added.keys()
                going |= step.taken
        if lost := must - going - content.keys():
            yield "missing", f"{sorted(lost)[:5]} were there before it began"
        if back := content.keys() & gone:
            yield "resurrected", f"{sorted(back)[:5]} were forgotten before it began"
        if new := content.keys() - may:
            yield "half", f"{sorted(new)[:5]} were not there before it ended"
        for step in steps:
            stay = step.added.keys() - going
            there = stay & content.keys()
            if there and there != stay:
                yield "half", f"{len(there)} of {len(stay)} messages of one call"

    def open(self, path: Path, rng: Random) -> None:
        """Put a backup in place elsewhere, open that, and ask for something."""
        place, content = self.folder / "restored.db", content_of(path)
        try:
            Memory.restore(path, place, replace=True)
        except MnemicError as error:
            self.tally.fault("raised", f"the restore of {path.name}: {error!r}")
            return
        with closing(sqlite3.connect(place)) as connection:
            row = connection.execute("SELECT value FROM meta WHERE key = 'embedder'").fetchone()
        name = None if row is None else str(row[0]).split("|")[2]
        embedder = embedder_of(name, self.real_model)
        with Memory(place, embedder=embedder, settings=Settings()) as memory:
            if memory.operator.stats().messages != len(content):
                self.tally.fault("missing", f"{path.name} has more messages than its restore")
            for user, id in rng.sample(sorted(content), min(3, len(content))):
                asked = first_sentence(content[user, id].content)
                hits = memory.user(user).recall(asked, limit=3, min_relevance=0)
                if not any(id in hit.memory.message_ids for hit in hits):
                    self.tally.fault("not_recalled", f"{id} of a restored {path.name}")
        self.tally.checked["backups restored and asked"] += 1


def _users(step: Step) -> set[str]:
    return {user for user, _ in (*step.added, *step.taken)}


def _states(base: Content, steps: list[Step], window: Window) -> Iterator[Content]:
    """The states that the calls of one process went through in a window of time."""
    state = dict(base)
    for step in steps:
        if step.ended >= window.begun:
            yield dict(state)
        if step.begun > window.ended:
            return
        state.update(step.added)
        for place in step.taken:
            state.pop(place, None)
    yield state


def _same(content: Content, state: Content) -> bool:
    return content.keys() == state.keys() and all(
        content[place][:3] == state[place][:3] for place in content
    )


def remove(path: Path) -> None:
    """Remove a database with what lies beside it."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        with suppress(FileNotFoundError):
            os.remove(f"{path}{suffix}")
