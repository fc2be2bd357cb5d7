"""The measures: ranked ids, text and labels in, figures out. Pure; docs/evaluation.md defines each."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mnemic.evaluation.datasets import Question
from mnemic.models.terms import iter_terms

LONG = 1_000  # characters: of a longer turn only the sentences that bear the answer count
SAMPLES = 2_000  # of the bootstrap

_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
_WORDS = re.compile(r"[^\w]+")


def recall_at(ranked: Sequence[str], evidence: Iterable[str], k: int) -> float:
    """The share of the evidence among the first k.

    >>> recall_at(["a", "b", "c"], ["c", "a"], 2)
    0.5
    """
    wanted = set(evidence)
    return len(wanted & set(ranked[:k])) / len(wanted)


def ndcg_at(ranked: Sequence[str], evidence: Iterable[str], k: int) -> float:
    """Normalised discounted cumulative gain, each piece of evidence a gain of 1.

    >>> ndcg_at(["a", "b"], ["a"], 2)
    1.0
    """
    wanted = set(evidence)
    gain = sum(1 / math.log2(at + 2) for at, one in enumerate(ranked[:k]) if one in wanted)
    return gain / sum(1 / math.log2(at + 2) for at in range(min(k, len(wanted))))


def reciprocal_rank(ranked: Sequence[str], evidence: Iterable[str]) -> float:
    """One over the place of the first piece of evidence, 0 where there is none."""
    wanted = set(evidence)
    return next((1 / at for at, one in enumerate(ranked, 1) if one in wanted), 0.0)


def rendered(turn: str, question: Question, text: str) -> float:
    """The share of a turn's characters that stands in a text to the letter, by whole sentences.

    Of a turn over `LONG` characters the sentences that bear the answer count, where any can be told.
    """
    if turn.strip() in text:
        return 1.0
    parts = bearing(turn, question) if len(turn) > LONG else sentences(turn)
    there = sum(len(part) for part in parts if part in text)
    return there / max(1, sum(map(len, parts)))


def sentences(turn: str) -> list[str]:
    """A turn's sentences and lines."""
    return [part.strip() for part in _SENTENCE.split(turn) if part.strip()]


def bearing(turn: str, question: Question) -> list[str]:
    """The sentences that hold words of the answer, or quotations that bear it; else all."""
    parts = sentences(turn)
    quoted = [p for p in parts if any(_alike(span, p) for span in question.spans)]
    if quoted:
        return quoted
    words = _terms(question.answer) - _terms(question.text)
    with_words = [part for part in parts if words & _terms(part)]
    return with_words or parts


def _alike(span: str, part: str) -> bool:
    span, part = folded(span), folded(part)
    return bool(span) and (span in part or part in span)


@lru_cache(maxsize=4096)
def _terms(text: str) -> frozenset[str]:
    return frozenset(iter_terms(text))


def folded(text: str) -> str:
    """A text's words alone.

    >>> folded("At 7:30, twice!")
    'at 7 30 twice'
    """
    return _WORDS.sub(" ", text.casefold()).strip()


def answered(answer: str, text: str) -> bool:
    """Whether the answer's words stand in a text in one piece, case and punctuation aside."""
    wanted = folded(answer)
    return bool(wanted) and f" {wanted} " in f" {folded(text)} "


def interval(values: Sequence[float], groups: Sequence[str]) -> tuple[float, float, float]:
    """Mean and 95% interval by bootstrap over groups (conversations), each drawn with all its questions."""
    if not values:
        return math.nan, math.nan, math.nan
    names = {name: at for at, name in enumerate(dict.fromkeys(groups))}
    which = np.array([names[name] for name in groups])
    sums = np.bincount(which, weights=np.array(values, dtype=np.float64))
    sizes = np.bincount(which).astype(np.float64)
    draws = np.random.default_rng(0).integers(0, len(names), (SAMPLES, len(names)))
    means = sums[draws].sum(axis=1) / sizes[draws].sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(np.mean(values)), float(low), float(high)


def area(right: Sequence[float], wrong: Sequence[float]) -> float:
    """The area under the curve: how often a right one is above a wrong one, ties half.

    >>> area([0.9, 0.4], [0.1, 0.4])
    0.875
    """
    if not len(right) or not len(wrong):
        return math.nan
    ordered = np.sort(np.asarray(wrong, dtype=np.float64))
    below = np.searchsorted(ordered, right, side="left")
    upto = np.searchsorted(ordered, right, side="right")
    return float((below + upto).mean() / 2 / len(ordered))


def bloat(
    vectors: NDArray[np.float32], texts: Sequence[str], alike: float
) -> tuple[int, list[tuple[int, int]]]:
    """Memories that repeat an earlier one: how many, and some pairs of their places.

    Two repeat each other where their cosine is at least `alike` and they hold the same numbers.
    """
    repeats: list[tuple[int, int]] = []
    for at in range(1, len(texts)):
        near = vectors[:at] @ vectors[at]
        for other in np.flatnonzero(near >= alike)[::-1]:
            if _numbers(texts[at]) == _numbers(texts[int(other)]):
                repeats.append((int(other), at))
                break
    return len(repeats), repeats


@lru_cache(maxsize=1 << 16)
def _numbers(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\d+", text))


def mean_of(rows: Iterable[Mapping[str, float]], key: str) -> float:
    """The mean of one figure over rows that have it."""
    values = [row[key] for row in rows if key in row]
    return sum(values) / len(values) if values else math.nan
