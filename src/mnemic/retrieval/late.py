"""Late interaction: a question's tokens are compared with a memory's, and the best of each count. Pure.

ColBERT's MaxSim (Khattab, Zaharia 2020) over codes of one bit a dimension. Which tokens are coded is the
embedder's own matter (`CodesTokens`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mnemic.retrieval.postings import Floats

# A question's tokens that are compared, and a memory's: longer ones end there. After the memory that
# brings all of them to so many, nothing is looked at.
MOST_ASKED, MOST_SAID, MOST_TOKENS = 64, 256, 16_000
_AT_ONCE = 512  # tokens: their bits stay in the processor's cache
# A token is there from this much on. One that every candidate has tells little.
_THERE = 0.5
_RAREST = 0.02
_NEAR = 2  # messages before and after


@dataclass(frozen=True, slots=True)
class TokensMet:
    """How well candidates meet the tokens of a question: shape `(candidates,)` each, chance gives 0.

    `plain` is the mean over tokens, `rare` weighs a token the more, the fewer candidates have it, and
    `around` takes each token from the message or one of two before and after, weighed as in `rare`.
    """

    plain: Floats
    rare: Floats
    around: Floats


def late_interaction(states: Floats, said: Sequence[bytes | None]) -> Floats:
    """How well each memory meets each token: shape `(looked at, tokens)`, at most `len(said)` of them.

    `states` has the question's tokens as unit vectors, shape `(tokens, bits)`; a memory's codes are
    `bits // 8` bytes a token. Signs reach about .8, chance gives 0; NaN stands where there are none.

    >>> states = np.full((1, 8), 8**-0.5, dtype=np.float32)
    >>> late_interaction(states, [bytes([255]), bytes([0, 15]), None]).round(2).tolist()
    [[1.0], [0.0], [nan]]
    """
    asked, bits = states[:MOST_ASKED].T, states.shape[1]
    tables = [(codes or b"")[: MOST_SAID * bits // 8] for codes in said]
    ends = np.cumsum([len(table) * 8 // max(1, bits) for table in tables])
    tables = tables[: int(np.searchsorted(ends, MOST_TOKENS)) + 1]
    met = np.full((len(tables), asked.shape[1]), np.nan, dtype=np.float32)
    there = [at for at, table in enumerate(tables) if table]
    if not len(states) or not there:
        return met
    products = _products(np.frombuffer(b"".join(tables), np.uint8).reshape(-1, bits // 8), asked)
    met[there] = np.maximum.reduceat(products, np.append(0, ends)[there], axis=0)
    return met / np.float32(math.sqrt(bits))


def _products(codes: NDArray[np.uint8], asked: Floats) -> Floats:
    """Signs times the question's tokens: shape `(len(codes), tokens)`.

    A bit is worth 1 or -1, so a product with signs is twice the one with bits, less the sum of all.
    """
    products = np.empty((len(codes), asked.shape[1]), dtype=np.float32)
    bits = np.empty((_AT_ONCE, len(asked)), dtype=np.float32)
    twice = 2 * asked
    for start in range(0, len(codes), _AT_ONCE):
        some = np.unpackbits(codes[start : start + _AT_ONCE], axis=1)
        bits[: len(some)] = some
        np.matmul(bits[: len(some)], twice, out=products[start : start + len(some)])
    products -= asked.sum(axis=0)
    return products


def weigh_tokens(
    met: Floats, message: NDArray[np.int64], session: NDArray[np.int64]
) -> TokensMet | None:
    """Sum up the tokens of candidates; None where nothing is known.

    `met` may be of the first candidates only: those after them have the least. `message` numbers the
    candidates' messages as they follow each other, `session` their sessions. What has no codes is taken
    for the mean of the others.
    """
    known = np.asarray(~np.isnan(met).any(axis=1))
    if not met.size or not known.any():
        return None
    size, first = len(message), len(met)
    met = np.where(known[:, None], met, met[known].mean(axis=0))
    weights = np.log(2.0 / ((met > _THERE).mean(axis=0) + _RAREST)).astype(np.float32)
    weights /= weights.sum()
    around = _around(met, message[:first], session[:first])
    columns = (met.mean(axis=1), met @ weights, around @ weights)
    return TokensMet(
        *(np.append(column, np.full(size - first, column.min(), np.float32)) for column in columns)
    )


def _around(met: Floats, message: NDArray[np.int64], session: NDArray[np.int64]) -> Floats:
    """The best that each token finds in a candidate's message and in those around it."""
    numbers, at = np.unique(message, return_inverse=True)
    best = np.full((len(numbers), met.shape[1]), -np.inf, dtype=np.float32)
    np.maximum.at(best, at, met)
    where = np.zeros(len(numbers), dtype=np.int64)
    where[at] = session
    around: Floats = best[at]
    for shift in (*range(-_NEAR, 0), *range(1, _NEAR + 1)):
        other = np.minimum(np.searchsorted(numbers, message + shift), len(numbers) - 1)
        same = (numbers[other] == message + shift) & (where[other] == session)
        around = np.maximum(around, np.where(same[:, None], best[other], -np.inf))
    return around
