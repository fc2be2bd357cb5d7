"""The figures of a report as tables of text, the same in a terminal, in a page and in the docs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mnemic.evaluation.asking import BUDGETS, METHODS
from mnemic.evaluation.reading import judged_by


@dataclass(frozen=True, slots=True)
class Shown:
    """A table: its title, heads and rows; `figures` tells that all columns but the first are numbers."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    figures: bool = True


KEYS = {
    "recall@5": "R@5",
    "recall@10": "R@10",
    "recall@20": "R@20",
    "any@5": "any@5",
    "all@10": "all@10",
    "session any@5": "session any@5",
    "session all@5": "session all@5",
    "ndcg@10": "NDCG@10",
    "mrr": "MRR",
}


def tables_of(report: Mapping[str, Any]) -> Iterator[Shown]:
    """All tables of a report, in reading order."""
    if report.get("measures"):
        rows = [
            (row["measure"], row["target"], row["ours"], row["verdict"])
            for row in report["measures"]
        ]
        head = ("measure", "the guide's target", "ours", "")
        yield Shown("The guide's six measures", head, tuple(rows), figures=False)
    if report.get("reading"):
        yield _reading(report["reading"])
    for name, figures in report["data"].items():
        if "ranking" in figures:
            yield _ranking(name, figures)
            if "coverage" in figures:
                yield _coverage(name, figures)
            yield _categories(name, figures)
            yield _cut(name, figures)
        elif "cases" in figures:
            yield _beliefs(name, figures)
        elif "newer_first" in figures:
            yield _conflicts(name, figures)


def _reading(read: Mapping[str, Any]) -> Shown:
    rows = [
        ("right with memory", number(read.get("with", math.nan))),
        ("right without", number(read.get("without", math.nan))),
        ("questions", f"{read['questions']}, {read['failed']} failed"),
        *((f"failed {count} times", error) for error, count in read["errors"].items()),
    ]
    title = f"Answers by {read['reader']}, {judged_by(read)}"
    return Shown(title, ("", "answers"), tuple(rows), figures=False)


def _ranking(name: str, figures: Mapping[str, Any]) -> Shown:
    rows = []
    for method in METHODS:
        values = figures["ranking"][method]
        rows.append((method, *(number(values[key][0]) for key in KEYS)))
    low, high = figures["ranking"][METHODS[0]]["recall@10"][1:]
    title = (
        f"{name}: {figures['messages']:,} messages, {figures['with_evidence']:,} questions with evidence;"
        f" 95% of R@10 {number(low)} to {number(high)}"
    )
    return Shown(title, ("found", *KEYS.values()), tuple(rows))


def _coverage(name: str, figures: Mapping[str, Any]) -> Shown:
    rows = [
        (
            f"{method}{mark}",
            *(number(figures[what][method][str(budget)][0]) for budget in BUDGETS),
        )
        for what, mark in (("coverage", ""), ("answers", ", answers"))
        for method in METHODS
    ]
    title = (
        f"{name}: evidence covered, and answers that stand there, by tokens of context"
        f" (full transcript: 1, {number(figures['transcript_answers'])},"
        f" {figures['transcript_tokens']:,.0f} tokens)"
    )
    return Shown(title, ("tokens", *map(str, BUDGETS)), tuple(rows))


def _categories(name: str, figures: Mapping[str, Any]) -> Shown:
    keys = ("recall@5", "recall@10", "recall@20")
    rows = [
        (category, *(number(values[key]) for key in keys), str(values["questions"]))
        for category, values in figures["categories"].items()
    ]
    return Shown(f"{name}: by category", ("category", "R@5", "R@10", "R@20", "n"), tuple(rows))


def _cut(name: str, figures: Mapping[str, Any]) -> Shown:
    cut, latency = figures["cut"], figures["latency"]
    rows = [
        ("memories handed over (of at most 10)", f"{cut['hits']:.2f}"),
        ("coverage lost against the first 10", number(cut["lost"])),
        ("precision", f"{number(cut['precision'])}, {cut['gain']:.2f} times the first 10's"),
    ]
    if "strangers" in cut:
        rows += [
            (
                f"tokens for {cut['strangers']:,.0f} questions about other people",
                f"{cut['strangers_share']:.2f} of the right store's",
            ),
            ("area under the curve, right store against wrong", number(cut["auc"])),
        ]
    rows.append(("recall beyond the embedding, median and p99", _spent(latency)))
    return Shown(f"{name}: where relevance ends", ("", "ours"), tuple(rows))


def _spent(latency: Mapping[str, float]) -> str:
    return f"{latency['recall_ms']:.1f} and {latency['recall_p99_ms']:.1f} ms"


def _beliefs(name: str, figures: Mapping[str, Any]) -> Shown:
    rows = [
        ("cases", str(figures["cases"])),
        (
            f"precision (over {figures['with_relevant']} with relevant ones)",
            number(figures["precision"]),
        ),
        ("recall", number(figures["recall"])),
        ("handed over", f"{figures['handed']:.2f}"),
        ("drift in sessions", number(figures.get("drift", math.nan))),
    ]
    return Shown(f"{name}: beliefs", ("", "ours"), tuple(rows))


def _conflicts(name: str, figures: Mapping[str, Any]) -> Shown:
    newer = figures["newer_first"]
    rows = [
        (
            f"the newest fact above the stale, of {newer['questions']} questions",
            number(newer["share"]),
        ),
        ("by recency alone", number(figures["by_recency"])),
    ]
    return Shown(f"{name}: facts that change", ("", "ours"), tuple(rows))


def number(value: float) -> str:
    """A share as people write it in tables.

    >>> number(0.8241), number(1.0)
    ('.824', '1.000')
    """
    if math.isnan(value):
        return "-"
    return f"{value:.3f}".removeprefix("0") if 0 <= value < 1 else f"{value:.3f}"
