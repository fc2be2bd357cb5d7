"""Plots of a run as PNG: coverage by tokens, recall by rank, by category, and latency."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

from mnemic.errors import InputError
from mnemic.evaluation.asking import BUDGETS, KS, METHODS, OURS

_COLOURS = {OURS: "#1a5fb4", "BM25": "#c64600", "embedder": "#613583", "recency": "#77767b"}


def draw(report: Mapping[str, Any]) -> dict[str, bytes]:
    """All plots by name; needs the extra `eval`. Raises `InputError` where it isn't installed."""
    try:
        figure_of = import_module("matplotlib.figure").Figure
    except ImportError:
        raise InputError("plots need matplotlib: pip install 'mnemic[eval]'") from None
    return {
        name: _png(figure)
        for data, figures in report["data"].items()
        if "ranking" in figures
        for name, figure in _plots(data, figures, figure_of)
    }


def _png(figure: Any) -> bytes:
    raw = io.BytesIO()
    figure.savefig(raw, format="png", dpi=110, bbox_inches="tight", metadata={"Software": None})
    return raw.getvalue()


def _plots(data: str, figures: Mapping[str, Any], figure_of: Any) -> Iterator[tuple[str, Any]]:
    yield f"{data}-recall-by-rank", _recall(data, figures, figure_of)
    if "coverage" in figures:
        yield f"{data}-coverage-by-tokens", _coverage(data, figures, figure_of)
    yield f"{data}-by-category", _categories(data, figures, figure_of)
    yield f"{data}-latency", _latency(data, figures, figure_of)


def _axes(figure_of: Any, title: str, size: tuple[float, float] = (7, 4)) -> tuple[Any, Any]:
    figure = figure_of(figsize=size)
    axes = figure.subplots()
    axes.set_title(title, loc="left")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _recall(data: str, figures: Mapping[str, Any], figure_of: Any) -> Any:
    figure, axes = _axes(figure_of, f"{data}: evidence found among the first k")
    for name in METHODS:
        values = [figures["ranking"][name][f"recall@{k}"] for k in KS]
        _line(axes, KS, values, name)
    axes.set(xlabel="k", ylabel="recall", ylim=(0, 1), xticks=KS)
    axes.legend(frameon=False)
    return figure


def _coverage(data: str, figures: Mapping[str, Any], figure_of: Any) -> Any:
    figure, axes = _axes(figure_of, f"{data}: evidence covered by tokens of context")
    for name in METHODS:
        _line(axes, BUDGETS, [figures["coverage"][name][str(b)] for b in BUDGETS], name)
    axes.set(xlabel="tokens", ylabel="coverage", ylim=(0, 1), xscale="log")
    axes.set_xticks(BUDGETS, [str(budget) for budget in BUDGETS])
    axes.minorticks_off()
    axes.legend(frameon=False)
    return figure


def _line(axes: Any, xs: Any, values: Any, name: str) -> None:
    means, low, high = zip(*values, strict=True)
    axes.plot(xs, means, marker="o", label=name, color=_COLOURS[name])
    axes.fill_between(xs, low, high, color=_COLOURS[name], alpha=0.12, linewidth=0)


def _categories(data: str, figures: Mapping[str, Any], figure_of: Any) -> Any:
    names = list(figures["categories"])[::-1]
    figure, axes = _axes(figure_of, f"{data}: recall@10 by category", (7, 1 + 0.38 * len(names)))
    values = [figures["categories"][name]["recall@10"] for name in names]
    axes.barh(names, values, color=_COLOURS[OURS])
    for at, value in enumerate(values):
        axes.text(min(value + 0.01, 0.95), at, f"{value:.2f}", va="center")
    axes.set(xlim=(0, 1))
    return figure


def _latency(data: str, figures: Mapping[str, Any], figure_of: Any) -> Any:
    shown = {
        "recall_ms": "recall, median\n(embedding excluded)",
        "recall_p99_ms": "recall, p99",
        "context_ms": "context, median",
    }
    there = {
        words: figures["latency"][key] for key, words in shown.items() if key in figures["latency"]
    }
    figure, axes = _axes(figure_of, f"{data}: milliseconds", (7, 2.2))
    axes.barh(list(there)[::-1], list(there.values())[::-1], color=_COLOURS[OURS])
    return figure
