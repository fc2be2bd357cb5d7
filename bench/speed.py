"""How fast, beside the floor: NumPy's matvec for recall, the embedder for import, one fsync for a write.

Medians of interleaved pairs in one run: what is measured and its floor take turns, so that a busy
machine slows both. Vectors are synthetic where the embedder isn't what is measured, words are Zipf. Run:

    python bench/speed.py            # 1k, 10k and 100k memories, about three minutes
    python bench/speed.py --quick    # without the 100k
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnemic import Memory
from mnemic.demo import load_conversation
from mnemic.models.minilm import MiniLM
from mnemic.transfer.importing import import_file

DIMENSIONS = 384
NEIGHBOURS = 50
LIMITS = {1_000: None, 10_000: 6.0, 100_000: 2.0}
POOL = np.random.default_rng(1).standard_normal((997, DIMENSIONS), dtype=np.float32)


class Synthetic:
    """An embedder that costs next to nothing: a random unit vector, seeded by the text."""

    name = "synthetic"
    dimensions = DIMENSIONS

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        rows = np.array([hash(text) % 997 for text in texts])
        shift = np.array([hash(text) // 997 % DIMENSIONS for text in texts])
        columns = (np.arange(DIMENSIONS)[None, :] + shift[:, None]) % DIMENSIONS
        vectors = POOL[rows[:, None], columns]
        unit: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="leave the 100k out, fewer repeats")
    args = parser.parse_args()
    sizes = [1_000, 10_000] if args.quick else [1_000, 10_000, 100_000]
    figures: dict[str, Any] = {"quick": args.quick}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        figures["recall"] = [
            recall_speed(folder, size, 60 if args.quick else 200) for size in sizes
        ]
        figures["remember"] = remember_speed(folder, 60 if args.quick else 200)
        figures["import"] = import_speed(folder, 5 if args.quick else 9)
        figures["start"] = start_speed(folder, 3 if args.quick else 7)
    show(figures)
    print(json.dumps(figures))
    return int(bool(figures["start"]["heavy"]))


def zipf_texts(count: int, seed: int) -> list[str]:
    """Texts of 6 to 30 words that aren't stop words, with frequencies as Zipf and Mandelbrot have it.

    A word's share falls with its rank; the first 150 ranks, about what stop words take, are left out.
    """
    rng = np.random.default_rng(seed)
    share = 1.0 / (np.arange(30_000) + 150.0) ** 1.05
    words = rng.choice(len(share), count * 31, p=share / share.sum())
    ends = np.cumsum(rng.integers(6, 31, count))
    texts = np.split(words, ends)[:count]
    return [" ".join(f"w{word}x" for word in text) for text in texts]


def interleaved(
    count: int, ours: Callable[[int], float], floor: Callable[[int], float]
) -> tuple[float, float]:
    """Medians of what two functions report, taken in turn."""
    pairs = [(ours(i), floor(i)) for i in range(count)]
    return median(a for a, _ in pairs), median(b for _, b in pairs)


def recall_speed(folder: Path, size: int, repeats: int) -> dict[str, Any]:
    """Recall of one user among others, without the embedding, beside matvec and top ten."""
    file = folder / f"recall-{size}.db"
    with Memory(file, embedder=Synthetic()) as memory:
        for neighbour in range(NEIGHBOURS):
            memory.user(f"n{neighbour}").remember(zipf_texts(100, neighbour), session="s")
        handle = memory.user("ana")
        texts = zipf_texts(size, 99)
        for at in range(0, len(texts), 2_000):
            for session in range(0, 2_000, 40):
                said = texts[at + session : at + session + 40]
                if said:
                    handle.remember(said, session=f"s{(at + session) // 40}")
        on_disk = memory.operator.stats().bytes_on_disk / memory.operator.stats().memories
    with Memory(file, embedder=Synthetic()) as memory:
        handle = memory.user("ana")
        start = perf_counter()
        handle.recall("w1x w2x")
        cold = (perf_counter() - start) * 1000
        index = next(iter(memory._core.indexes._slots.values())).index
        assert index is not None
        questions = zipf_texts(repeats + 8, 7)
        rng = np.random.default_rng(3)
        vectors = rng.standard_normal((repeats + 8, DIMENSIONS), dtype=np.float32)
        steps: dict[str, list[float]] = {}

        def ours(i: int) -> float:
            start = perf_counter()
            found = handle.recall(" ".join(questions[i].split()[:6]), min_relevance=0)
            spent = (perf_counter() - start) * 1000
            assert len(found) == min(10, size)
            for step, ms in found.timings_ms.items():
                steps.setdefault(step, []).append(ms)
            return spent - found.timings_ms["embed"]

        matrix = np.ascontiguousarray(index.matrix)

        def floor(i: int) -> float:
            start = perf_counter()
            scores = matrix @ vectors[i]
            top = np.argpartition(scores, -10)[-10:]
            top[np.argsort(-scores[top])]
            return (perf_counter() - start) * 1000

        interleaved(8, ours, floor)
        rest, least = interleaved(repeats, ours, floor)
        return {
            "memories": len(index),
            "rest_ms": round(rest, 3),
            "floor_ms": round(least, 3),
            "ratio": round(rest / least, 2),
            "limit": LIMITS[size],
            "steps_ms": {name: round(median(ms), 3) for name, ms in steps.items()},
            "cold_load_ms": round(cold, 1),
            "disk_bytes_per_memory": round(on_disk),
            "resident_bytes_per_memory": round(index.nbytes / len(index)),
        }


def remember_speed(folder: Path, repeats: int) -> dict[str, Any]:
    """One short message with the real model, beside its embedding and one fsync of the same disk."""
    texts = [m["content"] for s in load_conversation().sessions.values() for m in s][:repeats]
    texts += [f"{text} ({n})" for n, text in enumerate(texts)][: repeats - len(texts)]
    embedder = MiniLM()
    with Memory(folder / "remember.db", embedder=embedder) as memory:
        handle = memory.user("ana")
        handle.remember("warm up")
        handle.recall("warm up")
        plain = os.open(folder / "fsync.bin", os.O_CREAT | os.O_WRONLY)

        def ours(i: int) -> float:
            start = perf_counter()
            handle.remember(f"{i}: {texts[i % len(texts)]}", session="s")
            return (perf_counter() - start) * 1000

        def floor(i: int) -> float:
            start = perf_counter()
            embedder.embed([f"{i}. {texts[i % len(texts)]}"])
            os.write(plain, bytes(16_384))
            os.fsync(plain)
            return (perf_counter() - start) * 1000

        interleaved(8, ours, floor)
        spent, least = interleaved(repeats, ours, floor)
        os.close(plain)
    return {
        "remember_ms": round(spent, 2),
        "embed_and_fsync_ms": round(least, 2),
        "over_ms": round(spent - least, 2),
        "limit_over_ms": 3.0,
    }


def import_speed(folder: Path, repeats: int) -> dict[str, Any]:
    """Import of real messages, beside the embedder alone on the same texts."""
    talk = load_conversation()
    messages = [m for session in talk.sessions.values() for m in session]
    texts = [f"{m['name']}: {m['content']}" for m in messages] * 4
    embedder = MiniLM()
    embedder.embed(texts[:32])

    def ours(i: int) -> float:
        lines = folder / f"import-{i}.jsonl"
        with lines.open("w", encoding="utf-8") as handle:
            for copy in range(4):
                for n, message in enumerate(messages):
                    said = {
                        **message,
                        "id": f"{copy}-{n}",
                        "content": f"{message['content']} {copy}",
                    }
                    handle.write(json.dumps({**said, "session": f"s{copy}"}) + "\n")
        with Memory(folder / f"import-{i}.db", embedder=embedder) as memory:
            start = perf_counter()
            report = import_file(memory, lines, user="ana")
            spent = perf_counter() - start
            assert report.messages == len(texts)
            return report.memories / spent

    def floor(i: int) -> float:
        start = perf_counter()
        embedder.embed([f"{text} {i}" for text in texts])
        return len(texts) / (perf_counter() - start)

    rate, most = interleaved(repeats, ours, floor)
    return {
        "import_per_s": round(rate, 1),
        "embedder_per_s": round(most, 1),
        "share": round(rate / most, 3),
        "limit_share": 0.85,
    }


def start_speed(folder: Path, repeats: int) -> dict[str, Any]:
    """`import mnemic`, and one `mnemic recall` on a cold store of 10k, in CPU seconds of a new process."""
    file = folder / "cold.db"
    with Memory(file) as memory:
        known = memory._core.embedder
        memory._core.embedder = _named(known.name)
        texts = zipf_texts(10_000, 5)
        for at in range(0, len(texts), 500):
            memory.user("ana").remember(texts[at : at + 500], session=f"s{at}")
    heavy = ("numpy", "onnxruntime", "sqlalchemy", "typer", "rich", "tokenizers", "alembic")
    code = f"import sys, mnemic; print([m for m in {heavy!r} if m in sys.modules])"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    asked = "from mnemic.surfaces.cli import main; main()"
    command = [sys.executable, "-c", asked, "recall", "w1x w2x", "--db", str(file), "--user", "ana"]
    return {
        "import_ms": round(median(_cpu([sys.executable, "-c", "import mnemic"], repeats)) * 1000),
        "python_ms": round(median(_cpu([sys.executable, "-c", "pass"], repeats)) * 1000),
        "cold_recall_cpu_s": round(median(_cpu(command, repeats)), 3),
        "limit_cpu_s": 1.5,
        "heavy": json.loads(loaded.stdout.replace("'", '"')),
    }


def _named(name: str) -> Synthetic:
    fake = Synthetic()
    fake.name = name
    return fake


def _cpu(command: list[str], repeats: int) -> list[float]:
    """CPU seconds of each run of a command."""
    spent = []
    for _ in range(repeats):
        before = os.times()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        after = os.times()
        children = after.children_user - before.children_user
        spent.append(children + after.children_system - before.children_system)
    return spent


def show(figures: dict[str, Any]) -> None:
    """Print the tables."""
    print("recall of one user among 50 others, without the embedding; floor: matvec and top ten\n")
    print(
        f"{'memories':>9}{'ours ms':>9}{'floor ms':>10}{'ratio':>7}{'limit':>7}{'cold ms':>9}  steps ms"
    )
    for row in figures["recall"]:
        steps = ", ".join(f"{k} {v}" for k, v in row["steps_ms"].items() if k != "embed")
        limit = f"{row['limit']:.0f}x" if row["limit"] else "-"
        print(
            f"{row['memories']:>9,}{row['rest_ms']:>9.3f}{row['floor_ms']:>10.3f}"
            f"{row['ratio']:>6.2f}x{limit:>7}{row['cold_load_ms']:>9.1f}  {steps}"
        )
    last = figures["recall"][-1]
    print(
        f"\nbytes a memory: {last['disk_bytes_per_memory']:,} on disk,"
        f" {last['resident_bytes_per_memory']:,} resident"
    )
    one = figures["remember"]
    print(
        f"one short remember: {one['remember_ms']} ms; its embedding and one fsync"
        f" {one['embed_and_fsync_ms']} ms; over it {one['over_ms']} ms (limit 3)"
    )
    bulk = figures["import"]
    print(
        f"import: {bulk['import_per_s']} a second; the embedder alone {bulk['embedder_per_s']};"
        f" {bulk['share']:.0%} (limit 85%)"
    )
    start = figures["start"]
    print(
        f"import mnemic: {start['import_ms']} ms CPU (bare Python {start['python_ms']}); heavy loaded:"
        f" {start['heavy'] or 'none'}\nmnemic recall on a cold 10k store:"
        f" {start['cold_recall_cpu_s']} s CPU (limit 1.5)\n"
    )


if __name__ == "__main__":
    sys.exit(main())
