"""Evidence coverage of `context()` on LoCoMo, by the tokens of what is sent, beside simpler prompts.

For each answerable question a context is assembled within 250 to 2,000 tokens (o200k, all that is sent
is counted). An evidence turn counts by the share of its characters that stands in the prompt to the
letter, sentence by sentence. `answer` is whether the gold answer's words stand there in one piece.

Beside it, within the same tokens: BM25 (the same index asked for its words alone), and the newest turns.
The full transcript holds everything; what it costs is printed. Run:

    python bench/context.py locomo_dev5.json
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean, median
from time import perf_counter
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.locomo import EVIDENCE, UNANSWERABLE
from mnemic import Memory, MemoryRecord
from mnemic.memory import ScopedMemory
from mnemic.models.terms import question_terms
from mnemic.models.tokens import count_tokens
from mnemic.retrieval.fuse import best_rows
from mnemic.retrieval.postings import bm25
from mnemic.transfer.importing import import_file

BUDGETS = (250, 500, 720, 1000, 2000)
METHODS = ("mnemic", "BM25", "newest turns")
ASKED_FOR = 400  # memories of a baseline, more than any budget here holds
Row = dict[Any, Any]

_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
_WORDS = re.compile(r"[^\w]+")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("file", type=Path)
    parser.add_argument(
        "--questions", type=int, help="only every nth, so that about so many are asked"
    )
    parser.add_argument(
        "--must", type=float, help="exit 1 where the coverage at 720 tokens is below this"
    )
    args = parser.parse_args()
    samples = json.loads(args.file.read_text("utf-8"))
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        Memory(Path(folder) / "locomo.db") as memory,
    ):
        import_file(memory, args.file, "locomo")
        asked = [row for sample in samples for row in ask_all(memory, sample, args.questions)]
    figures = summarise(asked)
    show(asked, figures)
    print(json.dumps(figures))
    return int(args.must is not None and figures["coverage@720"] < args.must)


def ask_all(memory: Memory, sample: dict[str, Any], most: int | None) -> list[Row]:
    """Assemble prompts for the answerable questions of one conversation, by each method."""
    talk = sample["conversation"]
    turns = {
        turn["dia_id"]: turn["text"]
        for key in talk
        if re.fullmatch(r"session_\d+", key)
        for turn in talk[key]
    }
    handle = memory.user(sample["sample_id"])
    everything = sorted(handle.iter_memories(), key=lambda m: (m.said_at, m.id))
    whole = "\n".join(line.render() for line in everything)
    questions = [qa for qa in sample["qa"] if qa["category"] != UNANSWERABLE]
    step = max(1, len(questions) // max(1, most // 5)) if most else 1
    rows = []
    for qa in questions[::step]:
        named = {e for text in qa["evidence"] for e in EVIDENCE.findall(text)}
        evidence = [turns[e] for e in sorted(named) if e in turns]
        if evidence:
            rows.append(ask(handle, qa, evidence, everything))
            rows[-1]["transcript"] = (count_tokens(whole), answered(qa["answer"], whole))
    return rows


def ask(
    handle: ScopedMemory, qa: dict[str, Any], evidence: list[str], everything: list[MemoryRecord]
) -> Row:
    """One question's coverage, answer and tokens, by method and budget."""
    row: Row = {"category": qa["category"]}
    ranked = {"BM25": by_words(handle, qa["question"]), "newest turns": everything[::-1]}
    for budget in BUDGETS:
        start = perf_counter()
        context = handle.context(qa["question"], budget=budget)
        row["ms", budget] = (perf_counter() - start) * 1000
        recount = count_tokens(context.text)
        assert context.tokens <= budget, "a budget is a budget"
        assert recount <= budget
        # Without the question itself, which stands in every prompt.
        prompts = {"mnemic": (context.text.rpartition(qa["question"])[0], context.tokens)}
        for name, memories in ranked.items():
            prompts[name] = filled(memories, budget)
        for name, (text, tokens) in prompts.items():
            row["coverage", name, budget] = fmean(share(turn, text) for turn in evidence)
            row["answer", name, budget] = answered(qa["answer"], text)
            row["tokens", name, budget] = tokens
    return row


