"""How late an event loop wakes while `AsyncMemory` works in its threads.

A heartbeat sleeps for a millisecond again and again and notes how much later it woke: on an idle loop,
beside threads of plain Python (what Python's own switch interval of 5 ms does), and while tasks remember
and recall, with the bundled model, in a store of 10,000 memories. A full garbage collection stops every
thread, so the longest one is told beside each row. Run:

    python bench/loop.py            # about two minutes
    python bench/loop.py --quick    # half a minute

Exits with 1 if anything of ours ran on the loop's thread, or if a memory was lost.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import sys
import tempfile
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter, thread_time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Engine, Pool, event

from mnemic import Memory
from mnemic.aio import AsyncMemory
from mnemic.models.minilm import MiniLM

MEMORIES = 10_000
TASKS = 16
USERS = 8
WORKING = ("first recall", "recall", "remember", "both")
Load = Callable[[float], Awaitable[int]]  # until when, and how many calls it made


class Cheap:
    """What fills the store: random unit vectors in the name of the bundled model."""

    name = MiniLM.name
    dimensions = MiniLM.dimensions

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        rows = np.random.default_rng(1).standard_normal((len(texts), self.dimensions), np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)  # type: ignore[no-any-return]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="shorter phases")
    parser.add_argument("--seconds", type=float, help="length of a phase (6, or 1 with --quick)")
    parser.add_argument("--threads", type=int, nargs="+", default=[2, 8], help="pools to compare")
    parser.add_argument("--freeze", action="store_true", help="gc.freeze() once it is open")
    args = parser.parse_args()
    seconds = args.seconds or (1.0 if args.quick else 6.0)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        file = Path(folder) / "life.db"
        fill(file)
        with watched() as watch:
            rows = asyncio.run(run(file, args, seconds, watch))
    figures = {"seconds": seconds, "freeze": args.freeze, "rows": rows, "wrong": watch.wrong}
    show(rows, watch.wrong)
    print(json.dumps(figures))
    return int(bool(watch.wrong))


def texts_of(count: int, seed: int) -> list[str]:
    """Texts of 6 to 30 words with the frequencies of a language, which no two users share."""
    rng = np.random.default_rng(seed)
    share = 1.0 / (np.arange(30_000) + 150.0) ** 1.05
    words = rng.choice(len(share), count * 31, p=share / share.sum())
    ends = np.cumsum(rng.integers(6, 31, count))
    return [" ".join(f"w{word}x" for word in some) for some in np.split(words, ends)[:count]]


def fill(file: Path) -> None:
    """Make the store: one user with many memories."""
    with Memory(file, embedder=Cheap()) as memory:
        texts = texts_of(MEMORIES, 99)
        for at in range(0, MEMORIES, 500):
            memory.user("ana").remember(texts[at : at + 500], session=f"s{at}")


class Watch:
    """What is noted meanwhile: where things run, how long callbacks and collections take."""

    def __init__(self) -> None:
        self.loop = threading.get_ident()
        self.wrong: list[str] = []
        self.longest_step = self.longest_collection = 0.0
        self._collecting = 0.0

    def off_loop(self, what: str) -> None:
        if threading.get_ident() == self.loop and what not in self.wrong:
            self.wrong.append(f"{what} on the loop's thread")

    def collected(self, phase: str, _info: dict[str, int]) -> None:
        if phase == "start":
            self._collecting = perf_counter()
        else:
            spent = (perf_counter() - self._collecting) * 1000
            self.longest_collection = max(self.longest_collection, spent)

    def reset(self) -> None:
        self.longest_step = self.longest_collection = 0.0


@contextmanager
def watched() -> Iterator[Watch]:
    """Watch the database, the model, the loop's callbacks and the collector."""
    watch = Watch()

    def statement(*_: object) -> None:
        watch.off_loop("SQL")

    def connection(*_: object) -> None:
        watch.off_loop("a connection")

    embed, step = MiniLM.embed, asyncio.Handle._run

    def embed_watched(self: MiniLM, texts: Sequence[str]) -> NDArray[np.float32]:
        watch.off_loop("the model")
        return embed(self, texts)

    def step_watched(self: asyncio.Handle) -> None:
        # CPU time of this thread: waiting for Python's lock isn't counted, work is.
        start = thread_time()
        step(self)
        watch.longest_step = max(watch.longest_step, (thread_time() - start) * 1000)

    listeners = [
        (Engine, "before_cursor_execute", statement),
        (Pool, "connect", connection),
        (Pool, "checkout", connection),
    ]
    for target, name, listener in listeners:
        event.listen(target, name, listener)
    MiniLM.embed, asyncio.Handle._run = embed_watched, step_watched  # type: ignore[method-assign]
    gc.callbacks.append(watch.collected)
    try:
        yield watch
    finally:
        gc.callbacks.remove(watch.collected)
        MiniLM.embed, asyncio.Handle._run = embed, step  # type: ignore[method-assign]
        for target, name, listener in listeners:
            event.remove(target, name, listener)


