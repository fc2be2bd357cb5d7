"""The fitted part of a recall: features -> a score, and the probability that a memory answers. Pure.

All of it is linear, with weights from `fitted.json`; `scripts/fit_ranking.py` makes that file, and tells on
what it was fitted. Each has weights for people talking and for talks with an assistant. A score is made of
parts that can be told apart (`Hit.channels`). The probability is that anything in the scope answers, times
that this memory does if anything does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnemic.retrieval.clues import Asked
from mnemic.retrieval.features import (
    FEATURES,
    Scored,
    conversation_kind,
    look,
    nearness,
    unrelated_cosine,
)
from mnemic.retrieval.index import Index
from mnemic.retrieval.late import TokensMet
from mnemic.retrieval.postings import Floats

Matrix = NDArray[np.float32]

# How well candidates meet the tokens of a question where an embedder makes no codes of them.
_USUALLY_MET = 0.25

# Signals of a question, in its scope: does anything here answer it?
ANYTHING = (
    "best score",
    "best score above the next ten",
    "all scores, of the best",
    "most covered",
    "most covered within two turns",
    "most covered by a session",
    "nearest",
    "most tokens met",
    "most rare tokens met",
    "most rare tokens met around",
    "names nobody said",
    "speaker named",
    "another speaker named",
    "best's meaning",
    "best's words",
    "best's covered",
    "terms",
    "assistant",
    "size",
)
# Signals of a candidate: does it, if anything does?
ANSWERS = (
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
    "tokens met, as they are",
    "rare tokens met, as they are",
    "rare tokens met around, as they are",
    "speaker named",
    "another speaker named",
    "assistant's, asked for",
    "terms",
    "broad question",
    "question of number",
    "assistant",
    "size",
)


@dataclass(frozen=True, slots=True)
class Odds:
    """A logistic regression: weights of signals, what a kind of conversation adds to each, and a bias."""

    shared: Floats
    kind: Floats
    bias: float

    def of(self, seen: Matrix, kind: float) -> Floats:
        """The probability for each row of signals."""
        odds = seen @ (self.shared + np.float32(kind) * self.kind) + np.float32(self.bias)
        chance: Floats = (1 / (1 + np.exp(-np.clip(odds, -30, 30)))).astype(np.float32, copy=False)
        return chance


@dataclass(frozen=True, slots=True)
class Fitted:
    """What was fitted: weights of features, what a kind of conversation adds to each, and the odds."""

    shared: Floats
    kind: Floats
    anything: Odds
    answers: Odds

    def weights(self, kind: float) -> Floats:
        """The weights of features for a kind of conversation: -1 people, 1 an assistant."""
        return self.shared + np.float32(kind) * self.kind


@dataclass(frozen=True, slots=True)
class Ranked:
    """Candidates, best first: their rows, scores, probabilities, and what each group of features gave.

    `anything` is the probability that anything in the scope answers; `relevance` has it in it.
    """

    rows: NDArray[np.int64]
    scores: Floats
    relevance: Floats
    anything: float
    shares: Mapping[str, Floats]


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of a question's candidates: a row each, and of the question in its scope."""

    rows: NDArray[np.int64]
    features: Matrix
    tokens: TokensMet | None
    near: Floats
    kind: float
    size: int
    terms: int
    strange: float
    asked: Asked

    def feature(self, name: str) -> Floats:
        """One of `FEATURES`, for each candidate."""
        column: Floats = self.features[:, list(FEATURES).index(name)]
        return column

    @property
    def met(self) -> tuple[Floats, Floats, Floats]:
        """How well tokens are met, as it is: plain, rare, and rare ones around."""
        if self.tokens is None:
            usual = np.full(len(self.rows), _USUALLY_MET, dtype=np.float32)
            return usual, usual, usual
        return self.tokens.plain, self.tokens.rare, self.tokens.around

    def ordered(self, order: NDArray[np.int64]) -> Seen:
        """The same with the candidates in another order."""
        tokens = self.tokens
        if tokens is not None:
            tokens = TokensMet(tokens.plain[order], tokens.rare[order], tokens.around[order])
        return replace(
            self,
            rows=self.rows[order],
            features=self.features[order],
            tokens=tokens,
            near=self.near[order],
        )


@lru_cache(maxsize=2)
def load_fitted(coded: bool) -> Fitted:
    """Read the weights that come with the package: for embedders that code tokens, or for the others."""
    text = resources.files("mnemic.retrieval").joinpath("fitted.json").read_text("utf-8")
    raw: dict[str, Any] = json.loads(text)["coded" if coded else "plain"]
    return Fitted(
        shared=_named(raw["ranking"]["shared"], FEATURES),
        kind=_named(raw["ranking"]["kind"], FEATURES),
        anything=_odds(raw["anything"], ANYTHING),
        answers=_odds(raw["answers"], ANSWERS),
    )


