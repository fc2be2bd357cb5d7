"""Text to terms: the stems of its words, as stable 64-bit hashes with counts.

Identifiers (INV-2031, v3.11, ana@example.org) stay whole beside their parts; scripts without spaces
become character pairs. Nothing here depends on a store's other texts: weights come with the question.
Beside its words a text's signs (`signs.py`) are kept, as terms that no question's word can be.
"""

from __future__ import annotations

import hashlib
import re
import threading
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Literal

import numpy as np

from mnemic.models.signs import signs_of

# Raise it when the same text would give other terms: rows of an older version are made again.
TERMS_VERSION = 3

# A word may hold marks that join its parts: INV-2031, can't, 3.11, a_b, ana@example.org.
_WORD = re.compile(r"\w+(?:[-'\u2019.,:/@_+#&]+\w+)*[+#]*")
_PART = re.compile(r"[^\W_]+")
_GROUPED_NUMBER = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?")
# Han, kana, Thai, Lao, Khmer, Myanmar: written without spaces between words.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+"
)
# Where many combining marks may stand in a row: they are neither letters nor spaces.
_MARKS = re.compile(r"[^\w\s]{31}")
_MOST_MARKS = 30
_MAX_WORD = 64


@dataclass(frozen=True, slots=True)
class TermCounts:
    """The terms of one text: `hashes` as `<u8`, `counts` as `<u2`, and how many words there were.

    Its signs are among the hashes; they are no words.
    """

    length: int
    hashes: bytes
    counts: bytes


def count_terms(text: str) -> TermCounts:
    """Count the terms of a text.

    >>> count_terms("I moved, she moves").length
    2
    """
    counted = Counter(iter_terms(text))
    length = counted.total()
    counted.update(sign_term(sign) for sign in signs_of(text))
    hashes = np.fromiter((hash_term(term) for term in counted), dtype="<u8", count=len(counted))
    counts = np.fromiter(counted.values(), dtype=np.int64, count=len(counted))
    return TermCounts(
        length=length,
        hashes=hashes.tobytes(),
        counts=np.minimum(counts, 65535).astype("<u2").tobytes(),
    )


def compose(text: str, form: Literal["NFC", "NFKC"]) -> str:
    """Bring a text into a normal form of Unicode.

    Of a run of combining marks the first 30 count: no language has more, and sorting a run takes
    quadratic time.
    """
    if _MARKS.search(text):
        kept, run = [], 0
        for character in text:
            run = run + 1 if unicodedata.combining(character) else 0
            if run <= _MOST_MARKS:
                kept.append(character)
        text = "".join(kept)
    return unicodedata.normalize(form, text)


def iter_terms(text: str) -> Iterator[str]:
    """Yield the terms of a text in order, stop words left out.

    >>> list(iter_terms("She's paying invoice INV-2031 in Lisbon"))
    ['pay', 'invoic', 'inv-2031', 'inv', '2031', 'lisbon']
    """
    folded = compose(text, "NFKC").casefold().replace("\u2019", "'")
    for match in _WORD.finditer(folded):
        yield from _terms_of(match.group()[:_MAX_WORD])


def question_terms(text: str) -> list[int]:
    """Hash the distinct terms of a question, in order."""
    return [hash_term(term) for term in dict.fromkeys(iter_terms(text))]


def sign_term(sign: str) -> str:
    """The term that stands for a sign: no word holds a space."""
    return f"sign {sign}"


@lru_cache(maxsize=1 << 16)
def hash_term(term: str) -> int:
    """Hash a term to 64 bits, the same on every machine and in every process."""
    return int.from_bytes(hashlib.blake2b(term.encode(), digest_size=8).digest(), "little")


@lru_cache(maxsize=1 << 16)
def _terms_of(word: str) -> tuple[str, ...]:
    if word in stop_words():
        return ()
    if _UNSPACED.search(word):
        return tuple(_pairs(word))
    if _GROUPED_NUMBER.fullmatch(word):
        return (word.replace(",", ""),)
    if word.isalpha():
        return (_stem(word),)
    return tuple(_identifier(word))


def _identifier(word: str) -> Iterator[str]:
    """Yield the whole, and the parts that carry weight: `can't` and `ana's` are words, not wholes."""
    head, mark, tail = word.partition("'")
    if mark and tail.isalpha() and len(tail) <= 3:
        if head not in stop_words():
            yield from _terms_of(head)
        return
    parts = [part for part in _PART.findall(word) if part not in stop_words()]
    if any(char.isdigit() for char in word) or not parts or word[-1] in "+#":
        yield word
    if len(parts) > 1 or (parts and parts[0] != word):
        yield from (_stem(part) for part in parts)


def _pairs(word: str) -> Iterable[str]:
    """Yield overlapping character pairs of unspaced runs, and words of what stands between them."""
    at = 0
    for match in _UNSPACED.finditer(word):
        yield from (_stem(part) for part in _PART.findall(word[at : match.start()]))
        run = match.group()
        yield from (run[i : i + 2] for i in range(max(1, len(run) - 1)))
        at = match.end()
    yield from (_stem(part) for part in _PART.findall(word[at:]))


_stemmers = threading.local()


def _stem(word: str) -> str:
    stemmer = getattr(_stemmers, "english", None)
    if stemmer is None:
        import Stemmer

        stemmer = _stemmers.english = Stemmer.Stemmer("english", 0)
    return str(stemmer.stemWord(word))


@lru_cache(maxsize=1)
def stop_words() -> frozenset[str]:
    """English words that say nothing of a text's subject."""
    text = resources.files("mnemic.models").joinpath("stopwords.txt").read_text("utf-8")
    return frozenset(text.split())
