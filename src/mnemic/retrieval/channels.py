"""The channels that score a scope's memories for a question, each a full vector of scores. Pure.

A channel says how strongly; `fuse` says how much that counts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mnemic.retrieval.clues import read_asked
from mnemic.retrieval.index import SOURCES, Index
from mnemic.retrieval.postings import Floats, bm25
from mnemic.retrieval.timewords import TimeWindow
from mnemic.stores.rows import to_micros

# How much a memory takes from those said one and two turns before and after it. A question's words
# often stand in the turn that asked for the answer. LoCoMo, development half: R@10 .68 without, .76
# with; flat between .3 and .5.
NEAR, FAR = 0.4, 0.15

_DAY = 86_400_000_000


def standardised(scores: Floats, live: NDArray[np.bool_] | None) -> Floats:
    """Scores as deviations from their mean in standard deviations, over the live rows.

    >>> standardised(np.array([1.0, 2.0, 3.0], dtype=np.float32), None).round(2).tolist()
    [-1.2200000286102295, 0.0, 1.2200000286102295]
    """
    sample = scores if live is None else scores[live]
    if not len(sample):
        return np.zeros_like(scores)
    mean = sample.mean(dtype=np.float64)
    centred: Floats = scores - np.float32(mean)
    inside = centred if live is None else centred[live]
    spread = math.sqrt(float(inside @ inside) / len(inside))
    if spread < 1e-7:
        return np.zeros_like(scores)
    centred /= np.float32(spread)
    return centred


def meaning(index: Index, vector: NDArray[np.float32]) -> Floats:
    """Cosine of the question with every memory; a memory without a vector yet has the mean."""
    scores: Floats = index.matrix @ vector
    there = index.columns.has_vector
    if not there.all():
        scores[~there] = scores[there].mean() if there.any() else 0.0
    return scores


def wording(index: Index, terms: Sequence[int]) -> Floats:
    """BM25 of the question's terms with the scope's own statistics."""
    return bm25(index.postings, terms)


def around(index: Index, scores: Floats) -> Floats:
    """What each memory takes from its neighbours in the conversation.

    A memory that was said in several places takes the best of them.
    """
    places = index.places
    plain = places.plain and len(places.row) == len(scores)
    at_place = scores if plain else scores[places.row]
    taken = np.zeros_like(at_place)
    for steps, share in ((1, NEAR), (2, FAR)):
        if len(at_place) > steps:
            weight = places.together[steps - 1] * np.float32(share)
            taken[steps:] += weight * at_place[:-steps]
            taken[:-steps] += weight * at_place[steps:]
    if plain:
        return taken
    if len(places.row) == len(scores):
        gathered = np.zeros_like(scores)
        gathered[places.row] = taken
        return gathered
    gathered = np.full_like(scores, -np.inf)
    np.maximum.at(gathered, places.row, taken)
    gathered[np.isneginf(gathered)] = 0.0
    return gathered


def speaker(index: Index, question: str) -> Floats | None:
    """1 for the memories of a speaker whom the question names; None where it names none."""
    folded = question.casefold()
    named = [
        code
        for code, name in enumerate(index.speakers)
        if re.search(rf"(?<!\w){re.escape(name.casefold())}(?!\w)", folded)
    ]
    if not named:
        return None
    found: Floats = np.isin(index.columns.speaker, named).astype(np.float32)
    return found


def source(index: Index, question: str) -> Floats | None:
    """1 for whose words the question is after: the assistant's where it asks for them, else the user's.

    None where it is after both (a summary), or the scope holds no assistant's words, so that two people
    talking are left alone.
    """
    asked = read_asked(question)
    assistant = index.columns.source == SOURCES.index("assistant")
    if asked.summary or not assistant.any():
        return None
    whose = "assistant" if asked.assistant else "user"
    found: Floats = (index.columns.source == SOURCES.index(whose)).astype(np.float32)
    return found


def time(index: Index, windows: Sequence[TimeWindow]) -> Floats:
    """How near the time of a memory is to the times that the question names: 1 inside, fading to 0."""
    best = np.zeros(len(index), dtype=np.float32)
    for window in windows:
        at_place = _nearness(index.places.said_at, window)
        scores = np.zeros(len(index), dtype=np.float32)
        np.maximum.at(scores, index.places.row, at_place)
        best = np.maximum(best, scores)
    return best


def _nearness(said_at: NDArray[np.int64], window: TimeWindow) -> Floats:
    start, end = to_micros(window.start), to_micros(window.end)
    if window.relation == "before":
        return (said_at < start).astype(np.float32)
    if window.relation == "after":
        return (said_at >= end).astype(np.float32)
    # What happened then is often told some days later, and seldom foretold.
    late = max(3 * _DAY, (end - start) // 2)
    early = max(_DAY, (end - start) // 8)
    behind = np.clip((said_at - end) / late, 0.0, None)
    ahead = np.clip((start - said_at) / early, 0.0, None)
    near: Floats = np.clip(1.0 - np.maximum(behind, ahead), 0.0, 1.0).astype(np.float32)
    return near
