"""Evidence-turn recall on LoCoMo: of the turns that hold the answer, the share among the first k ids.

The ranked list is the distinct message ids in hit order; a memory that several messages say uses a
place for each. Answerable questions with evidence that exists only. Run:

    python bench/locomo.py locomo_dev5.json
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from statistics import fmean, median
from time import perf_counter
from typing import Any

import numpy as np

from mnemic import Memory, Recall
from mnemic.memory import ScopedMemory
from mnemic.models.terms import question_terms
from mnemic.retrieval.fuse import best_rows
from mnemic.retrieval.postings import bm25
from mnemic.transfer.importing import import_file

KS = (5, 10, 20)
CATEGORIES = {1: "multi-hop", 2: "temporal", 3: "open-domain", 4: "single-hop"}
UNANSWERABLE = 5
Row = dict[Any, Any]

EVIDENCE = re.compile(r"D\d+:\d+")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("--db", help="a database that the file was imported into already")
    parser.add_argument("--must", type=float, default=None, help="exit 1 where R@10 is below this")
    args = parser.parse_args()
    samples = json.loads(args.file.read_text("utf-8"))
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        Memory(args.db or Path(folder) / "locomo.db") as memory,
    ):
        start = perf_counter()
        report = import_file(memory, args.file, "locomo")
        seconds = perf_counter() - start
        asked = [row for sample in samples for row in ask_all(memory, sample)]
    figures = summarise(asked)
    figures |= {
        "conversations": len(samples),
        "messages": report.messages + report.there_already,
        "import_s": round(seconds, 2),
    }
    show(asked, figures)
    print(json.dumps(figures))
    return int(args.must is not None and figures["recall@10"] < args.must)


def ask_all(memory: Memory, sample: dict[str, Any]) -> list[Row]:
    """Ask every answerable question of one conversation; the recalls of ours and of the baselines."""
    talk = sample["conversation"]
    turns = {t["dia_id"] for key in talk if re.fullmatch(r"session_\d+", key) for t in talk[key]}
    handle = memory.user(sample["sample_id"])
    rows: list[Row] = []
    for qa in sample["qa"]:
        evidence = {e for text in qa["evidence"] for e in EVIDENCE.findall(text)} & turns
        if qa["category"] == UNANSWERABLE or not evidence:
            continue
        start = perf_counter()
        found = handle.recall(qa["question"], limit=max(KS) * 2, min_relevance=0)
        spent = (perf_counter() - start) * 1000
        ranked = {"mnemic": ids_in_order(found), **baselines(handle, qa["question"])}
        rows.append(
            {"category": qa["category"], "ms": spent}
            | {
                (name, k): len(evidence & set(ids[:k])) / len(evidence)
                for name, ids in ranked.items()
                for k in KS
            }
        )
    return rows


def ids_in_order(found: Recall) -> list[str]:
    """The distinct message ids of the hits, each using one place."""
    return list(dict.fromkeys(i for hit in found for i in hit.memory.message_ids))


def baselines(handle: ScopedMemory, question: str) -> dict[str, list[str]]:
    """The same index asked for its words alone, and for its vectors alone."""
    core = handle._core
    reader = core.reader()
    assert reader is not None
    index = reader.indexes.current(handle.scope, reader.known)
    vector = core.embedder.embed([question])[0]
    scores = {
        "BM25 alone": bm25(index.postings, question_terms(question)),
        "embedder alone": index.matrix @ vector,
    }
    everyone = np.ones(len(index), dtype=np.bool_)
    ranked = {}
    for name, score in scores.items():
        keys = [index.id_of(int(row)) for row in best_rows(score, everyone, max(KS))]
        records = core.store.find_records(handle.scope, keys)
        ids = (i for key in keys for i in records[key].message_ids)
        ranked[name] = list(dict.fromkeys(ids))
    return ranked


def summarise(asked: list[Row]) -> dict[str, Any]:
    """Means over questions, and a 95% interval for R@10 by bootstrap."""
    figures: dict[str, Any] = {"questions": len(asked)}
    for k in KS:
        figures[f"recall@{k}"] = round(fmean(row["mnemic", k] for row in asked), 4)
    tens = np.array([row["mnemic", 10] for row in asked])
    picks = np.random.default_rng(0).integers(0, len(tens), (2000, len(tens)))
    low, high = np.percentile(tens[picks].mean(axis=1), [2.5, 97.5])
    figures["recall@10_95%"] = [round(float(low), 4), round(float(high), 4)]
    for name in ("BM25 alone", "embedder alone"):
        figures[f"{name} recall@10"] = round(fmean(row[name, 10] for row in asked), 4)
    figures["recall_ms_median"] = round(median(row["ms"] for row in asked), 2)
    return figures


def show(asked: list[Row], figures: dict[str, Any]) -> None:
    """Print the tables."""
    print(f"{figures['messages']} messages, {len(asked)} answerable questions with evidence\n")
    print(f"{'evidence-turn recall':<24}" + "".join(f"{'@' + str(k):>8}" for k in KS))
    for name in ("mnemic", "BM25 alone", "embedder alone"):
        values = "".join(f"{fmean(r[name, k] for r in asked):>8.3f}" for k in KS)
        print(f"{name:<24}{values}")
    groups = defaultdict(list)
    for row in asked:
        groups[row["category"]].append(row)
    print(f"\n{'mnemic by category':<24}" + "".join(f"{'@' + str(k):>8}" for k in KS) + "       n")
    for category, rows in sorted(groups.items()):
        values = "".join(f"{fmean(r['mnemic', k] for r in rows):>8.3f}" for k in KS)
        print(f"{CATEGORIES.get(category, category):<24}{values}{len(rows):>8}")
    low, high = figures["recall@10_95%"]
    print(
        f"\nR@10 {figures['recall@10']:.3f} (95% over questions {low:.3f} to {high:.3f});"
        f" import {figures['import_s']} s, recall {figures['recall_ms_median']} ms median\n"
    )


if __name__ == "__main__":
    sys.exit(main())