def _odds(raw: Mapping[str, Any], names: Any) -> Odds:
    return Odds(_named(raw["shared"], names), _named(raw["kind"], names), float(raw["bias"]))


def _named(values: Mapping[str, float], names: Any) -> Floats:
    return np.array([values[name] for name in names], dtype=np.float32)


def see(index: Index, scored: Scored, rows: NDArray[np.int64], tokens: TokensMet | None) -> Seen:
    """Look at candidates. `tokens` is how well they meet the question's; None where nobody looked."""
    unrelated = unrelated_cosine(index)
    return Seen(
        rows=rows,
        features=look(index, scored, rows, tokens, unrelated),
        tokens=tokens,
        near=nearness(scored.cosine[rows], unrelated),
        kind=conversation_kind(index),
        size=len(index),
        terms=len(scored.terms),
        strange=scored.strange,
        asked=scored.asked,
    )


def rank(seen: Seen) -> Ranked:
    """Put candidates in order, and say how likely each is to answer."""
    fitted = load_fitted(seen.tokens is not None)
    given = seen.features * fitted.weights(seen.kind)
    scores = given.sum(axis=1)
    order = best_first(seen.rows, scores)
    seen, scores = seen.ordered(order), scores[order]
    anything = fitted.anything.of(signals_of_scope(seen, scores)[None], seen.kind)
    answers = fitted.answers.of(signals_of_each(seen, scores), seen.kind)
    return Ranked(
        rows=seen.rows,
        scores=scores,
        relevance=anything * answers,
        anything=float(anything[0]),
        shares=_shares(given[order]),
    )


def best_first(rows: NDArray[np.int64], scores: NDArray[Any]) -> NDArray[np.int64]:
    """The order of rows by their scores; ties go to the earlier row."""
    return np.lexsort((rows, -scores))


def signals_of_scope(seen: Seen, scores: Floats) -> Floats:
    """What tells whether anything answers, of candidates in order: shape `(len(ANYTHING),)`."""
    own = seen.feature("covered")
    plain, rare, around = seen.met
    values = {
        "best score": scores[0],
        "best score above the next ten": scores[0] - scores[1:11].mean() if len(scores) > 1 else 0,
        "all scores, of the best": np.log(np.exp(scores - scores[0]).sum()),
        "most covered": own.max(),
        "most covered within two turns": (
            own + seen.feature("more covered within two turns")
        ).max(),
        "most covered by a session": (own + seen.feature("more covered by its session")).max(),
        "nearest": seen.near.max(),
        "most tokens met": plain.max(),
        "most rare tokens met": rare.max(),
        "most rare tokens met around": around.max(),
        "names nobody said": seen.strange,
        "speaker named": seen.feature("speaker named").max(),
        "another speaker named": seen.feature("another speaker named").max(),
        "best's meaning": seen.feature("meaning")[0],
        "best's words": seen.feature("words")[0],
        "best's covered": own[0],
        "terms": np.log1p(seen.terms),
        "assistant": seen.kind,
        "size": np.log(seen.size),
    }
    return np.array([values[name] for name in ANYTHING], dtype=np.float32)


def signals_of_each(seen: Seen, scores: Floats) -> Matrix:
    """What tells which candidates, in order, answer: shape `(candidates, len(ANSWERS))`."""
    size = len(seen.rows)
    weights = np.exp(scores - scores.max())
    plain, rare, around = seen.met
    columns: dict[str, Any] = {
        "score": scores,
        "share of the scores": np.log(weights / weights.sum() + 1e-9),
        "behind the best": scores - scores.max(),
        "rank": np.log1p(np.arange(size)),
        "nearness": seen.near,
        "tokens met, as they are": plain,
        "rare tokens met, as they are": rare,
        "rare tokens met around, as they are": around,
        "terms": np.log1p(seen.terms),
        "broad question": seen.asked.broad,
        "question of number": seen.asked.number,
        "assistant": seen.kind,
        "size": np.log(seen.size),
    }
    table = np.empty((size, len(ANSWERS)), dtype=np.float32)
    for at, name in enumerate(ANSWERS):
        table[:, at] = columns[name] if name in columns else seen.feature(name)
    return table


def _shares(given: Matrix) -> dict[str, Floats]:
    """What each group of features gave; a group that is silent for all of them is left out."""
    groups = list(FEATURES.values())
    shares = {
        group: given[:, [at for at, name in enumerate(groups) if name == group]].sum(axis=1)
        for group in dict.fromkeys(groups)
    }
    return {group: values for group, values in shares.items() if values.any()}
