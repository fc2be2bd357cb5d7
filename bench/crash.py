"""What survives `kill -9`: a writer is killed again and again, and after each kill the store is checked.

The writer notes each call in a file before it begins (intent) and after it returned (ack). From those
notes alone the checker works out what the store must hold, and compares. One database lives through
all kills. (A killed process loses nothing that the system has taken: this doesn't stand for a power cut.)
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from itertools import islice, product
from pathlib import Path
from random import Random
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from mnemic import Memory
from mnemic.memory import ScopedMemory
from mnemic.models.embedder import Embedder
from mnemic.models.minilm import MiniLM
from mnemic.settings import Settings
from mnemic.stores import appending, store
from mnemic.transfer.exporting import export_lines

Json = dict[str, Any]
Place = tuple[str, str]  # A user, and a message's id.

USERS = ("ana", "ben", "cy", "dee")
NAMES = (None, "Ana", "Ben")
WORDS = ["".join(parts) for parts in product("blmtvz", "aeiou", "dnrks", ["o", "y", "ew"])]
# In the writers, so that what one left undone is soon due to the next, or to the checker.
GRACE_MICROS = 1_000_000
SAMPLE = 40
PHASES = ("before the commit", "between the commits", "after")
BROKEN = "missing changed half resurrected not_erased damaged left_undone not_recalled".split()
# Each row of the first has its row in the second.
PAIRS = """records.id terms.record|records.id support.record|messages.id support.message|
terms.record records.id|vectors.record records.id|support.record records.id|support.message messages.id"""


class HashedWords:
    """An embedder that costs little: a bag of hashed words, and some sleep to be killed in."""

    name = "hashed-words"
    dimensions = 64

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        time.sleep(Random().random() * 0.003)
        rows = np.full((len(texts), self.dimensions), 1e-3, dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            for word in re.findall(r"\w+", text.casefold()):
                row[zlib.crc32(word.encode()) % self.dimensions] += 1
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def text_of(seed: int, *place: int) -> tuple[str | None, str]:
    """Who says what at a place (round, call, message); each sentence begins with a word of its own."""
    rng = Random(f"{seed} {place}")
    mark = "zq" + "".join("bcdfghjkmnprtvwy"[int(d, 16)] for n in place for d in f"{n:03x}") + "x"
    sentences = 1 if rng.random() < 0.9 else rng.randint(12, 40)
    said = [" ".join([mark, *rng.choices(WORDS, k=rng.randint(6, 16))]) for _ in range(sentences)]
    return rng.choice(NAMES), ". ".join(said) + "."


class Scribe:
    """The writer: remembers and forgets without end, and notes each call before and after."""

    def __init__(self, memory: Memory, log: int, seed: int, round: int) -> None:
        self.memory, self.log, self.seed, self.round = memory, log, seed, round
        self.rng, self.call = Random(f"{seed}/{round}"), 0

    def note(self, **line: Any) -> None:
        os.write(self.log, json.dumps({"call": self.call, **line}).encode() + b"\n")

    def remember(self, user: str) -> None:
        rng = self.rng
        session = rng.choice([None, *(f"s{self.round}-{n}" for n in range(4))])
        count = 1 if rng.random() < 0.6 else rng.randint(2, 12)
        messages = [self.message(number) for number in range(count)]
        alone = messages[0] if len(messages[0]) > 2 else messages[0]["content"]
        given = alone if count == 1 and rng.random() < 0.8 else messages
        self.note(do="remember", user=user, session=session, messages=messages)
        receipt = self.memory.user(user).remember(given, session=session)
        self.note(ack=list(receipt.message_ids), memories=list(receipt.memory_ids))

    def message(self, number: int) -> Json:
        rng, place = self.rng, (self.round, self.call, number)
        if rng.random() < 0.15:  # Again what was said earlier, or may have been.
            place = (rng.randint(0, self.round), rng.randint(1, 20), rng.randint(0, 2))
        name, text = text_of(self.seed, *place)
        if len(text) < 200 and rng.random() < 0.1:
            text = text.upper()
        id = f"r{self.round}n{self.call}k{number}" if rng.random() < 0.6 else None
        message = {"role": "user", "content": text, "name": name, "id": id}
        return {key: value for key, value in message.items() if value is not None}

    def forget(self, user: str) -> None:
        """Forget a session, or something that is recalled, of this round or an earlier one."""
        rng, handle, text = self.rng, self.memory.user(user), None
        by = rng.choice(("message", "memory", "session"))
        round = rng.choice((self.round, rng.randint(0, self.round)))
        key = f"s{round}-{rng.randint(0, 3)}"
        if by != "session":
            question = text_of(self.seed, round, rng.randint(1, self.call), 0)[1].split(".")[0]
            if not (hits := handle.recall(question, limit=3)):
                return
            record = rng.choice(hits).memory
            key, text = record.message_ids[0] if by == "message" else record.id, record.text
        self.note(do="forget", user=user, by=by, key=key, text=text)
        if by == "session":
            erasure = handle.forget_session(key)
        else:
            erasure = handle.forget(message_id=key) if by == "message" else handle.forget(key)
        self.note(ack=erasure.messages, state=erasure.state)


def write_until_killed(args: argparse.Namespace) -> None:
    appending.EMBED_GRACE_MICROS = store.SCRUB_GRACE_MICROS = GRACE_MICROS
    embedder: Embedder = MiniLM() if args.real_model else HashedWords()
    embedder.embed(["wake up"])
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)
    log = os.open(args.child.with_suffix(f".{args.round}"), flags)
    print("ready", flush=True)
    if not sys.stdin.readline():
        sys.exit("the checker has gone")
    with Memory(args.child, embedder=embedder, settings=Settings()) as memory:
        scribe = Scribe(memory, log, args.seed, args.round)
        for scribe.call in range(1, 5_000):
            user = scribe.rng.choice(USERS)
            scribe.forget(user) if scribe.rng.random() < 0.16 else scribe.remember(user)


class Said(NamedTuple):
    """A message that the store must hold, or holds; the memories are those of the export."""

    session: str | None
    name: str | None
    content: str
    memories: frozenset[str] = frozenset()


def mark_of(text: str) -> str:
    """The word that only this text, or one that repeats it, holds."""
    return text.split(" ", 1)[0].casefold()


class Checker:
    """What must be there, by the notes alone, and what was found not to be so."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.alive: dict[Place, Said] = {}
        self.erased: dict[Place, Said] = {}
        self.receipts: list[tuple[list[Place], set[str]]] = []
        self.pending: Json | None = None
        self.undone, self.unclean = set[bytes](), set[str]()
        self.acked, self.phases, self.faults = Counter[str](), Counter[str](), Counter[str]()

    def fault(self, kind: str, says: str, times: int = 1) -> None:
        self.faults[kind] += times
        print(f"{kind}: {says}"[:500], file=sys.stderr)

    def replay(self, log: Path) -> None:
        """Follow the notes of one round; the last may be torn, the last call without its ack."""
        self.pending = None
        for line in map(json.loads, log.read_bytes().split(b"\n")[:-1]):
            if "do" in line:
                self.pending = line
            elif self.pending is not None:
                self.acknowledge(self.pending, line)
                self.pending = None

    def acknowledge(self, intent: Json, ack: Json) -> None:
        if intent["do"] == "forget":
            self.acked[f"forgets, {ack['state']}"] += 1
            victims = self.victims(intent)
            if len(victims) != ack["ack"]:
                self.fault("half", f"{intent} took {ack['ack']} messages, not {len(victims)}")
            self.erased.update({place: self.alive.pop(place) for place in victims})
            return
        self.acked.update({"writes": 1, "messages": len(ack["ack"])})
        places = [(intent["user"], id) for id in ack["ack"]]
        self.receipts.append((places, set(ack["memories"])))
        self.alive.update(zip(places, said_by(intent), strict=True))

    def victims(self, intent: Json) -> set[Place]:
        """The messages that an erasure must take."""
        mine = {place: said for place, said in self.alive.items() if place[0] == intent["user"]}
        key, text = intent["key"], intent["text"]
        if intent["by"] == "message":
            return {(intent["user"], key)} & mine.keys()
        if intent["by"] == "session":
            return {place for place, said in mine.items() if said.session == key}
        return {place for place, said in mine.items() if mark_of(said.content) == mark_of(text)}

    def check(self, memory: Memory) -> None:
        """Compare the store with what must be there, and take in what the killed call left."""
        self.check_rows()
        found = dict(item for user in USERS for item in self.exported(memory.user(user)))
        self.settle(found)
        for place in self.alive.keys() & found.keys():
            if self.alive[place][:3] != found[place][:3]:
                self.fault("changed", f"{place} is not what was said")
        self.alive = {place: said for place, said in found.items() if place not in self.erased}
        self.check_receipts(memory)

    def rows(self, query: str) -> list[Any]:
        with closing(sqlite3.connect(self.file)) as connection:
            return connection.execute(query).fetchall()

    def settle(self, found: dict[Place, Said]) -> None:
        """Nothing may be too much or missing but what the killed call did, and that is all of it."""
        intent, gone = self.pending, self.alive.keys() - found.keys()
        jobs = {row[0] for row in self.rows("SELECT id FROM jobs WHERE kind = 'scrub'")}
        new = [place for place in found if place not in self.alive and place not in self.erased]
        if back := found.keys() & self.erased.keys():
            self.fault("resurrected", f"{sorted(back)} were forgotten", len(back))
        if intent is None:
            self.phases["between calls"] += 1
        elif intent["do"] == "remember":
            said = [(place[0], *found[place][:3]) for place in new]
            if said and said != [(intent["user"], *item[:3]) for item in said_by(intent)]:
                self.fault("half", f"{len(said)} messages of a list are there: {intent}")
            have = {str(UUID(bytes=row[0])) for row in self.rows("SELECT record FROM vectors")}
            waits = any(not found[place].memories <= have for place in new)
            self.phases[f"remember, {PHASES[0 if not said else 1 if waits else 2]}"] += 1
            new = []
        else:
            victims = self.victims(intent)
            taken, gone = gone & victims, gone - victims
            if taken and taken != victims:
                self.fault("half", f"{len(taken)} of {len(victims)} messages went: {intent}")
            step = 0 if not taken else 1 if jobs - self.undone else 2
            self.phases[f"forget, {PHASES[step]}"] += 1
            self.erased.update({place: self.alive.pop(place) for place in taken})
            self.unclean |= {mark_of(self.erased[place].content) for place in taken}
        self.undone = jobs
        if gone:
            self.fault("missing", f"{sorted(gone)} were acknowledged", len(gone))
        if new:
            self.fault("half", f"{new} are there, and nobody said them", len(new))

    def exported(self, handle: ScopedMemory) -> Iterator[tuple[Place, Said]]:
        """The messages as the export has them, each held against its memories."""
        records = {record.id for record in handle.iter_memories()}
        for line in islice(export_lines(handle), 1, None):
            item = json.loads(line)
            content, at, gaps, ids = item["content"], 0, "", set[str]()
            for span in item["memories"]:
                gaps, at = gaps + content[at : span["start"]], max(at, span["stop"])
                ids.add(span["id"] if "id" in span else span["repeats"])
            if (gaps + content[at:]).strip() or not ids <= records:
                self.fault("half", f"{item['id']} lacks a passage, or its memory")
            place = (handle.scope.name, item["id"])
            yield place, Said(item["session"], item["name"], content, frozenset(ids))

    def check_receipts(self, memory: Memory) -> None:
        """Every acknowledged memory can be got, unless all that said it was forgotten."""
        there = {id for said in self.alive.values() for id in said.memories}
        for places, memories in self.receipts:
            stay = [self.alive[place] for place in places if place in self.alive]
            said = {id for item in stay for id in item.memories}
            if not said <= memories or (len(stay) == len(places) and said != memories):
                self.fault("missing", f"the memories of {places} aren't those of their receipt")
            got = {id for id in memories if memory.user(places[0][0]).get(id)}
            if got != memories & there:
                self.fault("missing", f"of the memories of {places}, not all can be got")
        self.receipts.clear()

    def check_rows(self) -> None:
        """The file is whole, and no row is without those that belong to it."""
        if (state := self.rows("PRAGMA integrity_check")) != [("ok",)]:
            self.fault("damaged", str(state))
        for pair in PAIRS.split("|"):
            (table, key), (other, column) = (name.split(".") for name in pair.split())
            query = f"""SELECT count(*) FROM {table} AS a WHERE NOT EXISTS (SELECT 1 FROM {other} AS b
                WHERE b.scope = a.scope AND b.{column} = a.{key})"""
            if number := self.rows(query)[0][0]:
                self.fault("half", f"{number} rows of {table} without {other}", number)

    def finish(self, memory: Memory, seed: int) -> None:
        """After the last kill: upkeep finishes everything; what was said is found, the rest isn't."""
        time.sleep(GRACE_MICROS / 1e6 + 0.1)
        stats, rng = memory.operator.upkeep(), Random(seed)
        waiting = sum(row.without_vector for row in stats.scopes)
        if waiting or stats.jobs:
            self.fault("left_undone", f"{waiting} memories without vector, jobs {dict(stats.jobs)}")
        for place, said in rng.sample(list(self.alive.items()), min(SAMPLE, len(self.alive))):
            hits = memory.user(place[0]).recall(said.content.split(". ")[0], limit=3)
            if not any(place[1] in hit.memory.message_ids for hit in hits):
                self.fault("not_recalled", f"{place} by its own words")
        dead = self.dead()
        for place in rng.sample(sorted(dead), min(SAMPLE, len(dead))):
            hits = memory.user(place[0]).recall(dead[place].content.split(". ")[0])
            if any(mark_of(dead[place].content) in hit.memory.text.casefold() for hit in hits):
                self.fault("resurrected", f"{place} was forgotten, and is recalled")
        self.unclean.clear()

    def dead(self) -> dict[Place, Said]:
        """What was forgotten and is said by nobody else, nor was begun to be said."""
        stay = {mark_of(s.content) for s in (*self.alive.values(), *said_by(self.pending or {}))}
        return {
            place: said for place, said in self.erased.items() if mark_of(said.content) not in stay
        }

    def check_bytes(self) -> None:
        """No byte is left of what was acknowledged as erased. The store is open nowhere."""
        files = [Path(f"{self.file}{suffix}") for suffix in ("", "-wal")]
        content = b"".join(file.read_bytes() for file in files if file.exists()).lower()
        for place, said in self.dead().items():
            if (
                mark_of(said.content) not in self.unclean
                and mark_of(said.content).encode() in content
            ):
                self.fault("not_erased", f"bytes of {place} are left in the files")