async def run(
    file: Path, args: argparse.Namespace, seconds: float, watch: Watch
) -> list[dict[str, Any]]:
    """Every phase, one after another."""
    pools: list[int] = args.threads
    rows = [await phase("idle", idle, seconds, watch)]
    for count in (1, *pools):
        name = f"{count} thread{'s' * (count > 1)} of plain Python"
        rows.append(await phase(name, spinning(count), seconds, watch))
    remembered = MEMORIES
    for threads in pools:
        memory = AsyncMemory(file, threads=threads)
        named = f"{threads} threads: "
        rows.append(await phase(named + "opening", opening(memory), 0.3, watch))
        if args.freeze:
            gc.collect()
            gc.freeze()
        for name in WORKING:
            load = Work(memory, name)
            row = await phase(named + name, load, seconds if name in WORKING[1:] else 0.3, watch)
            rows.append(row)
            remembered += load.remembered
            watch.wrong += load.wrong
        held = (await memory.operator.stats()).messages
        if held != remembered:
            watch.wrong.append(f"{held} messages are held where {remembered} were remembered")
        await memory.close()
        gc.unfreeze()
    return rows


async def phase(name: str, load: Load, seconds: float, watch: Watch) -> dict[str, Any]:
    """Measure how late a heartbeat wakes under a load."""
    late: list[float] = []
    beating = asyncio.create_task(beat(late))
    await asyncio.sleep(0.02)
    late.clear()
    watch.reset()
    start = perf_counter()
    calls = await load(start + seconds)
    spent = perf_counter() - start
    await asyncio.sleep(0.002)  # so that a wake that was kept waiting is counted
    beating.cancel()
    at = np.percentile(late, (50, 99, 99.9, 100)).tolist()
    row = {"name": name, "wakes": len(late), "calls_per_s": round(calls / spent, 1)}
    for key, value in zip(("p50", "p99", "p999", "max"), at, strict=True):
        row[f"{key}_ms"] = round(value, 2)
    row["longest_collection_ms"] = round(watch.longest_collection, 2)
    row["longest_step_ms"] = round(watch.longest_step, 2)
    return row


async def beat(late: list[float]) -> None:
    """Sleep a millisecond at a time, and note how many milliseconds too long each was."""
    while True:
        due = perf_counter() + 0.001
        await asyncio.sleep(0.001)
        late.append(max(0.0, (perf_counter() - due) * 1000))


async def idle(end: float) -> int:
    await asyncio.sleep(end - perf_counter())
    return 0


def spinning(count: int) -> Load:
    """Threads that do nothing but hold Python's lock for as long as they may."""

    def spin(end: float) -> None:
        while perf_counter() < end:
            pass

    async def load(end: float) -> int:
        threads = [threading.Thread(target=spin, args=(end,)) for _ in range(count)]
        for thread in threads:
            thread.start()
        await asyncio.sleep(max(0.0, end - perf_counter()))
        for thread in threads:
            thread.join()
        return 0

    return load


def opening(memory: AsyncMemory) -> Load:
    """Opening the file and reading the model."""

    async def load(_end: float) -> int:
        await memory.__aenter__()
        return 0

    return load


class Work:
    """Tasks that remember and recall."""

    def __init__(self, memory: AsyncMemory, name: str) -> None:
        self.memory, self.name = memory, name
        self.remembered = 0
        self.wrong: list[str] = []
        self.questions = [" ".join(text.split()[:6]) for text in texts_of(500, 7)]

    async def __call__(self, end: float) -> int:
        if self.name == "first recall":
            return await self.recall(0)
        return sum(await asyncio.gather(*(self.task(n, end) for n in range(TASKS))))

    async def task(self, number: int, end: float) -> int:
        calls = 0
        while perf_counter() < end:
            calls += 1
            turn = number * 31 + calls
            if self.name == "recall" or (self.name == "both" and turn % 2):
                await self.recall(turn)
            else:
                await self.remember(number, turn)
        return calls

    async def recall(self, turn: int) -> int:
        found = await self.memory.user("ana").recall(self.questions[turn % 500], min_relevance=0)
        if len(found) != 10 and "a recall found too few" not in self.wrong:
            self.wrong.append("a recall found too few")
        return 1

    async def remember(self, number: int, turn: int) -> None:
        handle = self.memory.user(f"user{number % USERS}")
        await handle.remember(f"{number} {turn} {self.questions[turn % 500]}", session="s")
        self.remembered += 1


def show(rows: Sequence[dict[str, Any]], wrong: Sequence[str]) -> None:
    """Print the table."""
    print(f"lateness of a heartbeat in ms; {TASKS} tasks, {MEMORIES:,} memories\n")
    print(
        f"{'':<32}{'p50':>7}{'p99':>7}{'p99.9':>7}{'max':>7}{'longest gc':>12}"
        f"{'longest step':>14}{'calls/s':>9}"
    )
    for row in rows:
        print(
            f"{row['name']:<32}{row['p50_ms']:>7.2f}{row['p99_ms']:>7.2f}{row['p999_ms']:>7.2f}"
            f"{row['max_ms']:>7.2f}{row['longest_collection_ms']:>12.2f}"
            f"{row['longest_step_ms']:>14.2f}{row['calls_per_s']:>9.0f}"
        )
    print("\nlongest step: CPU time of the longest callback on the loop, ours and asyncio's\n")
    for what in wrong:
        print(f"WRONG: {what}")


if __name__ == "__main__":
    sys.exit(main())
