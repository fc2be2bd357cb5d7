"""A summary without a model: sentences that were said, chosen and put in their order. Pure.

A sentence counts by how much its words tell apart from the others, by who said it, and by the names,
numbers and first persons in it; the choice is spread over the whole stretch. Nothing is put in other words.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mnemic.layers.working.rendering import ChatCounter, words_of
from mnemic.models.terms import iter_terms
from mnemic.records import Turn
from mnemic.writing.passages import SENTENCE_END

# Of a long stretch, these many sentences are weighed.
MOST_SENTENCES = 4_000
# The stretch is cut into so many parts, each of which has its say before any has a second.
PARTS = 8
# A sentence that shares this much of its stems with one that was chosen says nothing new.
ALIKE = 0.6
FEWEST_TERMS, MOST_WORDS = 2, 60
_WEIGHTS = {"user": 1.0, "assistant": 0.6}
_NUMBER = re.compile(r"\d")
_NAME = re.compile(r"(?<=[a-z,;] )[A-Z][a-z]+")
_OURS = re.compile(r"\[\d{4}-\d\d-\d\d\] [^:]*: ")
_FIRST_PERSON = re.compile(r"\b(?:I|I'm|I've|my|we|our)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Sentence:
    """A sentence that may be chosen: its place, its line, its stems, and its score."""

    place: int
    line: str
    terms: frozenset[str]
    weight: float


def extract(turns: Iterable[Turn], most: int, counter: ChatCounter, before: str = "") -> str:
    """Lines such as `[2023-05-08] Ana: I moved to Lisbon.`, of at most so many tokens, in their order.

    `before` is an older summary, made by this or by a model; what it says stands beside the sentences of
    the turns. Empty where nothing that was said is worth a line, or fits.
    """
    sentences = _sentences(turns, before)
    scores = _scored(sentences)
    chosen: list[_Sentence] = []
    left = most
    for number in _order(sentences, scores):
        sentence = sentences[number]
        size = counter.text(sentence.line + "\n")
        if size <= left and not any(_alike(sentence.terms, other.terms) for other in chosen):
            chosen.append(sentence)
            left -= size
    lines = [sentence.line for sentence in sorted(chosen, key=lambda s: s.place)]
    # Sizes are added up line by line; the whole may have a token more.
    while lines and counter.text("\n".join(lines)) > most:
        lines.pop(0)
    return "\n".join(lines)


def _sentences(turns: Iterable[Turn], before: str) -> list[_Sentence]:
    found: list[_Sentence] = []
    for line in before.splitlines():
        # A line that isn't ours is a model's, which may say many things in one.
        sentences = [line] if _OURS.match(line) else _cut(line)
        for sentence in sentences:
            _note(found, sentence, _OURS.sub("", sentence), 1.0)
    for turn in turns:
        message = turn.message
        weight = _WEIGHTS.get(message.role)
        if weight is not None:
            who = " ".join((message.name or message.role).split())
            for sentence in _cut(words_of(message)):
                _note(found, f"[{message.said_at:%Y-%m-%d}] {who}: {sentence}", sentence, weight)
    if len(found) <= MOST_SENTENCES:
        return found
    step = len(found) / MOST_SENTENCES
    return [found[int(number * step)] for number in range(MOST_SENTENCES)]


def _note(found: list[_Sentence], line: str, sentence: str, weight: float) -> None:
    terms = frozenset(iter_terms(sentence))
    if len(terms) >= FEWEST_TERMS and len(sentence.split()) <= MOST_WORDS:
        found.append(_Sentence(len(found), line, terms, weight * _telling(sentence)))


def _cut(text: str) -> Iterable[str]:
    start = 0
    for match in SENTENCE_END.finditer(text):
        yield " ".join(text[start : match.end()].split())
        start = match.end()
    yield " ".join(text[start:].split())


def _telling(sentence: str) -> float:
    """What makes a sentence worth keeping whatever its words: names, numbers, who speaks of themselves."""
    value = 1.0
    value += 0.25 * bool(_NUMBER.search(sentence)) + 0.25 * bool(_NAME.search(sentence))
    value += 0.3 * bool(_FIRST_PERSON.search(sentence))
    return value * (0.4 if sentence.endswith("?") else 1.0)


def _scored(sentences: Sequence[_Sentence]) -> list[float]:
    """The mean rarity of a sentence's stems, less for a very short one."""
    frequency = Counter(term for sentence in sentences for term in sentence.terms)
    total = len(sentences) + 1
    scores = []
    for sentence in sentences:
        rarity = sum(math.log(total / frequency[term]) for term in sentence.terms)
        scores.append(sentence.weight * rarity / (len(sentence.terms) + 3))
    return scores


def _order(sentences: Sequence[_Sentence], scores: Sequence[float]) -> list[int]:
    """The order in which sentences are tried: the best of each part, then the second of each, and so on."""
    size = max(1, math.ceil(len(sentences) / PARTS))
    parts = [
        sorted(range(start, min(start + size, len(sentences))), key=lambda n: (-scores[n], n))
        for start in range(0, len(sentences), size)
    ]
    rounds = max(map(len, parts), default=0)
    order: list[int] = []
    for rank in range(rounds):
        some = [part[rank] for part in parts if rank < len(part)]
        order += sorted(some, key=lambda n: (-scores[n], n))
    return order


def _alike(one: frozenset[str], other: frozenset[str]) -> bool:
    return len(one & other) > ALIKE * min(len(one), len(other))
