"""Cutting a message, or a call's results, that is larger than a whole window. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mnemic.layers.working.rendering import CUT, ChatCounter, words_of
from mnemic.layers.working.units import Unit
from mnemic.records import Message

# A text as part of a message may have some tokens more than alone (a mark, JSON's escapes): so much less
# is tried, one after the other.
_LESS = (0, 2, 8, 32, 128, 1024)


def shortened(unit: Unit, most: int, counter: ChatCounter) -> Unit | None:
    """A unit with its longest texts cut so that it has at most so many tokens; None where that can't be.

    Of a call and its results the results are cut, and if that doesn't do, the words beside the call; the
    call stays as it is. What is no text can't be cut: where it doesn't fit, it is left out.
    """
    everything = range(len(unit.turns))
    results = everything[1:] or everything
    for places, parts in ((results, True), (results, False), (everything, False)):
        made = _cut(unit, places, parts, most, counter)
        if made is not None:
            return made
    return None


def _cut(
    unit: Unit, places: Sequence[int], parts: bool, most: int, counter: ChatCounter
) -> Unit | None:
    said = {place: unit.turns[place].message for place in places}
    words = {place: words_of(message) for place, message in said.items()}
    dropped = {place: not parts and bool(said[place].extra.get("parts")) for place in places}
    bare = _with(unit, {place: _saying(said[place], "", parts) for place in places})
    room = most - _size(bare, counter)
    if room < 0:
        return None
    wanted = {
        place: counter.text(words[place] + CUT if dropped[place] else words[place])
        for place in places
    }
    for less in _LESS:
        shares = _shares(wanted, room - less)
        texts = {
            place: _piece(words[place], shares[place], dropped[place], counter) for place in places
        }
        made = _with(unit, {place: _saying(said[place], texts[place], parts) for place in places})
        if _size(made, counter) <= most:
            return made if len(unit.turns) > 1 or any(texts.values()) else None
    return None


def _piece(text: str, most: int, marked: bool, counter: ChatCounter) -> str:
    """As much of a text as fits; marked also where something other than text was left out."""
    if marked and text and counter.text(text + CUT) <= most:
        return text + CUT
    piece = counter.cut(text, min(most, counter.text(text) - 1) if marked else most)
    if not piece and (text or marked) and counter.text(CUT.strip()) <= most:
        return CUT.strip()
    return piece


def _shares(wanted: dict[int, int], room: int) -> dict[int, int]:
    """Share room out: who wants less than an even share gets it, the rest goes to the others.

    >>> _shares({0: 5, 1: 100, 2: 50}, 45)
    {0: 5, 2: 20, 1: 20}
    """
    shares: dict[int, int] = {}
    left = max(room, 0)
    for place in sorted(wanted, key=lambda at: wanted[at]):
        shares[place] = min(wanted[place], left // (len(wanted) - len(shares)))
        left -= shares[place]
    return shares


def _saying(message: Message, text: str, parts: bool) -> Message:
    """The message with another text, and without what isn't text unless `parts`."""
    gone = {"audio"} if parts else {"audio", "parts"}
    extra = {key: value for key, value in message.extra.items() if key not in gone}
    return replace(message, content=text, extra=extra)


def _with(unit: Unit, messages: dict[int, Message]) -> Unit:
    turns = list(unit.turns)
    for place, message in messages.items():
        turns[place] = replace(turns[place], message=message)
    return replace(unit, turns=tuple(turns))


def _size(unit: Unit, counter: ChatCounter) -> int:
    return sum(map(counter.message, unit.rendered))
