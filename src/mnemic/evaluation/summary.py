"""From rows to figures: by data set, by category, by method, and the guide's six measures."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np

from mnemic.evaluation.asking import BUDGETS, KS, METHODS, OURS, READ_AT
from mnemic.evaluation.measures import area, interval
from mnemic.evaluation.reading import judged_by

Row = dict[str, Any]
WORST = 20  # questions shown with what was found instead
PERSONAL_AT = str(READ_AT)  # tokens at which answers are compared
ERRORS = 5  # kinds of what went wrong with a reader, told


def summarise(rows: Sequence[Row], fresh: Mapping[str, float] | None = None) -> Row:
    """Everything a report shows, as JSON."""
    by_data: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_data[row["data"]].append(row)
    data = {name: figures_of(some) for name, some in by_data.items()}
    talks = [row for row in rows if row["type"] in ("question", "stranger", "store")]
    report: Row = {"data": data, "freshness": dict(fresh or {})}
    read = reading_of(rows)
    if read is not None:
        report["reading"] = read
    if talks:
        report["measures"] = six_measures(talks, fresh)
    return report


def figures_of(rows: Sequence[Row]) -> Row:
    """The figures of one data set."""
    kind = rows[0]["type"]
    if kind == "belief":
        return _beliefs(rows)
    if kind == "conflict":
        return _conflicts(rows)
    asked = [row for row in rows if row["type"] == "question"]
    counted = [row for row in asked if row["counts"]]
    stores = [row for row in rows if row["type"] == "store"]
    figures: Row = {
        "conversations": len(stores),
        "messages": sum(row["messages"] for row in stores),
        "memories": sum(row["memories"] for row in stores),
        "questions": len(asked),
        "with_evidence": len(counted),
    }
    if not counted:
        return figures
    figures["ranking"] = {name: ranking(counted, name) for name in METHODS}
    figures["categories"] = _categories(counted)
    figures["cut"] = cut_of(counted, [row for row in rows if row["type"] == "stranger"])
    figures["latency"] = _latency(asked)
    figures["transcript_tokens"] = _mean(row["transcript_tokens"] for row in stores)
    figures["transcript_answers"] = sum(row["transcript_answers"] for row in stores) / len(counted)
    if "coverage" in counted[0]:
        figures["coverage"] = _by_budget(counted, "coverage")
        figures["answers"] = _by_budget(counted, "answer_in")
    updates = [row["newer_first"] for row in counted if "newer_first" in row]
    if updates:
        figures["newer_first"] = {"questions": len(updates), "share": _mean(updates)}
    missed = [row for row in counted if "found" in row]
    missed.sort(key=lambda row: (row[OURS]["recall@10"], row["conversation"], row["id"]))
    figures["worst"] = [
        {k: row[k] for k in ("conversation", "category", "question", "answer", "found", "missed")}
        for row in missed[:WORST]
    ]
    return figures


def ranking(rows: Sequence[Row], name: str) -> dict[str, list[float]]:
    """Each figure of a method: mean, and the ends of its 95% interval."""
    groups = [row["conversation"] for row in rows]
    keys = list(rows[0][name])
    return {key: _interval([row[name][key] for row in rows], groups) for key in keys}


def _interval(values: Sequence[float], groups: Sequence[str]) -> list[float]:
    return [round(value, 4) for value in interval(values, groups)]


def _categories(rows: Sequence[Row]) -> Row:
    by: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by[row["category"]].append(row)
    return {
        name: {"questions": len(some)}
        | {f"recall@{k}": round(_mean(row[OURS][f"recall@{k}"] for row in some), 4) for k in KS}
        for name, some in sorted(by.items())
    }


def cut_of(right: Sequence[Row], strangers: Sequence[Row]) -> Row:
    """What the cut hands over, what it costs, and what strangers' questions get."""
    tens, cuts = [_mean(row[f"{w}_precision"] for row in right) for w in ("ten", "cut")]
    tokens = _mean(row["cut_tokens"] for row in right)
    figures: Row = {
        "hits": _mean(row["cut_hits"] for row in right),
        "tokens": tokens,
        "lost": _mean(row["ten_recall"] - row["cut_recall"] for row in right),
        "precision": cuts,
        "gain": cuts / tens if tens else math.nan,
    }
    if strangers:
        figures |= {
            "strangers": len(strangers),
            "strangers_tokens": _mean(row["tokens"] for row in strangers),
            "strangers_share": _mean(row["tokens"] for row in strangers) / max(tokens, 1e-9),
            "strangers_none": _mean(float(row["hits"] == 0) for row in strangers),
            "auc": area([row["top"] for row in right], [row["top"] for row in strangers]),
        }
    return {key: round(value, 4) for key, value in figures.items()}


def _latency(rows: Sequence[Row]) -> Row:
    times = [row["beyond_ms"] for row in rows]
    figures = {
        "recall_ms": median(times),
        "recall_p99_ms": float(np.percentile(times, 99)),
    }
    spent = [ms for row in rows for ms in row.get("context_ms", ())]
    if spent:
        figures["context_ms"] = median(spent)
    return {key: round(value, 2) for key, value in figures.items()}


def _by_budget(rows: Sequence[Row], what: str) -> dict[str, dict[str, list[float]]]:
    groups = [row["conversation"] for row in rows]
    return {
        name: {
            str(budget): _interval([row[what][name][str(budget)] for row in rows], groups)
            for budget in BUDGETS
        }
        for name in METHODS
    }


