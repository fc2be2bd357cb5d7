"""Rows for an index with what is damaged left out: a search goes on by what is left.

Vectors and terms are made from text, so what is missing can be made again (`writing/mend.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mnemic.models.terms import TERMS_VERSION
from mnemic.stores.rows import IndexRows

_EXPONENT = np.uint16(0x7C00)  # all of these bits of a float16 are set where it isn't finite


def without_damage(rows: IndexRows, dimensions: int) -> tuple[IndexRows, bool]:
    """The rows that an index can take, and whether any has to be mended."""
    column = dict(rows.columns)
    vectors, hashes, counts = column["vector"], column["hashes"], column["counts"]
    ailing = any(version != TERMS_VERSION for version in column["version"])
    if not _all_usable(vectors, dimensions):
        column["vector"] = [v if v and _all_usable([v], dimensions) else None for v in vectors]
        ailing = True
    if not all(map(_fit, hashes, counts)):
        fit = [_fit(*pair) for pair in zip(hashes, counts, strict=True)]
        column["hashes"] = [h if ok else None for h, ok in zip(hashes, fit, strict=True)]
        column["counts"] = [c if ok else None for c, ok in zip(counts, fit, strict=True)]
        column["length"] = [n if ok else 0 for n, ok in zip(column["length"], fit, strict=True)]
        ailing = True
    return (replace(rows, columns=column) if ailing else rows), ailing


def _all_usable(vectors: Sequence[bytes | None], dimensions: int) -> bool:
    """Whether every vector that is there has the right size, and is finite."""
    there = [vector for vector in vectors if vector is not None]
    if any(len(vector) != 2 * dimensions for vector in there):
        return False
    bits = np.frombuffer(b"".join(there), dtype="<u2") & _EXPONENT
    return not (bits == _EXPONENT).any()


def _fit(hashes: bytes | None, counts: bytes | None) -> bool:
    if hashes is None or counts is None:
        return hashes is counts
    return len(hashes) == 4 * len(counts) and not len(hashes) % 8
