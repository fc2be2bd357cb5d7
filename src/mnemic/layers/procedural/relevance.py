"""Which instructions a question calls for: those that stand out from what is of no concern to it.

Recall's own scores compare the memories of a scope with each other, so that the best always looks good.
Here a question is held against sentences that concern nothing, which any embedder can be measured by.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from mnemic.errors import EmbedderError
from mnemic.models.embedder import embed_checked
from mnemic.models.terms import iter_terms
from mnemic.records import Procedure, Scope
from mnemic.retrieval.recall import Reader

# A question's cosine with an instruction, in standard deviations above that with the sentences that
# concern nothing, and for each of up to two words in common half of one more. It has to reach LEAST,
# and SHARE of the best. `bench/instructions.py`, bundled model, 110 labelled questions: of the
# instructions that are due .91 are shown (.82 on the part that the rule wasn't chosen on), of those
# shown .56 (.48) are due, and of the questions that call for none .81 (.88) are shown none.
LEAST, SHARE = 2.0, 0.6
WORD, MOST_WORDS = 0.5, 2
# The least spread, as a share of what is left above the mean: a short greeting is as far from everything.
SPREAD = 0.05
# Of a long question this many characters are read.
MAX_READ = 4_000

Vectors = NDArray[np.float32]
_kept: dict[tuple[str, int], Vectors] = {}
_MOST_KEPT = 8


def most_relevant(
    reader: Reader | None, scope: Scope, question: str, among: Sequence[Procedure], limit: int
) -> list[Procedure]:
    """Those of the instructions that a question calls for, best first; by words where vectors fail."""
    if reader is None or not among or not limit or not question.strip():
        return []
    asked = question[:MAX_READ]
    scores, least = _scores(reader, scope, asked, among)
    edge = max(least, SHARE * float(scores.max()))
    best = np.argsort(-scores, kind="stable")
    return [among[row] for row in best[:limit] if scores[row] >= edge]


def _scores(
    reader: Reader, scope: Scope, asked: str, among: Sequence[Procedure]
) -> tuple[Vectors, float]:
    """A score each, and the least that counts."""
    words = frozenset(iter_terms(asked))
    common = [min(len(words & _terms(each.name, each.text)), MOST_WORDS) for each in among]
    bonus = np.array(common, dtype=np.float32) * np.float32(WORD)
    try:
        vector = embed_checked(reader.embedder, [asked])[0]
        aside = _aside(reader) @ vector
    except EmbedderError:
        return bonus, WORD
    index = reader.indexes.current(scope, reader.known)
    rows = index.rows_of([bytes.fromhex(each.id.replace("-", "")) for each in among])
    there = rows >= 0
    there[there] = index.columns.has_vector[rows[there]]
    mean = float(aside.mean())
    spread = max(float(aside.std()), SPREAD * (1.0 - mean), 1e-6)
    # One whose vector isn't there yet is like what is of no concern, but for its words.
    cosine = np.full(len(among), mean, dtype=np.float32)
    cosine[there] = index.matrix[rows[there]] @ vector
    scores: Vectors = (cosine - mean) / np.float32(spread) + bonus
    return scores, LEAST


def _aside(reader: Reader) -> Vectors:
    """The vectors of the sentences that concern nothing; made once for each embedder."""
    key = (reader.known.name, reader.known.dimensions)
    found = _kept.get(key)
    if found is None:
        found = embed_checked(reader.embedder, _sentences())
        if len(_kept) >= _MOST_KEPT:
            _kept.clear()
        _kept[key] = found
    return found


@lru_cache(maxsize=1)
def _sentences() -> list[str]:
    return files(__package__).joinpath("aside.txt").read_text("utf-8").split("\n")[:-1]


@lru_cache(maxsize=1024)
def _terms(name: str, text: str) -> frozenset[str]:
    return frozenset(iter_terms(f"{name}: {text}"))
