"""Counting tokens as a reader model would, offline.

o200k (GPT-4o and later) unless told otherwise. It renders nothing: it counts the text it is given.
"""

from __future__ import annotations

import unicodedata
import warnings
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

from mnemic.errors import InputError

if TYPE_CHECKING:
    from bpe_openai import Encoding

ENCODINGS = ("o200k_base", "cl100k_base")
# The counter takes no million characters, and gives up over 200,000 tokens; a character has at most 4.
_PIECE = 40_000
# A border between two tokens is looked for among so many characters.
_LOOK_BACK = 4_000


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
    encode = _encoding(encoding).encode_ordinary
    if len(text) <= _PIECE:
        return len(encode(text))
    return sum(len(encode(piece)) for piece in _pieces(text))


def _pieces(text: str) -> Iterator[str]:
    """Yield a long text in pieces whose tokens are together those of the whole.

    Only a run of thousands of characters without any border may come to some more.
    """
    at = 0
    while len(text) - at > _PIECE:
        stop = at + _PIECE
        places = range(stop, stop - _LOOK_BACK, -1)
        stop = next((place for place in places if _is_border(text, place)), stop)
        yield text[at:stop]
        at = stop
    yield text[at:]


def _is_border(text: str, at: int) -> bool:
    """Whether a new token begins there whatever stands around: at a space, or where a word ends."""
    before, after = text[at - 1], text[at]
    if after == " ":
        return not before.isspace()
    if not before.isalnum() or after.isalnum() or after.isspace() or after in "'\u2019":
        return False
    return not unicodedata.category(after).startswith("M")
