"""Cutting a message into passages that fit the embedder, at sentence borders. Pure.

A passage is a stretch of the message itself: what is stored is what was said, to the letter.
"""

from __future__ import annotations

import hashlib
import json
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import cast

from mnemic.errors import EmbedderError
from mnemic.models.embedder import MeasuresText
from mnemic.models.terms import TERMS_VERSION, compose, count_terms
from mnemic.records import MemoryRecord, Message
from mnemic.stores.making import labels_of
from mnemic.stores.rows import NewPassage

# An embedder that can't measure text: characters that are safe for 256 tokens of most languages.
FALLBACK_CHARACTERS = 600

# Ends of sentences: a line break, or a stop with what closes it, before white space.
# Possessive, and only from a run's first stop on: a text of stops alone must not take quadratic time.
SENTENCE_END = re.compile(
    r"\n+|(?<![.!?\u2026])[.!?\u2026]++[\"'\u201d\u2019)\]]*+\s+|[\u3002\uff01\uff1f]+\s*"
)
_SPACE = re.compile(r"\s+")
# Stops, and quotation marks but for those behind a number (5' and 5" are feet and inches).
_WORD_EDGE = re.compile(
    r"(?:[.,;:!\u2026]|(?<!\d)[\"\u201c\u201d'])+(?=\s)|(?<=\s)[\"\u201c\u201d']+"
)


def cut(text: str, embedder: object, speaker: str | None = None) -> list[tuple[int, int]]:
    """Cut a text into stretches `(start, stop)` that fit the embedder with the speaker's name before.

    White space at the edges is left out.

    >>> cut("One. Two.", object())
    [(0, 9)]
    """
    if not text.strip():
        return []
    before = text_to_embed(speaker, "")
    if hasattr(embedder, "token_offsets"):  # a protocol's own check costs more than the rest
        embedder = cast(MeasuresText, embedder)
        # No token is shorter than a character, so most messages need no measuring.
        if len(before) + len(text) <= embedder.max_tokens:
            return [_trim(text, 0, len(text))]
        # What can't be measured now is cut by characters: a message is kept whatever fails.
        with suppress(EmbedderError):
            room = embedder.max_tokens - (len(embedder.token_offsets(before)) if before else 0)
            offsets = embedder.token_offsets(text)
            starts, ends = [start for start, _ in offsets], [stop for _, stop in offsets]
            return list(_pack(text, starts, ends, max(room, embedder.max_tokens // 2)))
    characters = range(len(text) + 1)
    return list(_pack(text, characters[:-1], characters[1:], FALLBACK_CHARACTERS))


def _pack(
    text: str, starts: Sequence[int], ends: Sequence[int], most: int
) -> Iterator[tuple[int, int]]:
    """Fill passages with whole sentences, of nearly even size; one too long is cut at a space."""
    total = len(ends)
    if total <= most:
        yield _trim(text, 0, len(text))
        return
    borders = [match.end() for match in SENTENCE_END.finditer(text)]
    # A border inside a token would leave half of it on either side, one more than was counted.
    borders = [at for at in borders if bisect_right(ends, at) == bisect_left(starts, at)]
    start, used = 0, 0
    while used < total:
        left = total - used
        # Even shares, so that no short rest is left over at the end.
        share = -(-left // -(-left // most))
        least, limit = ends[used], ends[used + min(most, left) - 1]
        aim = ends[used + min(share, left) - 1]
        stop = len(text) if left <= most else _border(text, borders, (least, aim, limit))
        span = _trim(text, start, stop)
        if span[0] < span[1]:
            yield span
        start, used = stop, bisect_right(ends, stop)


def _border(text: str, borders: list[int], place: tuple[int, int, int]) -> int:
    """The sentence border nearest to the aim within the limit, else the last space, else the limit.

    It lies behind the first token (`least`), so that every passage holds one.
    """
    least, aim, limit = place
    low, high = bisect_left(borders, least), bisect_right(borders, limit)
    if low >= high:
        space = max(text.rfind(" ", least, limit + 1), text.rfind("\n", least, limit + 1))
        return space if space >= least else limit
    at = min(max(bisect_left(borders, aim), low), high - 1)
    return min((borders[i] for i in (at - 1, at) if low <= i < high), key=lambda b: abs(b - aim))


def _trim(text: str, start: int, stop: int) -> tuple[int, int]:
    while start < stop and text[start].isspace():
        start += 1
    while stop > start and text[stop - 1].isspace():
        stop -= 1
    return start, stop


def passages_of(message: Message, embedder: object) -> tuple[NewPassage, ...]:
    """Cut a message into passages ready to be stored."""
    return tuple(
        make_passage(message, start, stop)
        for start, stop in cut(message.content, embedder, message.name)
    )


def make_passage(
    message: Message, start: int, stop: int, kept: MemoryRecord | None = None
) -> NewPassage:
    """Make the passage of a stretch of a message: its fingerprint and its terms."""
    text = message.content[start:stop]
    terms = count_terms(text_to_embed(message.name, text))
    return NewPassage(
        text=text,
        start=start,
        stop=stop,
        fingerprint=fingerprint(message, text),
        length=terms.length,
        hashes=terms.hashes,
        counts=terms.counts,
        terms_version=TERMS_VERSION,
        kept=kept,
    )


def text_to_embed(speaker: str | None, text: str) -> str:
    """What is embedded and counted for a passage: with its speaker, whom questions name.

    On LoCoMo's development half the name lifts the embedder's own R@10 from .30 to .50.
    """
    return text if speaker is None else f"{speaker}: {text}"


def fingerprint(message: Message, text: str) -> bytes:
    """Tell a near-exact repeat: same speaker, same words, same labels; case, spaces and stops apart."""
    parts = (
        message.role,
        message.name,
        normalise(text),
        sorted(message.tags),
        labels_of(message),
        None if message.expires_at is None else message.expires_at.isoformat(),
    )
    packed = json.dumps(parts, ensure_ascii=False, sort_keys=True).encode()
    return hashlib.blake2b(packed, digest_size=16).digest()


def normalise(text: str) -> str:
    """Fold what doesn't change a sentence's meaning; a question mark, a sign or a number does.

    >>> normalise("I moved to  Lisbon!") == normalise("i moved to Lisbon.")
    True
    >>> normalise("You moved?") == normalise("You moved.")
    False
    """
    folded = compose(text, "NFC").casefold().replace("\u2019", "'")
    spaced = _SPACE.sub(" ", _WORD_EDGE.sub("", f" {folded} ")).strip()
    return spaced or folded
