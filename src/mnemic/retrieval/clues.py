"""What a question's words ask for: a few clues, in English. Pure.

They are features of the ranking (`features.py`), no rules: how much each counts was fitted. What a
memory's words offer is in `models/signs.py`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

from mnemic.models.terms import stop_words

_WHEN = re.compile(
    r"\b(?:when|(?:what|which) (?:date|day|month|year|time)|how long|how many (?:days|weeks|months|"
    r"years)|since)\b",
    re.IGNORECASE,
)
_NUMBER = re.compile(
    r"\bhow (?:many|much|old|far|often|tall|big)\b|\bwhat (?:number|percentage|price|amount)\b",
    re.IGNORECASE,
)
_WHO = re.compile(r"\b(?:who|whom|whose|which|where|named?|called)\b", re.IGNORECASE)
_BROAD = re.compile(
    r"\b(?:summar\w+|overview|recap|in (?:what |which )?order|the order|timeline|"
    r"sequence|throughout|across (?:our|my|all|the)|over time|progress\w*|develop(?:ed|ment)|how many "
    r"different|list (?:all|the)|everything|all the)\b",
    re.IGNORECASE,
)
_SUMMARY = re.compile(r"\b(?:summar\w+|overview|recap)\b", re.IGNORECASE)
_NOW = re.compile(
    r"\b(?:now|current(?:ly)?|latest|most recent(?:ly)?|these days|at the moment|still|last)\b",
    re.IGNORECASE,
)
_ADVICE = re.compile(
    r"\b(?:suggest|recommend|advice|advise|tips?|ideas?|help me|should i|could you|can you|any"
    r"|how (?:do|can|could|would) i|show me|explain|what(?:'s| is) the best|walk me through)\b",
    re.IGNORECASE,
)
_ASKS_ASSISTANT = re.compile(
    r"\b(?:did|do|have|had|were|was) you\b|\byou(?:'ve)? (?:\w+ )?(?:said|told|suggest|recommend|"
    r"mention|gave|give|provid|list|explain|wrote|describ|advis)|\byour (?:\w+ )?(?:suggest|"
    r"recommend|advice|answer|list|explanation)|\b(?:our|the) (?:previous|last|earlier) (?:chat|"
    r"conversation)|\bremind me\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a question is after: 1 where it is, else 0."""

    when: float
    number: float
    who: float
    broad: float
    summary: float
    now: float
    advice: float
    assistant: float


def read_asked(question: str) -> Asked:
    """Read the clues of a question.

    >>> read_asked("When did you recommend it?")
    Asked(when=1.0, number=0.0, who=0.0, broad=0.0, summary=0.0, now=0.0, advice=1.0, assistant=1.0)
    """
    patterns = (_WHEN, _NUMBER, _WHO, _BROAD, _SUMMARY, _NOW, _ADVICE, _ASKS_ASSISTANT)
    return Asked(*(float(bool(pattern.search(question))) for pattern in patterns))


# A capital or a number that doesn't begin the question.
_NAMED = re.compile(r"(?<=[\w,:;] )(?:[A-Z][\w'-]+|\d[\w.,:-]*)")
_NO_NAMES = frozenset({"I'm", "I've", "I'd", "I'll"})


def names_of(question: str) -> list[str]:
    """The names and numbers in a question, its first word aside.

    >>> names_of("When did I meet Ana in Lisbon?")
    ['Ana', 'Lisbon']
    """
    return [name for name in _NAMED.findall(question) if name not in _NO_NAMES]


_WORD = re.compile(r"\w[\w'./:-]*\w|\w")


def subject_of(question: str) -> str:
    """What a question is about: of one that asks for an overview, the words that name the subject.

    Words like "summarise", "order", "our conversations" say what is wanted, not of what, and would
    find messages that talk about summaries.

    >>> subject_of("In which order did we talk about the garden and the roof, throughout?")
    'garden roof'
    >>> subject_of("Where is the garden?")
    'Where is the garden?'
    """
    if not _BROAD.search(question):
        return question
    words = [w for w in _WORD.findall(question) if w.casefold() not in _frame_words()]
    return " ".join(words) or question


@lru_cache(maxsize=1)
def _frame_words() -> frozenset[str]:
    text = resources.files("mnemic.retrieval").joinpath("framewords.txt").read_text("utf-8")
    return stop_words() | frozenset(text.split())
