"""The writers and readers of `together.py`: each learns what the others were told is done, and looks."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from functools import partial
from math import log
from multiprocessing.connection import Connection
from pathlib import Path
from queue import Empty
from random import Random
from typing import Any, NamedTuple, TypeVar

import numpy as np

from bench._cheap import HashedWords, first_sentence, text_of
from mnemic import Memory
from mnemic.models.embedder import Embedder
from mnemic.models.minilm import MiniLM
from mnemic.models.terms import question_terms
from mnemic.records import Recall
from mnemic.settings import Settings

T = TypeVar("T")
USERS = ("ana", "ben", "cy", "dee")
# How many memories that are gone are kept in mind, to be recognised should one be seen.
REMEMBERED = 4_000
DRAIN = 500
# As many new words fill the caches of words, which grow to that size and no further.
NEW_WORDS = 1 << 16
# Bins of times: each is 2% wider than the one before.
BINS = 1_000


class Event(NamedTuple):
    """What a writer was told is done. `begun` and `ended` are when it called, and when it was told."""

    what: str  # said, forgotten, pinned
    user: str
    message: str
    memories: tuple[str, ...]
    text: str
    begun: int
    ended: int


class Times:
    """How long calls took, in a memory that doesn't grow."""

    def __init__(self) -> None:
        self.bins: dict[str, Any] = {}
        self.longest: dict[str, float] = {}

    def note(self, call: str, seconds: float) -> None:
        bins = self.bins.setdefault(call, np.zeros(BINS, np.int64))
        bins[min(int(log(seconds * 1e6 + 1) * 50), BINS - 1)] += 1
        self.longest[call] = max(self.longest.get(call, 0.0), seconds)


def percentile(bins: Any, share: float) -> float:
    """Milliseconds under which that share of the calls stayed, to within 2%."""
    at = int(np.searchsorted(np.cumsum(bins), share * bins.sum()))
    return float(np.expm1((at + 1) / 50) / 1e3)


class Party:
    """A process with the store open, and with what it knows of it."""

    def __init__(self, file: Path, seed: int, real_model: bool, events: Any) -> None:
        embedder: Embedder = MiniLM() if real_model else HashedWords(sleep=0)
        self.memory = Memory(file, embedder=embedder, settings=Settings())
        self.rng, self.events, self.times = Random(seed), events, Times()
        self.known: dict[str, Event] = {}
        self.ids: list[str] = []  # Of `known`, to choose from.
        self.places: dict[str, int] = {}
        self.dead: OrderedDict[str, None] = OrderedDict()
        # What wasn't there when it was looked for: by its id, when that look ended.
        self.missed: dict[str, int] = {}
        self.errors, self.faults, self.says = Counter[str](), Counter[str](), list[str]()
        self.looks = Counter[str]()
        self.stopped = False

    def call(self, name: str, does: Callable[[], T]) -> T | None:
        """Call, take the time, and count an error by its name."""
        start = time.perf_counter()
        try:
            return does()
        except Exception as error:
            self.errors[f"{name}: {type(error).__name__}"] += 1
            self.tell(f"{name}: {error!r}")
            return None
        finally:
            self.times.note(name, time.perf_counter() - start)

    def fault(self, kind: str, says: str) -> None:
        self.faults[kind] += 1
        self.tell(f"{kind}: {says}")

    def tell(self, says: str) -> None:
        if len(self.says) < 20:
            self.says.append(says[:300])

    # --- what others were told -------------------------------------------------------------------

    def learn(self, wait: float = 0.0) -> list[Event]:
        """Take in what was done since the last call."""
        new: list[Event] = []
        while len(new) < DRAIN:
            try:
                event = self.events.get(wait > 0, wait or None)
            except Empty:
                break
            if event is None:
                self.stopped = True
                break
            new.append(event)
            self.take(event)
        return new

    def take(self, event: Event) -> None:
        if event.what == "said":
            self.known[event.message] = event
            self.places[event.message] = len(self.ids)
            self.ids.append(event.message)
        elif event.what == "forgotten":
            self.drop(event.message)
            for id in event.memories:
                self.dead[id] = None
            while len(self.dead) > REMEMBERED:
                self.dead.popitem(last=False)
            if self.missed.get(event.message, -1) >= event.begun:
                del self.missed[event.message]  # It was being forgotten when we looked.

    def drop(self, message: str) -> None:
        if self.known.pop(message, None) is not None:
            at, last = self.places.pop(message), self.ids.pop()
            if last != message:
                self.ids[at], self.places[last] = last, at

    def chosen(self) -> Event:
        return self.known[self.rng.choice(self.ids)]

    # --- looking ---------------------------------------------------------------------------------

    def look(self, event: Event) -> None:
        """See at the next call what the event says, in one way or the other."""
        self.looks[event.what] += 1
        if event.what == "forgotten":
            self.look_for_gone(event)
        elif event.message in self.known:
            self.look_for(event)

    def look_for(self, event: Event) -> None:
        handle = self.memory.user(event.user)
        if event.what == "pinned" or self.rng.random() < 0.4:
            record = self.call("get", lambda: handle.get(event.memories[0]))
            if record is None:
                self.missed[event.message] = time.monotonic_ns()
            elif event.what == "pinned" and not record.pinned:
                self.fault("not_seen", f"the pin of {event.message}")
            return
        hits = self.ask(event)
        if not {hit.memory.id for hit in hits or ()} & {*event.memories}:
            self.missed[event.message] = time.monotonic_ns()

    def look_for_gone(self, event: Event) -> None:
        handle = self.memory.user(event.user)
        if self.rng.random() < 0.4:
            if self.call("get", lambda: handle.get(event.memories[0])) is not None:
                self.fault("seen_again", f"{event.message} was forgotten, and can be got")
        else:
            self.ask(event)

    def ask(self, event: Event) -> Recall | None:
        """Ask for what the event says; nothing that is known to be gone may be answered."""
        handle = self.memory.user(event.user)
        asked = first_sentence(event.text)
        hits = self.call("recall", lambda: handle.recall(asked, limit=5, min_relevance=0))
        for hit in hits or ():
            if hit.memory.id in self.dead:
                self.fault("seen_again", f"{hit.memory.id} was forgotten, and is recalled")
        if hits is not None and hits.error:
            self.fault("not_seen", hits.error)
        return hits

    def report(self) -> dict[str, Any]:
        """What became of it; what was missed and not forgotten since was not seen."""
        for message in self.missed:
            self.fault("not_seen", f"{message} was told to be done, and was not there")
        self.memory.close()
        return {
            "bins": self.times.bins,
            "longest": self.times.longest,
            "errors": self.errors,
            "faults": self.faults,
            "says": self.says,
            "looks": self.looks,
        }