def by_words(handle: ScopedMemory, question: str) -> list[MemoryRecord]:
    """The memories by BM25 of the question's words."""
    core = handle._core
    reader = core.reader()
    assert reader is not None
    index = reader.indexes.current(handle.scope, reader.known)
    scores = bm25(index.postings, question_terms(question))
    everyone = np.ones(len(index), dtype=np.bool_)
    keys = [index.id_of(int(row)) for row in best_rows(scores, everyone, ASKED_FOR)]
    records = core.store.find_records(handle.scope, keys)
    return [records[key] for key in keys]


def filled(memories: Iterable[MemoryRecord], budget: int) -> tuple[str, int]:
    """Whole lines in the order given while they fit the budget."""
    lines: list[str] = []
    tokens = 0
    for memory in memories:
        size = count_tokens(memory.render() + "\n")
        if tokens + size > budget:
            break
        lines.append(memory.render())
        tokens += size
    return "\n".join(lines), tokens


def share(turn: str, text: str) -> float:
    """The share of a turn's characters that stands in a text, by whole sentences."""
    if turn.strip() in text:
        return 1.0
    parts = [part for part in _SENTENCE.split(turn) if part.strip()]
    there = sum(len(part) for part in parts if part in text)
    return there / max(1, sum(map(len, parts)))


def answered(answer: Any, text: str) -> bool:
    """Whether the answer's words stand in a text in one piece, case and punctuation aside."""
    wanted = _WORDS.sub(" ", str(answer).casefold()).strip()
    return bool(wanted) and f" {wanted} " in f" {_WORDS.sub(' ', text.casefold())} "


def summarise(asked: list[Row]) -> dict[str, Any]:
    """Means over questions, with a 95% interval by bootstrap for 720 tokens."""
    figures: dict[str, Any] = {"questions": len(asked)}
    for budget in BUDGETS:
        figures[f"coverage@{budget}"] = mean(asked, "coverage", "mnemic", budget)
        figures[f"answer@{budget}"] = mean(asked, "answer", "mnemic", budget)
    for name in METHODS[1:]:
        figures[f"{name} coverage@720"] = mean(asked, "coverage", name, 720)
    values = np.array([row["coverage", "mnemic", 720] for row in asked])
    picks = np.random.default_rng(0).integers(0, len(values), (2000, len(values)))
    low, high = np.percentile(values[picks].mean(axis=1), [2.5, 97.5])
    figures["coverage@720_95%"] = [round(float(low), 4), round(float(high), 4)]
    figures["transcript_tokens"] = round(fmean(row["transcript"][0] for row in asked))
    figures["transcript_answer"] = round(fmean(row["transcript"][1] for row in asked), 4)
    figures["context_ms_median"] = round(median(row["ms", 720] for row in asked), 2)
    return figures


def mean(asked: Sequence[Row], what: str, name: str, budget: int) -> float:
    """The mean of one figure."""
    return round(fmean(row[what, name, budget] for row in asked), 4)


def show(asked: list[Row], figures: dict[str, Any]) -> None:
    """Print the tables."""
    heads = "".join(f"{budget:>9}" for budget in BUDGETS)
    for what in ("coverage", "answer", "tokens"):
        title = {"coverage": "evidence coverage", "answer": "answer in context"}.get(what, what)
        print(f"{title + ' at tokens' if what != 'tokens' else 'tokens used of':<30}{heads}")
        for name in METHODS:
            values = [mean(asked, what, name, budget) for budget in BUDGETS]
            form = "{:>9.0f}" if what == "tokens" else "{:>9.3f}"
            print(f"  {name:<28}" + "".join(form.format(value) for value in values))
        print()
    low, high = figures["coverage@720_95%"]
    print(
        f"full transcript: coverage 1, answer {figures['transcript_answer']:.3f},"
        f" {figures['transcript_tokens']:,} tokens a question\n"
        f"at 720 tokens {figures['coverage@720']:.3f} (95% over questions {low:.3f} to {high:.3f});"
        f" context() {figures['context_ms_median']} ms median; {len(asked)} questions\n"
    )


if __name__ == "__main__":
    sys.exit(main())
