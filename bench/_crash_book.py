"""What must be there, by the notes of the killed processes alone."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import NamedTuple

from bench._cheap import mark_of
from bench._crash_notes import (
    ALL,
    IMPORTS,
    Json,
    Place,
    Said,
    import_said,
    read_log,
    said_by,
)

NEVER = inf
BROKEN = """missing changed half resurrected not_erased damaged left_undone not_recalled
raised""".split()
# What a call may raise while others move the store to another embedder, or to a newer schema.
ALLOWED = {
    "remember": ("EmbedderMismatch",),
    "import": ("EmbedderMismatch",),
    "reembed": ("EmbedderMismatch", "StoreBusy"),
    "open": ("StoreTooNew",),
    "recall": ("EmbedderMismatch",),
}


class Tally:
    """What was counted, and what was found not to be as it must."""

    def __init__(self) -> None:
        self.acked, self.phases, self.faults = Counter[str](), Counter[str](), Counter[str]()
        self.errors, self.checked = Counter[str](), Counter[str]()

    def fault(self, kind: str, says: str, times: int = 1) -> None:
        self.faults[kind] += times
        print(f"{kind}: {says}"[:600], file=sys.stderr)


class Step(NamedTuple):
    """What one call did to the messages, and when; `ended` is infinite for one that was killed."""

    slot: int
    begun: float
    ended: float
    added: dict[Place, Said]
    taken: set[Place]


class Window(NamedTuple):
    """When a backup was made, and the file that it left (its inode, time and size) if it returned."""

    begun: float
    ended: float
    file: list[int] | None


class Book:
    """The messages and pins of one store as the notes have them, and what they leave open."""

    def __init__(self, seed: int, tally: Tally) -> None:
        self.seed, self.tally = seed, tally
        self.alive: dict[Place, Said] = {}
        self.erased: dict[Place, Said] = {}
        self.pins: dict[Place, bool] = {}  # By user and memory.
        self.imported: dict[int, int] = {}  # How many messages of a file are there.
        self.receipts: list[tuple[list[Place], set[str]]] = []
        self.unclean = set[str]()  # Marks whose bytes may be left until upkeep has looked.
        self.begin()

    def begin(self) -> None:
        """Turn a page: a round begins."""
        self.base = dict(self.alive)
        self.pending: list[Json] = []
        self.steps: list[Step] = []
        self.backups: dict[str, list[Window]] = {}
        self.moves: list[tuple[float, float, str]] = []  # Begun, ended, to which embedder.
        self.receipts.clear()

    def copy(self) -> Book:
        """The same, for a copy of the store."""
        book = Book(self.seed, self.tally)
        book.alive, book.erased, book.pins = dict(self.alive), dict(self.erased), dict(self.pins)
        book.imported, book.unclean = dict(self.imported), set(self.unclean)
        book.begin()
        return book

    def replay(self, slot: int, log: Path) -> None:
        """Follow the notes of one process; the last call may lack its ack."""
        pending: Json | None = None
        for line in read_log(log):
            if "do" in line:
                pending = {**line, "slot": slot}
            elif "fault" in line or "broke" in line:
                self.tally.fault(line.get("fault", "raised"), line.get("says") or line["broke"])
            elif "error" in line:
                self.raised(pending, line)
                pending = None
            elif pending is not None and "part" in line:
                self.went_on(pending, line)
            elif pending is not None:
                self.acknowledge(pending, line)
                pending = None
        if pending is None:
            self.tally.phases["between calls"] += 1
            return
        self.pending.append(pending)
        if pending["do"] == "reembed":
            self.moves.append((pending["t"], NEVER, pending["to"]))

    def raised(self, intent: Json | None, line: Json) -> None:
        """A call that raised changed nothing; an import may have brought a part."""
        what = "recall" if intent is None else intent["do"]
        self.tally.errors[f"{what}: {line['error']}"] += 1
        if line["error"] not in ALLOWED.get(what, ()):
            self.tally.fault("raised", f"{what}: {line['error']}: {line['says']}")
        if what == "import" and intent is not None:
            self.pending.append({**intent, "raised": True})

    def went_on(self, intent: Json, line: Json) -> None:
        if intent["do"] == "import":
            self.take_import(intent, line, intent.get("part", 0), line["part"])
        intent["part"] = line["part"]

    def take_import(self, intent: Json, line: Json, start: int, stop: int) -> None:
        """The messages of a file up to `stop` are there."""
        number = intent["number"]
        said = list(import_said(self.seed, number).items())
        self.imported[number] = max(self.imported.get(number, 0), stop)
        self.add(intent, line["t"], dict(said[start:stop]))

    def add(self, intent: Json, ended: float, said: dict[Place, Said]) -> None:
        """Take in messages that are there now, unless others have already forgotten them."""
        self.alive.update((place, s) for place, s in said.items() if place not in self.erased)
        self.steps.append(Step(intent["slot"], intent["t"], ended, said, set()))

    def take(self, intent: Json, ended: float, places: set[Place]) -> None:
        """Take out messages that are forgotten now."""
        unknown = Said(None, None, intent["text"] or "")
        for place in places:
            self.erased.setdefault(place, self.alive.pop(place, unknown))
        if intent["user"] == ALL and intent["by"] == "session":
            # Of two who forget a session at once, either may have been the one who did.
            key = intent["key"]
            gone = {p for p, said in self.erased.items() if p[0] == ALL and said.session == key}
            places = places | gone
        self.steps.append(Step(intent["slot"], intent["t"], ended, {}, places))

    def acknowledge(self, intent: Json, ack: Json) -> None:
        """Take in a call that returned."""
        does: dict[str, Callable[[Json, Json], None]] = {
            "remember": self.remembered,
            "forget": self.forgot,
            "pin": self.pinned,
            "import": self.brought,
            "backup": self.backed_up,
            "reembed": self.moved,
        }
        if (take := does.get(intent["do"])) is not None:
            take(intent, ack)
        else:
            self.tally.acked[f"{intent['do']}s"] += 1

    def remembered(self, intent: Json, ack: Json) -> None:
        self.tally.acked.update({"remembers": 1, "messages": len(ack["ack"])})
        places = [(intent["user"], id) for id in ack["ack"]]
        self.receipts.append((places, set(ack["memories"])))
        self.add(intent, ack["t"], dict(zip(places, said_by(intent), strict=True)))

    def forgot(self, intent: Json, ack: Json) -> None:
        self.tally.acked[f"forgets, {ack['state']}"] += 1
        places = self.victims(intent)
        if intent["user"] == ALL:
            places |= self.named(intent)
        elif len(places) != ack["ack"]:
            says = f"{intent} took {ack['ack']} messages, not {len(places)}"
            self.tally.fault("half", says)
        self.take(intent, ack["t"], places)
        if ack["state"] == "pending":
            self.unclean |= {mark_of(self.erased[place].content) for place in places}

    def pinned(self, intent: Json, ack: Json) -> None:
        self.tally.acked["pins"] += 1
        if ack["ack"]:
            self.pins[intent["user"], intent["key"]] = intent["on"]

    def brought(self, intent: Json, ack: Json) -> None:
        self.tally.acked.update({"imports": 1, "imported messages": ack["new"]})
        total = len(import_said(self.seed, intent["number"]))
        if ack["ack"] != total or intent.get("part") != total:
            self.tally.fault("missing", f"{intent} ended after {ack['ack']} of {total}")

    def backed_up(self, intent: Json, ack: Json) -> None:
        self.tally.acked["backups"] += 1
        window = Window(intent["t"], ack["t"], ack["ack"])
        self.backups.setdefault(intent["path"], []).append(window)

    def moved(self, intent: Json, ack: Json) -> None:
        self.tally.acked["reembeds"] += 1
        self.moves.append((intent["t"], ack["t"], intent["to"]))

    def named(self, intent: Json) -> set[Place]:
        """The message that an erasure names, be it known to be there or not."""
        named = intent["do"] == "forget" and intent["by"] == "message"
        return {(intent["user"], intent["key"])} if named else set()

    def victims(self, intent: Json) -> set[Place]:
        """The messages that an erasure must take."""
        mine = {place: said for place, said in self.alive.items() if place[0] == intent["user"]}
        key, mark = intent["key"], mark_of(intent["text"] or "")
        if intent["by"] == "everything":
            return set(mine)
        if intent["by"] == "message":
            return self.named(intent) & mine.keys()
        if intent["by"] == "session":
            return {place for place, said in mine.items() if said.session == key}
        return {place for place, said in mine.items() if mark_of(said.content) == mark}

    def dead(self) -> dict[Place, Said]:
        """What was forgotten and is said by nobody else, nor was begun to be said."""
        saying = [said for intent in self.pending for said in said_by(intent)]
        stay = {mark_of(said.content) for said in (*self.alive.values(), *saying)}
        return {
            place: said
            for place, said in self.erased.items()
            if said.content and mark_of(said.content) not in stay
        }

    def crowded(self, most: int) -> tuple[str, ...]:
        """Users who have more messages than that."""
        sizes = Counter(user for user, _ in self.alive if user not in IMPORTS)
        return tuple(user for user, size in sizes.items() if size > most)

    def whole_imports(self) -> list[int]:
        """The files that are there in full, and weren't forgotten."""
        there = Counter(said.session for (user, _), said in self.alive.items() if user in IMPORTS)
        return [n for n in self.imported if there[f"import{n}"] == len(import_said(self.seed, n))]