class Writer(Party):
    """Remembers, forgets and pins for all users, keeping the number of messages about constant."""

    number = 0
    said = 0

    def remember(self, out: Connection | None) -> None:
        rng, user, now = self.rng, self.rng.choice(USERS), self.said
        said = []
        for _ in range(1 if rng.random() < 0.8 else rng.randint(2, 6)):
            name, text = text_of(7, self.number, self.said // 4096 % 4096, self.said % 4096, 0)
            id = f"w{self.number}n{self.said}"
            message = {"role": "user", "content": text, "id": id}
            said.append(message if name is None else {**message, "name": name})
            self.said += 1
        session = f"w{self.number}s{now // 10}"
        handle, begun = self.memory.user(user), time.monotonic_ns()
        alone = len(said) == 1
        receipt = self.call(
            "remember" if alone else "remember a list",
            lambda: handle.remember(said, session=session),
        )
        if receipt is None:
            return
        ended, each = time.monotonic_ns(), {} if alone else self.memories_of(user, said)
        for message in said:
            id = str(message["id"])
            memories = receipt.memory_ids if alone else each.get(id, ())
            if not memories:
                self.fault("not_seen", f"{id}, just after it was remembered")
                continue
            self.publish(
                out, Event("said", user, id, memories, str(message["content"]), begun, ended)
            )

    def memories_of(self, user: str, said: list[dict[str, str]]) -> dict[str, tuple[str, ...]]:
        """Which memories stand on which message of a list, by asking for each."""
        found: dict[str, tuple[str, ...]] = {}
        for message in said:
            asked = first_sentence(message["content"])
            ask = partial(self.memory.user(user).recall, asked, limit=40, min_relevance=0)
            hits = self.call("recall", ask)
            mine = [h.memory.id for h in hits or () if message["id"] in h.memory.message_ids]
            found[message["id"]] = tuple(mine)
        return found

    def publish(self, out: Connection | None, event: Event) -> None:
        self.take(event)
        if out is not None:
            out.send(event)

    def forget(self, out: Connection) -> None:
        event, begun = self.chosen(), time.monotonic_ns()
        handle = self.memory.user(event.user)
        erasure = self.call("forget", lambda: handle.forget(message_id=event.message))
        if erasure is not None:
            self.looks[f"forgotten, {erasure.state}"] += 1
            ended = time.monotonic_ns()
            self.publish(out, event._replace(what="forgotten", begun=begun, ended=ended))

    def pin(self, out: Connection) -> None:
        event, begun = self.chosen(), time.monotonic_ns()
        handle = self.memory.user(event.user)
        if self.call("pin", lambda: handle.pin(event.memories[0])):
            ended = time.monotonic_ns()
            self.publish(out, event._replace(what="pinned", begun=begun, ended=ended))


def warm_up() -> None:
    """Fill what grows to a limit, so that what is seen to grow has none."""
    for start in range(0, NEW_WORDS, 4_096):
        question_terms(" ".join(f"warm{number}x" for number in range(start, start + 4_096)))


def write(
    number: int, options: dict[str, Any], known: list[Event], events: Any, out: Connection
) -> None:
    """The life of a writer."""
    writer = Writer(options["file"], number, options["real_model"], events)
    writer.number, writer.said = number, 0
    for event in known:
        writer.take(event)
    known.clear()
    warm_up()
    out.send("ready")
    until = events.get()
    while time.monotonic() < until:
        new = writer.learn()
        for event in writer.rng.sample(new, min(2, len(new))):
            writer.look(event)
        for _ in range(4):
            if writer.rng.random() < 0.1:
                writer.pin(out)
            elif len(writer.ids) > options["live"]:
                writer.forget(out)
            else:
                writer.remember(out)
    out.send("done")
    while not writer.stopped:
        writer.learn(1.0)
    out.send(writer.report())


def read(
    number: int, options: dict[str, Any], known: list[Event], events: Any, out: Connection
) -> None:
    """The life of a reader: it looks for what is new, and for anything that it knows."""
    reader = Party(options["file"], number, options["real_model"], events)
    for event in known:
        reader.take(event)
    known.clear()
    warm_up()
    out.send("ready")
    until = events.get()
    while time.monotonic() < until:
        new = reader.learn()
        for event in reader.rng.sample(new, min(4, len(new))):
            reader.look(event)
        for _ in range(2):
            reader.looks["known before"] += 1
            reader.look_for(reader.chosen())
            time.sleep(options["pause"])
    out.send("done")
    while not reader.stopped:
        reader.learn(1.0)
    out.send(reader.report())
