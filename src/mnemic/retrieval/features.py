"""What the ranking looks at: one row of features for each candidate. Pure.

No feature is an absolute cosine, so that the fitted weights hold for other embedders too: scores are in
standard deviations of this question's own scores over the scope, or shares, or ranks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mnemic.models.signs import SIGNS
from mnemic.models.terms import hash_term, sign_term
from mnemic.retrieval.clues import Asked
from mnemic.retrieval.index import SOURCES, Index
from mnemic.retrieval.late import TokensMet, weigh_tokens
from mnemic.retrieval.postings import Floats, Postings

MOST_TERMS = 32  # of a long question, the rarest
_FEEDBACK = 5  # how many first hits stand for what the question is about
_BEST = 3  # of a session
# Two unrelated texts have about this cosine, where a scope holds too few memories to tell.
_UNRELATED, _PRIOR = 0.1, 20
_SAMPLE = 512  # memories that tell it
# Beyond these a value says no more: stores come in shapes that nothing was fitted on.
_HANDFUL = 30
_LAST_RANK = 200
_FARTHEST = 30  # messages from a session's first
_LONGEST = 2.0  # standard deviations of length
_FARTHEST_MET = 4.0  # standard deviations of how well tokens are met

# A feature belongs to a group, under which `Hit.channels` shows what it gave.
FEATURES: dict[str, str] = {
    "meaning": "meaning",
    "words": "words",
    "meaning rank": "meaning",
    "words rank": "words",
    "sum rank": "meaning",
    "like the first hits": "meaning",
    "tokens met": "meaning",
    "rare tokens met": "meaning",
    "rare tokens met around": "around",
    "covered": "words",
    "more covered within one turn": "around",
    "more covered within two turns": "around",
    "more covered by its session": "session",
    "message before": "around",
    "message after": "around",
    "two messages before": "around",
    "two messages after": "around",
    "message before, another's": "around",
    "message before asks": "around",
    "behind its message's best": "around",
    "session's best three": "session",
    "behind its session's best": "session",
    "session's meaning": "session",
    "place in its session": "session",
    "opens its session": "session",
    "speaker named": "speaker",
    "another speaker named": "speaker",
    "assistant's, asked for": "source",
    "assistant's, not asked for": "source",
    "assistant's, broad question": "source",
    "opens its session, broad question": "session",
    "session's best three, broad question": "session",
    "in the time named": "time",
    "late": "time",
    "late, asked for now": "time",
    "late, asked when": "time",
    "length": "form",
    "length, the user's": "form",
    "length, asked for advice": "form",
    "asks": "form",
    "time word": "form",
    "count": "form",
    "first person": "form",
    "liking": "form",
    "name": "form",
    "wish": "form",
    "time word, asked when": "form",
    "count, asked when": "form",
    "count, asked how many": "form",
    "liking, asked for advice": "form",
    "wish, asked for advice": "form",
    "name, asked who": "form",
}
_HABITS = [
    at
    for at, (name, group) in enumerate(FEATURES.items())
    if group in ("session", "source", "form") or name.startswith("late")
]


@dataclass(frozen=True, slots=True)
class Scored:
    """A question's scores over all memories of a scope, shape `(rows,)` each, and its terms.

    `meaning` and `words` are standardised; `speaker` and `time` are None where it names none. `strange` is
    the share of the names and numbers it gives that nobody has said.
    """

    cosine: Floats
    meaning: Floats
    words: Floats
    around: Floats
    total: Floats
    speaker: Floats | None
    time: Floats | None
    terms: Sequence[int]
    asked: Asked
    strange: float = 0.0


def look(
    index: Index,
    scored: Scored,
    rows: NDArray[np.int64],
    tokens: TokensMet | None,
    unrelated: float,
) -> NDArray[np.float32]:
    """The features of some rows: shape `(len(rows), len(FEATURES))`.

    `tokens` is how well they meet the question's tokens; None where nobody looked. `unrelated` is the
    cosine of unrelated memories (`unrelated_cosine`).
    """
    both = scored.meaning + scored.words
    named = _at(scored.speaker, rows)
    assistant = (index.columns.source[rows] == SOURCES.index("assistant")).astype(np.float32)
    late = _lateness(index)[rows]
    asked = scored.asked
    talk = _in_conversation(index, both, scored.meaning, rows)
    # A summary is of both sides' words.
    only_users = (1 - asked.assistant) * (1 - asked.summary)
    columns = [
        scored.meaning[rows],
        scored.words[rows],
        _ranks(scored.meaning, rows),
        _ranks(scored.words, rows),
        _ranks(scored.total, rows),
        _feedback(index, both + scored.around, rows, unrelated),
        *_tokens(tokens, len(rows)),
        *_coverage(index, scored.terms, rows),
        *talk,
        named,
        (1 - named) if scored.speaker is not None else named,
        assistant * asked.assistant,
        assistant * only_users,
        assistant * asked.broad * (1 - asked.summary),
        talk[-1] * asked.broad,
        talk[7] * asked.broad,
        _at(scored.time, rows),
        late,
        late * asked.now,
        late * asked.when,
        *_form(index, asked, rows),
    ]
    table = np.stack(columns, axis=1).astype(np.float32, copy=False)
    # Among a handful of memories the question's own words count, and habits of conversations hardly.
    table[:, _HABITS] *= np.float32(len(index) / (len(index) + _HANDFUL))
    return table


def _form(index: Index, asked: Asked, rows: NDArray[np.int64]) -> list[Floats]:
    """How long each is, the signs that it shows, and both where a question calls for them."""
    signs = _signs(index, rows)
    length = _length(index.postings, rows)
    user = (index.columns.source[rows] == SOURCES.index("user")).astype(np.float32)
    return [
        length,
        length * user,
        length * np.float32(asked.advice),
        *signs.values(),
        signs["time word"] * np.float32(asked.when),
        signs["count"] * np.float32(asked.when),
        signs["count"] * np.float32(asked.number),
        signs["liking"] * np.float32(asked.advice),
        signs["wish"] * user * np.float32(asked.advice),
        signs["name"] * np.float32(asked.who),
    ]


def meet_tokens(index: Index, rows: NDArray[np.int64], met: Floats) -> TokensMet | None:
    """Sum up how well the first rows meet the question's tokens, `met`: shape `(looked at, tokens)`."""
    places = index.places
    place = places.of_row[rows]
    message = places.message[place]
    # Where there is no session, nothing is around.
    session = np.where(places.session[place] < 0, -1 - message, places.stretch[message])
    return weigh_tokens(met, message, session)


