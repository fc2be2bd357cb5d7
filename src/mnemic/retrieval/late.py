"""Late interaction: a question's tokens are compared with a memory's, and the best of each count. Pure.

ColBERT's MaxSim (Khattab, Zaharia 2020) over codes of one bit a dimension. Which tokens are coded is the
embedder's own matter (`CodesTokens`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mnemic.retrieval.postings import Floats

# A question's tokens that are compared, and a memory's: longer ones end there.
MOST_ASKED, MOST_SAID = 64, 256


def late_interaction(states: Floats, said: Sequence[bytes | None]) -> Floats:
    """How well each memory's tokens meet the question's: shape `(len(said),)`.

    `states` has the question's tokens as unit vectors, shape `(tokens, bits)`; a memory's codes are
    `bits // 8` bytes a token. Signs reach about .8, chance gives 0; NaN stands where there are none.

    >>> states = np.full((1, 8), 8**-0.5, dtype=np.float32)
    >>> late_interaction(states, [bytes([255]), bytes([0, 15]), None]).round(2).tolist()
    [1.0, 0.0, nan]
    """
    met = np.full(len(said), np.nan, dtype=np.float32)
    bits = states.shape[1]
    there = [at for at, codes in enumerate(said) if codes]
    if not len(states) or not there:
        return met
    tables = [(said[at] or b"")[: MOST_SAID * bits // 8] for at in there]
    begins = np.cumsum([0, *(len(table) * 8 // bits for table in tables[:-1])])
    signs = np.unpackbits(np.frombuffer(b"".join(tables), np.uint8)).reshape(-1, bits)
    # A bit is worth 1 or -1, so a product with signs is twice the one with bits, less the sum of all.
    asked = states[:MOST_ASKED].T
    products = signs.astype(np.float32) @ (2 * asked) - asked.sum(axis=0)
    best = np.maximum.reduceat(products, begins, axis=0)
    met[there] = best.mean(axis=1) / np.float32(math.sqrt(bits))
    return met