def said_by(intent: Json) -> list[Said]:
    said = intent.get("messages", ())
    return [Said(intent["session"], item.get("name"), item["content"]) for item in said]


def start_writer(args: argparse.Namespace, file: Path, round: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, __file__, f"--child={file}", f"--seed={args.seed}"]
    command += [f"--round={round}", *["--real-model"] * args.real_model]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def kill_writer(writer: subprocess.Popen[bytes], seconds: float) -> None:
    """Let the writer begin, and kill it after so long."""
    if not (writer.stdout and writer.stdout.readline()):
        raise RuntimeError("the writer did not start")
    with suppress(subprocess.TimeoutExpired):
        writer.communicate(b"go\n", timeout=seconds)
        raise RuntimeError("the writer ended by itself")
    writer.kill()
    writer.communicate()


def run(args: argparse.Namespace, file: Path) -> Json:
    rng, start, checker = Random(args.seed), time.perf_counter(), Checker(file)
    embedder: Embedder = MiniLM() if args.real_model else HashedWords()
    writer = start_writer(args, file, 0)
    for turn in range(args.kills):
        kill_writer(writer, rng.uniform(0.005, 0.3))
        if turn + 1 < args.kills:
            writer = start_writer(args, file, turn + 1)  # It waits while we check.
        checker.replay(file.with_suffix(f".{turn}"))
        checker.check_bytes()
        with Memory(file, embedder=embedder, settings=Settings()) as memory:
            checker.check(memory)
            if turn + 1 == args.kills:
                checker.finish(memory, args.seed)
            stats = memory.operator.stats()
    checker.check_bytes()
    figures = {"kills": args.kills, "acknowledged": dict(sorted(checker.acked.items()))}
    figures |= {"erased": len(checker.erased), "phases": dict(sorted(checker.phases.items()))}
    figures |= {"messages": stats.messages, "memories": stats.memories, "seed": args.seed}
    figures |= {kind: checker.faults[kind] for kind in BROKEN}
    return {**figures, "seconds": round(time.perf_counter() - start, 1)}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--real-model", action="store_true", help="embed with the bundled model")
    parser.add_argument("--json-only", choices=("yes", "no"), default="no", help="no table")
    parser.add_argument("--round", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        write_until_killed(args)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        figures = run(args, Path(folder) / "crash.db")
    for name, value in figures.items() if args.json_only == "no" else ():
        for part, number in value.items() if isinstance(value, dict) else [("", value)]:
            print(f"{name.replace('_', ' '):<14}{part:<32}{number:>8,}")
    print(json.dumps(figures))
    return int(any(figures[kind] for kind in BROKEN))


if __name__ == "__main__":
    sys.exit(main())