def _tokens(tokens: TokensMet | None, size: int) -> list[Floats]:
    """In standard deviations over the candidates."""
    if tokens is None:
        return [np.zeros(size, dtype=np.float32)] * 3
    columns = []
    for met in (tokens.plain, tokens.rare, tokens.around):
        apart = (met - met.mean()) / np.float32(max(float(met.std()), 1e-6))
        columns.append(np.clip(apart, -_FARTHEST_MET, _FARTHEST_MET))
    return columns


def conversation_kind(index: Index) -> float:
    """1 where a user talks with an assistant, -1 where people talk, between them where both do."""
    assistant = float((index.columns.source == SOURCES.index("assistant")).mean())
    return min(1.0, 8 * assistant) - 1.0


def _signs(index: Index, rows: NDArray[np.int64]) -> dict[str, Floats]:
    """1 where a memory shows a sign."""
    shown = {}
    for sign in SIGNS:
        there = np.zeros(len(index), dtype=np.float32)
        there[index.postings.of_term(hash_term(sign_term(sign)))[0]] = 1.0
        shown[sign] = there[rows]
    return shown


def _at(scores: Floats | None, rows: NDArray[np.int64]) -> Floats:
    return np.zeros(len(rows), np.float32) if scores is None else scores[rows]


def _ranks(scores: Floats, rows: NDArray[np.int64]) -> Floats:
    """Minus the logarithm of each row's rank among all, from 0.

    >>> _ranks(np.array([1.0, 3.0], dtype=np.float32), np.array([0, 1])).tolist()
    [-0.6931471805599453, -0.0]
    """
    above = len(scores) - np.searchsorted(np.sort(scores), scores[rows], side="right")
    ranks: Floats = -np.log1p(np.minimum(above, _LAST_RANK))
    return ranks


def _feedback(index: Index, scores: Floats, rows: NDArray[np.int64], unrelated: float) -> Floats:
    """How near each is to the middle of the scope's first hits."""
    few = min(_FEEDBACK, len(scores))
    first = np.argpartition(-scores, few - 1)[:few]
    middle = index.matrix[first].mean(axis=0)
    middle /= max(float(np.linalg.norm(middle)), 1e-6)
    return nearness(index.matrix[rows] @ middle, unrelated)


