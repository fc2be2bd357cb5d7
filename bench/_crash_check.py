"""Comparing a store that processes were killed at with what their notes say must be there."""

from __future__ import annotations

import json
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

from bench._cheap import first_sentence, mark_of
from bench._crash_book import NEVER, Book
from bench._crash_copies import damage_of
from bench._crash_notes import (
    ALL,
    BATCH,
    GRACE_MICROS,
    USERS,
    Json,
    Place,
    Said,
    import_said,
    said_by,
)
from mnemic import Memory
from mnemic.memory import ScopedMemory
from mnemic.transfer.exporting import export_lines

SAMPLE = 400  # After the last kill.
PHASES = ("before the commit", "between the commits", "after")
# Each row of the first has its row in the second.
PAIRS = """records.id terms.record|records.id support.record|messages.id support.message|
terms.record records.id|vectors.record records.id|support.record records.id|support.message messages.id"""
TWICE = """SELECT count(*) FROM (SELECT 1 FROM records WHERE status = 'current'
    GROUP BY scope, fingerprint HAVING count(*) > 1)"""
NUMBERS = "SELECT key, CAST(value AS INTEGER) FROM meta WHERE key IN ('embedder', 'embedder_next')"
MARK = re.compile(rb"zq[bcdfghjkmnprtvwy]{12}x")


