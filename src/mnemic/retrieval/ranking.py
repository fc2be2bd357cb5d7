"""The fitted part of a recall: features -> a score, and the probability that a memory answers. Pure.

Both are linear, with weights from `fitted.json`; `scripts/fit_ranking.py` makes that file, and tells on
what it was fitted. A score has one set of weights for people talking and one for talks with an assistant,
and is made of parts that can be told apart (`Hit.channels`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnemic.retrieval.features import FEATURES, Scored, conversation_kind, look, nearness
from mnemic.retrieval.index import Index
from mnemic.retrieval.postings import Floats

Matrix = NDArray[np.float32]

# How well the tokens of a candidate meet a question's where an embedder makes no codes of them.
_USUALLY_MET = 0.25

# What the probability rests on, beside the score.
SIGNALS = (
    "score",
    "share of the scores",
    "behind the best",
    "rank",
    "covered",
    "more covered within two turns",
    "more covered by its session",
    "meaning",
    "words",
    "nearness",
    "tokens met",
    "most tokens met",
    "names nobody said",
    "speaker named",
    "another speaker named",
    "most covered",
    "most covered by a session",
    "nearest",
    "terms",
    "assistant",
    "size",
)


@dataclass(frozen=True, slots=True)
class Fitted:
    """What was fitted: weights of features and of signals, and what a kind of conversation adds to each."""

    shared: Floats
    kind: Floats
    signals: Floats
    signals_kind: Floats
    bias: float

    def weights(self, kind: float) -> Floats:
        """The weights of features for a kind of conversation: -1 people, 1 an assistant."""
        return self.shared + np.float32(kind) * self.kind

    def odds(self, seen: Matrix, kind: float) -> Floats:
        """The logarithm of the odds that a candidate answers, from its signals."""
        weights = self.signals + np.float32(kind) * self.signals_kind
        odds: Floats = (seen @ weights + np.float32(self.bias)).astype(np.float32, copy=False)
        return odds


@dataclass(frozen=True, slots=True)
class Ranked:
    """Candidates, best first: their rows, scores, probabilities, and what each group of features gave."""

    rows: NDArray[np.int64]
    scores: Floats
    relevance: Floats
    shares: Mapping[str, Floats]


@lru_cache(maxsize=2)
def load_fitted(coded: bool) -> Fitted:
    """Read the weights that come with the package: for embedders that code tokens, or for the others."""
    text = resources.files("mnemic.retrieval").joinpath("fitted.json").read_text("utf-8")
    raw: dict[str, Any] = json.loads(text)["coded" if coded else "plain"]
    return Fitted(
        shared=_named(raw["shared"], FEATURES),
        kind=_named(raw["kind"], FEATURES),
        signals=_named(raw["signals"], SIGNALS),
        signals_kind=_named(raw["signals kind"], SIGNALS),
        bias=float(raw["bias"]),
    )


def _named(values: Mapping[str, float], names: Any) -> Floats:
    return np.array([values[name] for name in names], dtype=np.float32)


def rank(index: Index, scored: Scored, rows: NDArray[np.int64], met: Floats | None) -> Ranked:
    """Put candidates in order, and say how likely each is to answer.

    `met` is how well the tokens of the first of them meet the question's; None where nobody looked.
    """
    fitted = load_fitted(met is not None)
    kind = conversation_kind(index)
    features = look(index, scored, rows, met)
    meets = tokens_met(met, len(rows))
    given = features * fitted.weights(kind)
    scores = given.sum(axis=1)
    order = np.lexsort((rows, -scores))
    rows, scores, features, given = rows[order], scores[order], features[order], given[order]
    seen = signals(index, scored, rows, scores, features, meets[order])
    relevance: Floats = np.float32(1) / (np.float32(1) + np.exp(-fitted.odds(seen, kind)))
    return Ranked(rows, scores, relevance, _shares(given))


def tokens_met(met: Floats | None, size: int) -> Floats:
    """What is known of `size` candidates; those that nobody looked at have the least, or what is usual.

    >>> tokens_met(np.array([0.5, 0.25], dtype=np.float32), 3).tolist()
    [0.5, 0.25, 0.25]
    """
    known = None if met is None else met[~np.isnan(met)]
    if met is None or known is None or not len(known):
        return np.full(size, _USUALLY_MET, dtype=np.float32)
    meets = np.full(size, known.min(), dtype=np.float32)
    meets[: len(met)] = np.where(np.isnan(met), known.mean(), met)
    return meets


def signals(
    index: Index,
    scored: Scored,
    rows: NDArray[np.int64],
    scores: Floats,
    features: Matrix,
    meets: Floats,
) -> Matrix:
    """What the probability rests on, for candidates in order: shape `(len(rows), len(SIGNALS))`."""
    names = list(FEATURES)
    size = len(rows)

    def feature(name: str) -> Floats:
        return features[:, names.index(name)]

    def all_alike(value: float) -> Floats:
        return np.full(size, value, dtype=np.float32)

    weights = np.exp(scores - scores.max())
    own = feature("covered")
    near = nearness(index, scored.cosine[rows])
    columns = {
        "score": scores,
        "share of the scores": np.log(weights / weights.sum() + 1e-9),
        "behind the best": scores - scores.max(),
        "rank": np.log1p(np.arange(size)),
        "nearness": near,
        "tokens met": meets,
        "most tokens met": all_alike(meets.max()),
        "names nobody said": all_alike(scored.strange),
        "most covered": all_alike((own + feature("more covered within two turns")).max()),
        "most covered by a session": all_alike(
            (own + feature("more covered by its session")).max()
        ),
        "nearest": all_alike(near.max()),
        "terms": all_alike(np.log1p(len(scored.terms))),
        "assistant": all_alike(conversation_kind(index)),
        "size": all_alike(np.log(len(index))),
    }
    chosen = [columns[name] if name in columns else feature(name) for name in SIGNALS]
    return np.stack(chosen, axis=1).astype(np.float32, copy=False)


def _shares(given: Matrix) -> dict[str, Floats]:
    """What each group of features gave; a group that is silent for all of them is left out."""
    groups = list(FEATURES.values())
    shares = {
        group: given[:, [at for at, name in enumerate(groups) if name == group]].sum(axis=1)
        for group in dict.fromkeys(groups)
    }
    return {group: values for group, values in shares.items() if values.any()}