def unrelated_cosine(index: Index) -> float:
    """The cosine that two memories have which have nothing to do with each other, for this embedder."""
    step = max(1, len(index) // _SAMPLE)
    middle = index.matrix[::step].mean(axis=0)
    size = len(index)
    return (size * float(middle @ middle) + _PRIOR * _UNRELATED) / (size + _PRIOR)


def nearness(cosine: Floats, unrelated: float) -> Floats:
    """Cosines, made 0 for unrelated texts and 1 for the same, whatever the embedder."""
    near: Floats = (cosine - np.float32(unrelated)) / np.float32(max(1.0 - unrelated, 1e-3))
    return near


def _lateness(index: Index) -> Floats:
    """When each was said, from 0 for the scope's first to 1 for its last."""
    said = index.columns.said_at
    first, last = int(said.min()), int(said.max())
    late: Floats = ((said - first) / max(1, last - first)).astype(np.float32)
    return late


def _length(postings: Postings, rows: NDArray[np.int64]) -> Floats:
    lengths = np.log1p(postings.lengths)
    spread = float(lengths.std())
    long = (lengths[rows] - lengths.mean()) / np.float32(spread if spread > 1e-7 else 1.0)
    clipped: Floats = np.clip(long, -_LONGEST, _LONGEST)
    return clipped


def _coverage(index: Index, terms: Sequence[int], rows: NDArray[np.int64]) -> list[Floats]:
    """The share of the question's terms, by weight, that each has.

    Then what one turn and two turns around it, and its session, add to that.
    """
    places = index.places
    found = [index.postings.of_term(term)[0] for term in terms]
    total = len(index)
    weights = np.array(
        [math.log1p((total - len(some) + 0.5) / (len(some) + 0.5)) for some in found], np.float32
    )
    if not len(weights):
        return [np.zeros(len(rows), np.float32)] * 4
    rarest = np.argsort(-weights, kind="stable")[:MOST_TERMS]
    weights = weights[rarest] / max(float(weights[rarest].sum()), 1e-6)
    there = np.zeros((len(rarest), total), dtype=np.bool_)
    for at, term in enumerate(rarest):
        there[at, found[term]] = True
    place = places.of_row[rows]
    covered = there[:, rows]
    widths = [covered]
    for steps in (1, 2):
        covered = covered.copy()
        for shift in (-steps, steps):
            other = np.clip(place + shift, 0, len(places.row) - 1)
            same = (places.session[other] == places.session[place]) & (places.session[place] >= 0)
            covered |= there[:, places.row[other]] & same
        widths.append(covered)
    stretch = places.stretch[places.message]
    sessions = np.zeros((len(rarest), len(places.opens)), dtype=np.bool_)
    for at, term in enumerate(rarest):
        sessions[at, stretch[places.of_row[found[term]]]] = True
    alone = places.session[place] < 0
    widths.append(np.where(alone, widths[0], sessions[:, stretch[place]]))
    own, *wider = (weights @ width.astype(np.float32) for width in widths)
    return [own, *(wide - own for wide in wider)]


def _in_conversation(
    index: Index, both: Floats, meaning: Floats, rows: NDArray[np.int64]
) -> list[Floats]:
    """What a memory's message and session say: its neighbours, the session's best, its place there."""
    places = index.places
    place = places.of_row[rows]
    message = places.message[place]
    best = np.maximum.reduceat(both[places.row], places.first)
    stretch = places.stretch[message]
    alone = places.session[place] < 0
    columns = []
    for steps in (1, 2):
        for shift in (-steps, steps):
            other = np.clip(message + shift, 0, len(best) - 1)
            same = (places.stretch[other] == stretch) & (other == message + shift) & ~alone
            columns.append(np.where(same, best[other], 0.0).astype(np.float32))
    before = np.clip(message - 1, 0, None)
    same = (places.stretch[before] == stretch) & (message > 0) & ~alone
    ends = np.append(places.first[1:], len(places.row)) - 1
    spoke = places.row[ends[before]]
    other = same & (index.columns.speaker[spoke] != index.columns.speaker[rows])
    columns.append(np.where(other, best[before], 0.0).astype(np.float32))
    columns.append((same & _asks(index)[spoke]).astype(np.float32))
    own = best[message]
    three = _best_three(best, places.opens, places.stretch)[stretch]
    top = np.maximum.reduceat(best, places.opens)[stretch]
    at_message = meaning[places.row[places.first]]
    sizes = np.diff(np.append(places.opens, len(best)))
    middle = (np.add.reduceat(at_message, places.opens) / sizes)[stretch]
    position = np.minimum(message - places.opens[stretch], _FARTHEST)
    # Where all is one session, its beginning is no sign.
    several = 1.0 - 1.0 / len(places.opens)
    return [
        *columns,
        both[rows] - own,
        np.where(alone, own, three),
        np.where(alone, 0.0, own - top),
        np.where(alone, meaning[rows], middle),
        np.where(alone, 0.0, several * np.log1p(position)),
        np.where(alone, 0.0, several * (position == 0)),
    ]


def _asks(index: Index) -> NDArray[np.bool_]:
    there = np.zeros(len(index), dtype=np.bool_)
    there[index.postings.of_term(hash_term(sign_term("asks")))[0]] = True
    return there


def _best_three(best: Floats, opens: NDArray[np.int64], stretch: NDArray[np.int64]) -> Floats:
    """The mean of each session's three best messages, or of as many as it has."""
    left = best.astype(np.float32, copy=True)
    total = np.zeros(len(opens), dtype=np.float32)
    count = np.zeros(len(opens), dtype=np.float32)
    for _ in range(_BEST):
        top = np.maximum.reduceat(left, opens)
        there = np.isfinite(top)
        total += np.where(there, top, np.float32(0))
        count += there
        left[left == top[stretch]] = -np.inf
    mean: Floats = (total / np.maximum(count, 1)).astype(np.float32)
    return mean
