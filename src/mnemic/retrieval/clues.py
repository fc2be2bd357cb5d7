"""What a question's words ask for: a few clues, in English. Pure.

They are features of the ranking (`features.py`), no rules: how much each counts was fitted. What a
memory's words offer is in `models/signs.py`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_WHEN = re.compile(
    r"\b(?:when|(?:what|which) (?:date|day|month|year|time)|how long|how many (?:days|weeks|months|"
    r"years)|since)\b",
    re.IGNORECASE,
)
_NUMBER = re.compile(
    r"\bhow (?:many|much|old|far|often|tall|big)\b|\bwhat (?:number|percentage|price|amount)\b",
    re.IGNORECASE,
)
_BROAD = re.compile(
    r"\b(?:summar\w+|overview|recap|in (?:what |which )?order|the order|walk me through|timeline|"
    r"sequence|throughout|across (?:our|my|all|the)|over time|progress\w*|develop(?:ed|ment)|how many "
    r"different|list (?:all|the)|everything|all the)\b",
    re.IGNORECASE,
)
_NOW = re.compile(
    r"\b(?:now|current(?:ly)?|latest|most recent(?:ly)?|these days|at the moment|still|last)\b",
    re.IGNORECASE,
)
_ADVICE = re.compile(
    r"\b(?:suggest|recommend|advice|advise|tips?|ideas?|help me|should i|could you|can you|any)\b",
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
    broad: float
    now: float
    advice: float
    assistant: float


def read_asked(question: str) -> Asked:
    """Read the clues of a question.

    >>> read_asked("When did you recommend it?")
    Asked(when=1.0, number=0.0, broad=0.0, now=0.0, advice=1.0, assistant=1.0)
    """
    patterns = (_WHEN, _NUMBER, _BROAD, _NOW, _ADVICE, _ASKS_ASSISTANT)
    return Asked(*(float(bool(pattern.search(question))) for pattern in patterns))
