"""Measure the shipped embedder: size, nearness to fp32, independence of batch mates, speed.

    python bench/embedder.py [TURNS] [--fp32 MODEL] [--threads N]

TURNS is a LoCoMo json; without it, made-up sentences are measured. MODEL is the published fp32
model (its external data beside it). Exits with 1 if a vector depends on its batch mates, or if the
mean cosine to fp32 is under .99. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from mnemic.models.minilm import MiniLM

Vectors = NDArray[np.float32]
Embed = Callable[[Sequence[str]], Vectors]

LEAST_COSINE = 0.99
TURNS, LONG_TEXTS, LONG_TOKENS, QUERIES, ROUNDS = 600, 60, 224, 100, 3
WEIGHTS = files("mnemic.models").joinpath("weights", "all-MiniLM-L6-v2")
WORDS = """
I we she they my your the a new old small red train garden doctor recipe music winter Lisbon
database error likes moved bought forgot paints plays yesterday never again because with about
from to and but 2031 19 half June ? ! , .
"""


class Fp32:
    """The published model, run as `MiniLM` runs its own: one text an inference, on `threads`."""

    def __init__(self, path: Path, threads: int) -> None:
        onnxruntime: Any = import_module("onnxruntime")  # it has no type stubs
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        self._tokenizer = Tokenizer.from_str(WEIGHTS.joinpath("tokenizer.json").read_text("utf-8"))
        self._tokenizer.encode_special_tokens = True
        self._pool = ThreadPoolExecutor(threads)

    def embed(self, texts: Sequence[str]) -> Vectors:
        return np.stack(list(self._pool.map(self._one, texts)))

    def _one(self, text: str) -> Vectors:
        ids = self._tokenizer.encode(text, add_special_tokens=False).ids[: MiniLM.max_tokens]
        row = np.array([[101, *ids, 102]], dtype=np.int64)
        inputs = {
            "input_ids": row,
            "attention_mask": np.ones_like(row),
            "token_type_ids": np.zeros_like(row),
        }
        mean = self._session.run(None, inputs)[0][0].mean(axis=0)
        return np.asarray(mean / np.linalg.norm(mean), dtype=np.float32)


def read_turns(path: Path | None) -> list[str]:
    """Return `TURNS` texts: evenly spaced turns of a LoCoMo file, or made up (always the same)."""
    if path is None:
        dice, words = random.Random(2031), WORDS.split()
        return [" ".join(dice.choices(words, k=dice.randint(3, 60))) for _ in range(TURNS)]
    texts = [
        turn["text"]
        for sample in json.loads(path.read_text(encoding="utf-8"))
        for name, session in sample["conversation"].items()
        if name.startswith("session_") and isinstance(session, list)
        for turn in session
        if turn.get("text")
    ]
    step = max(1.0, len(texts) / TURNS)
    return [texts[int(i * step)] for i in range(min(TURNS, len(texts)))]


def make_long(turns: Sequence[str], model: MiniLM) -> list[str]:
    """Return texts of about `LONG_TOKENS` tokens, cut out of the turns one after the other."""
    text = " ".join(turns)
    offsets = model.token_offsets(text)
    starts = range(0, len(offsets) - LONG_TOKENS, LONG_TOKENS)[:LONG_TEXTS]
    return [text[offsets[s][0] : offsets[s + LONG_TOKENS - 1][1]] for s in starts]


def drift(embed: Embed, turns: Sequence[str]) -> float:
    """Return the largest difference of a vector alone and in batches of 8, of 32 and of all."""
    alone = np.concatenate([embed([text]) for text in turns])
    worst = 0.0
    for size in (8, 32, len(turns)):
        batches = [embed(turns[i : i + size]) for i in range(0, len(turns), size)]
        worst = max(worst, float(np.abs(np.concatenate(batches) - alone).max()))
    return worst


def rate(embed: Embed, texts: Sequence[str]) -> float:
    """Return texts per second, the best of `ROUNDS`."""
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        embed(texts)
        times.append(time.perf_counter() - start)
    return len(texts) / min(times)


def query_ms(embed: Embed, queries: Sequence[str]) -> float:
    """Return the median milliseconds of embedding one text."""
    times = []
    for text in queries:
        start = time.perf_counter()
        embed([text])
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)


def measure(
    make: Callable[[], Any],
    megabytes: float,
    turns: Sequence[str],
    fp32: Vectors | None,
) -> dict[str, float | None]:
    start = time.perf_counter()
    model = make()
    model.embed(["first"])
    load_ms = 1000 * (time.perf_counter() - start)
    vectors = model.embed(turns)
    cosines = None if fp32 is None else np.einsum("nd,nd->n", vectors, fp32)
    long_texts = make_long(turns, MiniLM(1))
    return {
        "mb": round(megabytes, 1),
        "cosine_mean": None if cosines is None else round(float(cosines.mean()), 5),
        "cosine_min": None if cosines is None else round(float(cosines.min()), 5),
        "drift": drift(model.embed, turns),
        "short_per_s": round(rate(model.embed, turns), 1),
        "long_per_s": round(rate(model.embed, long_texts), 1),
        "query_ms": round(query_ms(model.embed, turns[:QUERIES]), 2),
        "load_ms": round(load_ms, 1),
    }


def show(rows: dict[str, dict[str, float | None]]) -> None:
    columns = list(next(iter(rows.values())))
    print("variant".ljust(10), *(name.rjust(12) for name in columns))
    for variant, row in rows.items():
        cells = ("-" if row[c] is None else f"{row[c]:g}" for c in columns)
        print(variant.ljust(10), *(cell.rjust(12) for cell in cells))


def main() -> int:
    raw = argparse.RawTextHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("turns", nargs="?", type=Path, help="a LoCoMo json")
    parser.add_argument("--fp32", type=Path, metavar="MODEL", help="the published fp32 model.onnx")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()

    turns = read_turns(args.turns)
    rows, reference = {}, None
    if args.fp32:
        reference = Fp32(args.fp32, args.threads).embed(turns)
        size = sum(p.stat().st_size for p in args.fp32.parent.glob(args.fp32.name + "*")) / 1e6
        rows["fp32"] = measure(lambda: Fp32(args.fp32, args.threads), size, turns, reference)
    size = len(WEIGHTS.joinpath("model.onnx").read_bytes()) / 1e6
    rows["shipped"] = measure(lambda: MiniLM(args.threads), size, turns, reference)

    shipped = rows["shipped"]
    far = shipped["cosine_mean"] is not None and shipped["cosine_mean"] < LEAST_COSINE
    passed = shipped["drift"] == 0 and not far
    show(rows)
    print(json.dumps({"turns": len(turns), "threads": args.threads, "passed": passed, **rows}))
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