class Checker:
    """Holds a store against a book, and takes into it what the killed calls left."""

    def __init__(self, file: Path, book: Book) -> None:
        self.file, self.book, self.tally = file, book, book.tally
        self.undone = set[bytes]()

    def rows(self, query: str) -> list[Any]:
        with closing(sqlite3.connect(self.file)) as connection:
            return connection.execute(query).fetchall()

    def check(self, memory: Memory, rng: Random, sample: int) -> None:
        """Compare the store with what must be there, and take in what the killed calls left."""
        if damage := damage_of(self.file):
            self.tally.fault("damaged", damage)
            return
        self.check_rows()
        self.check_vectors()
        found, pinned = dict[Place, Said](), dict[Place, bool]()
        for user in USERS:
            handle = memory.user(user)
            records = {record.id: record.pinned for record in handle.iter_memories()}
            pinned.update({(user, id): on for id, on in records.items()})
            for place, said in self.exported(handle, records.keys()):
                if place in found:
                    self.tally.fault("half", f"{place} is there twice")
                found[place] = said
        self.settle(found)
        book = self.book
        for place in book.alive.keys() & found.keys():
            if book.alive[place][:3] != found[place][:3]:
                self.tally.fault("changed", f"{place} is not what was said")
        book.alive = {place: said for place, said in found.items() if place not in book.erased}
        self.check_pins(pinned)
        self.check_receipts(memory)
        self.check_recall(memory, rng, sample)

    # --- what the killed calls left --------------------------------------------------------------

    def settle(self, found: dict[Place, Said]) -> None:
        """Nothing may be too much or missing but what the killed calls did, and that is all of it."""
        book = self.book
        gone = book.alive.keys() - found.keys()
        new = [place for place in found if place not in book.alive and place not in book.erased]
        if back := found.keys() & book.erased.keys():
            self.tally.fault("resurrected", f"{sorted(back)} were forgotten", len(back))
        jobs = {row[0] for row in self.rows("SELECT id FROM jobs WHERE kind = 'scrub'")}
        for intent in book.pending:
            if intent["do"] == "remember":
                new = self.settle_remember(intent, found, new)
            elif intent["do"] == "import":
                new = self.settle_import(intent, found, new)
            elif intent["do"] == "forget":
                gone = self.settle_forget(intent, found, gone, jobs)
            elif intent["do"] in ("pin", "open", "reembed"):
                self.tally.phases[self.phase_of(intent)] += 1
        self.undone = jobs
        if gone:
            self.tally.fault("missing", f"{sorted(gone)} were acknowledged", len(gone))
        if new:
            self.tally.fault("half", f"{new} are there, and nobody said them", len(new))

    def settle_remember(
        self, intent: Json, found: dict[Place, Said], new: list[Place]
    ) -> list[Place]:
        """All of a list is there, or nothing; returns what is new besides."""
        book, user, said = self.book, intent["user"], said_by(intent)
        if user == ALL:
            ids = [message["id"] for message in intent["messages"]]
            mine = [(user, id) for id in ids if (user, id) in new]
            # Another may have seen it already, and forgotten some of it.
            named = set().union(*(book.named(other) for other in book.pending)) - found.keys()
            stay = [(user, id) not in book.erased.keys() | named for id in ids]
            said = [item for item, stays in zip(said, stay, strict=True) if stays]
        else:
            mine = [place for place in new if place[0] == user]
        if mine and [found[place][:3] for place in mine] != [item[:3] for item in said]:
            self.tally.fault("half", f"{len(mine)} messages of a list are there: {intent}")
        have = {str(UUID(bytes=row[0])) for row in self.rows("SELECT record FROM vectors")}
        waits = any(not found[place].memories <= have for place in mine)
        self.tally.phases[f"remember, {PHASES[0 if not mine else 1 if waits else 2]}"] += 1
        if mine:
            book.add(intent, NEVER, {place: found[place] for place in mine})
        return [place for place in new if place not in mine]

    def settle_import(
        self, intent: Json, found: dict[Place, Said], new: list[Place]
    ) -> list[Place]:
        """Whole batches are there, from the beginning of the file."""
        book, number = self.book, intent["number"]
        said = import_said(book.seed, number)
        mine = [place for place in said if place in found]
        if mine != list(said)[: len(mine)] or (len(mine) % BATCH and len(mine) < len(said)):
            self.tally.fault("half", f"{len(mine)} of {len(said)} messages: {intent}")
        if not intent.get("raised"):
            again = sum(place in book.base for place in said) == len(said)
            step = 0 if not mine else 1 if len(mine) < len(said) else 2
            where = ("before the first batch", "between batches", "after the last batch")[step]
            self.tally.phases["import, again" if again else f"import, {where}"] += 1
        for start in range(book.imported.get(number, 0), len(mine), BATCH):
            line = {"t": NEVER}
            book.take_import(intent, line, start, min(start + BATCH, len(mine)))
        return [place for place in new if place not in said]

    def settle_forget(
        self, intent: Json, found: dict[Place, Said], gone: set[Place], jobs: set[bytes]
    ) -> set[Place]:
        """All that an erasure must take is gone, or nothing of it; returns what is gone besides."""
        book, victims = self.book, self.book.victims(intent)
        taken = gone & victims
        if intent["user"] == ALL:
            taken |= book.named(intent) - found.keys()
            others = [other for other in book.pending if other is not intent]
            victims -= set().union(*(book.named(other) for other in others))
        if taken and not victims <= taken:
            self.tally.fault("half", f"{len(taken)} of {len(victims)} messages went: {intent}")
        step = 0 if not taken else 1 if jobs - self.undone else 2
        what = "forget everything" if intent["by"] == "everything" else "forget"
        self.tally.phases[f"{what}, {PHASES[step]}"] += 1
        book.take(intent, NEVER, taken)
        book.unclean |= {mark_of(book.erased[place].content) for place in taken}
        return gone - taken

    def phase_of(self, intent: Json) -> str:
        """Where a call was hit that changes no messages."""
        if intent["do"] == "pin":
            return "pin"
        if intent["do"] == "open":
            part = {"upgrading": "while tables are made", "upgraded": "as they are committed"}
            what = "migration" if intent["migrates"] else "open"
            return f"{what}, {part.get(intent.get('part', ''), 'before that, or without')}"
        known = {
            key: str(value).split("|")[2]
            for key, value in self.rows("SELECT * FROM meta")
            if key in ("embedder", "embedder_next")
        }
        if known.get("embedder") == intent["to"]:
            return "reembed, after the change"
        moving = known.get("embedder_next") == intent["to"]
        return f"reembed, {'while vectors are made' if moving else 'before it begins'}"

    # --- what must be so -------------------------------------------------------------------------

    def exported(self, handle: ScopedMemory, records: Any) -> Iterator[tuple[Place, Said]]:
        """The messages as the export has them, each held against its memories."""
        for line in islice(export_lines(handle), 1, None):
            item = json.loads(line)
            content, at, gaps, ids = item["content"], 0, "", set[str]()
            for span in item["memories"]:
                gaps, at = gaps + content[at : span["start"]], max(at, span["stop"])
                ids.add(span["id"] if "id" in span else span["repeats"])
            if (gaps + content[at:]).strip() or not ids <= records:
                self.tally.fault("half", f"{item['id']} lacks a passage, or its memory")
            place = (handle.scope.name, item["id"])
            yield place, Said(item["session"], item["name"], content, frozenset(ids))

    def check_pins(self, pinned: dict[Place, bool]) -> None:
        """What was pinned is, and nothing else; a killed call may have done it or not."""
        book = self.book
        open_ = {(i["user"], i["key"]) for i in book.pending if i["do"] == "pin"}
        for place, on in pinned.items():
            if on != book.pins.get(place, False) and place not in open_:
                self.tally.fault("changed", f"the pin of {place} is {on}")
        book.pins = {place: on for place, on in pinned.items() if on}

    def check_receipts(self, memory: Memory) -> None:
        """Every acknowledged memory can be got, unless all that said it was forgotten."""
        alive = self.book.alive
        there = {id for said in alive.values() for id in said.memories}
        for places, memories in self.book.receipts:
            stay = [alive[place] for place in places if place in alive]
            said = {id for item in stay for id in item.memories}
            if not said <= memories or (len(stay) == len(places) and said != memories):
                says = f"the memories of {places} aren't those of their receipt"
                self.tally.fault("missing", says)
            got = {id for id in memories if memory.user(places[0][0]).get(id)}
            if got != memories & there:
                self.tally.fault("missing", f"of the memories of {places}, not all can be got")
            self.tally.checked["memories got"] += len(got)

    def check_rows(self) -> None:
        """No row is without those that belong to it."""
        for pair in PAIRS.split("|"):
            (table, key), (other, column) = (name.split(".") for name in pair.split())
            query = f"""SELECT count(*) FROM {table} AS a WHERE NOT EXISTS (SELECT 1 FROM {other} AS b
                WHERE b.scope = a.scope AND b.{column} = a.{key})"""
            if number := self.rows(query)[0][0]:
                self.tally.fault("half", f"{number} rows of {table} without {other}", number)
        if number := self.rows(TWICE)[0][0]:
            self.tally.fault("half", f"{number} memories are there twice", number)

    def check_vectors(self) -> None:
        """A memory has its vector, or a job that makes it; none is of an embedder that was left."""
        numbers = dict(self.rows(NUMBERS))
        if "embedder" not in numbers:
            return
        self.check_move()
        known = ",".join(str(number) for number in numbers.values())
        query = f"SELECT count(*) FROM vectors WHERE embedder NOT IN ({known})"
        if number := self.rows(query)[0][0]:
            self.tally.fault(
                "left_undone", f"{number} vectors of an embedder that was left", number
            )
        payloads = self.rows("SELECT payload FROM jobs WHERE kind = 'embed'")
        due = {row[0][at : at + 16] for row in payloads for at in range(0, len(row[0]), 16)}
        query = f"""SELECT id FROM records AS r WHERE NOT EXISTS (SELECT 1 FROM vectors AS v WHERE
            v.scope = r.scope AND v.record = r.id AND v.embedder = {numbers["embedder"]})"""
        if late := {row[0] for row in self.rows(query)} - due:
            self.tally.fault(
                "left_undone", f"{len(late)} memories without vector or job", len(late)
            )

    def check_move(self) -> None:
        """The store has the embedder that it was moved to last, where the notes tell which that was."""
        moves = sorted(self.book.moves, key=lambda move: move[1])
        if not moves or any(begun > moves[-1][0] for begun, _, _ in moves[:-1]):
            return
        query = "SELECT value FROM meta WHERE key = 'embedder'"
        name = str(self.rows(query)[0][0]).split("|")[2]
        if moves[-1][1] < NEVER and name != moves[-1][2]:
            self.tally.fault("missing", f"the move to {moves[-1][2]}; the store has {name}")

    def check_recall(self, memory: Memory, rng: Random, sample: int) -> None:
        """What is there is found by its own words, and what was forgotten isn't."""
        alive, dead = self.book.alive, self.book.dead()
        for place in rng.sample(sorted(alive), min(sample, len(alive))):
            hits = memory.user(place[0]).recall(
                first_sentence(alive[place].content), limit=3, min_relevance=0
            )
            if hits.error or not any(place[1] in hit.memory.message_ids for hit in hits):
                self.tally.fault("not_recalled", f"{place} by its own words ({hits.error})")
        for place in rng.sample(sorted(dead), min(sample, len(dead))):
            hits = memory.user(place[0]).recall(
                first_sentence(dead[place].content), min_relevance=0
            )
            if any(mark_of(dead[place].content) in hit.memory.text.casefold() for hit in hits):
                self.tally.fault("resurrected", f"{place} was forgotten, and is recalled")
        self.tally.checked["recalls"] += min(sample, len(alive)) + min(sample, len(dead))

    def finish(self, memory: Memory, rng: Random) -> None:
        """After the last kill: upkeep finishes everything; what was said is found, the rest isn't."""
        time.sleep(GRACE_MICROS / 1e6 + 0.1)
        stats = memory.operator.upkeep()
        waiting = sum(row.without_vector for row in stats.scopes)
        if waiting or stats.jobs:
            says = f"{waiting} memories without vector, jobs {dict(stats.jobs)}"
            self.tally.fault("left_undone", says)
        self.check_recall(memory, rng, SAMPLE)
        self.book.unclean.clear()

    def check_bytes(self) -> None:
        """No byte is left of what was acknowledged as erased. The store is open nowhere."""
        files = [Path(f"{self.file}{suffix}") for suffix in ("", "-wal")]
        content = b"".join(file.read_bytes() for file in files if file.exists()).lower()
        left = {mark.decode() for mark in MARK.findall(content)} - self.book.unclean
        for place, said in self.book.dead().items():
            if mark_of(said.content) in left:
                self.tally.fault("not_erased", f"bytes of {place} are left in the files")