def _beliefs(rows: Sequence[Row]) -> Row:
    single = [row for row in rows if not row["session"]]
    turns = [row for row in rows if row["session"]]
    figures: Row = {
        "cases": len(rows),
        "with_relevant": sum("precision" in row for row in single),
        "precision": round(_mean(r["precision"] for r in single if "precision" in r), 4),
        "recall": round(_mean(r["recall"] for r in single if "recall" in r), 4),
        "handed": round(_mean(row["handed"] for row in rows), 2),
    }
    if turns:
        figures["drift"] = round(_mean(row["drift"] for row in turns), 4)
    bad = [row for row in rows if row.get("precision", 1.0) < 1 or row.get("recall", 1.0) < 1]
    figures["worst"] = [
        {k: row[k] for k in ("id", "question", "found", "wanted")} for row in bad[:WORST]
    ]
    return figures


def _conflicts(rows: Sequence[Row]) -> Row:
    return {
        "questions": len(rows),
        "newer_first": {
            "questions": len(rows),
            "share": round(_mean(row["newer_first"] for row in rows), 4),
        },
        "by_recency": round(_mean(row["by_recency"] for row in rows), 4),
    }


def six_measures(rows: Sequence[Row], fresh: Mapping[str, float] | None) -> list[Row]:
    """The guide's measures, its targets, ours, and whether they are met."""
    counted = [row for row in rows if row["type"] == "question" and row["counts"]]
    stores = [row for row in rows if row["type"] == "store"]
    precision = _mean(row["cut_precision"] for row in counted)
    coverage = _mean(row["cut_recall"] for row in counted)
    memories = sum(row["memories"] for row in stores)
    bloat = sum(row["repeats"] for row in stores) / max(1, memories)
    kept = _mean(row["kept"] for row in stores if "kept" in row)
    merged = sum(row.get("merged", 0) for row in stores)
    table = [
        _measure("recall precision", "> 70%", _percent(precision), precision > 0.70),
        _measure("recall coverage", "> 50%", _percent(coverage), coverage > 0.50),
        _fresh(fresh),
        _measure(
            "consolidation quality",
            "subjective",
            f"{_percent(kept)} of names and numbers kept where repeats are merged ({merged})",
            kept > 0.999,
        ),
        _personal(counted),
        _measure("memory bloat", "< 15%", _percent(bloat), bloat < 0.15),
    ]
    return table


def _measure(name: str, target: str, ours: str, met: bool | None) -> Row:
    verdict = "not measured" if met is None else "met" if met else "missed"
    return {"measure": name, "target": target, "ours": ours, "verdict": verdict}


def _fresh(fresh: Mapping[str, float] | None) -> Row:
    if not fresh:
        return _measure("freshness", "< 5 s", "not measured", None)
    p99 = fresh["p99_ms"]
    says = f"{p99:,.0f} ms (p99, another process, {fresh['backlog']:,.0f} jobs waiting)"
    return _measure("freshness", "< 5 s", says, p99 < 5_000)


def reading_of(rows: Sequence[Row]) -> Row | None:
    """What a reader answered: shares right with memory and without, over questions that got both."""
    read = [row["read"] for row in rows if "read" in row]
    if not read:
        return None
    sides = ("with", "without")
    both = [one for one in read if all("right" in one[side] for side in sides)]
    errors = Counter(one[side]["error"] for one in read for side in sides if "error" in one[side])
    figures: Row = {
        "reader": read[0]["reader"],
        "judge": read[0]["judge"],
        "questions": len(read),
        "failed": len(read) - len(both),
        "errors": dict(errors.most_common(ERRORS)),
    }
    if both:
        figures |= {side: round(_mean(one[side]["right"] for one in both), 4) for side in sides}
    return figures


def _personal(rows: Sequence[Row]) -> Row:
    """By what a reader answers, where one was asked; else by answers that stand in the context."""
    having = [row for row in rows if "answer_in" in row]
    if not having:
        return _measure("personalization", "> 20% better", "not measured", None)
    ours = _mean(row["answer_in"][OURS][PERSONAL_AT] for row in having)
    without = _mean(row["answer_in"]["recency"][PERSONAL_AT] for row in having)
    better = _better(ours, without)
    says = (
        f"{_percent(ours)} of answers in the context, {_percent(without)} in as many tokens of the"
        f" newest turns: {_gain(better)}"
    )
    met: bool | None = better > 0.20
    read = reading_of(rows)
    if read is not None:
        met = _better(read["with"], read["without"]) > 0.20 if "with" in read else None
        says = f"{_read(read)}; {says}"
    return _measure("personalization", "> 20% better", says, met)


def _read(read: Row) -> str:
    """What a reader answered, in a line."""
    judged = judged_by(read)
    asked = f"{read['questions']} questions, {read['failed']} failed"
    if "with" not in read:
        return f"{read['reader']} ({judged}): {asked}"
    better = _gain(_better(read["with"], read["without"]))
    return (
        f"{read['reader']} ({judged}): {_percent(read['with'])} right with memory,"
        f" {_percent(read['without'])} without: {better} ({asked})"
    )


def _better(ours: float, without: float) -> float:
    """How much more, as a share of what it is without."""
    return ours / without - 1 if without else math.inf if ours else 0.0


def _gain(better: float) -> str:
    return f"{_percent(better) if math.isfinite(better) else 'infinitely'} better"


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.1%}" if value < 10 else f"{value:.0%}"


def _mean(values: Iterable[float]) -> float:
    some = list(values)
    return sum(some) / len(some) if some else math.nan
