"""Counting tokens as a reader model would, offline.

o200k (GPT-4o and later) unless told otherwise. It renders nothing: it counts the text it is given.
"""

from __future__ import annotations

import warnings
from functools import lru_cache
from typing import TYPE_CHECKING

from mnemic.errors import InputError

if TYPE_CHECKING:
    from bpe_openai import Encoding

ENCODINGS = ("o200k_base", "cl100k_base")


@lru_cache(maxsize=len(ENCODINGS))
def _encoding(name: str) -> Encoding:
    if name not in ENCODINGS:
        raise InputError(f"unknown encoding {name!r}; known are {', '.join(ENCODINGS)}")
    with warnings.catch_warnings():
        # It reads its ranks by a function that Python 3.11 calls deprecated, and 3.13 doesn't.
        warnings.simplefilter("ignore", DeprecationWarning)
        import bpe_openai

        return bpe_openai.get_encoding(name)


def count_tokens(text: str, encoding: str = "o200k_base") -> int:
    """Count the tokens of a text; no special token is recognised in it.

    >>> count_tokens("hello world")
    2
    """
    return len(_encoding(encoding).encode_ordinary(text))
