"""What stays or goes together in a window: a message, or a tool call with all its results. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mnemic.layers.working.rendering import calls_of, to_openai
from mnemic.records import Message, Turn

# A result is looked for among this many turns after its call.
MOST_APART = 256
_RESULTS = ("tool", "function")


@dataclass(frozen=True, slots=True)
class Unit:
    """Turns that stay or go together, in the order in which an API takes them.

    `open` marks a call at the end whose results are still to come.
    """

    turns: tuple[Turn, ...]
    open: bool = False

    @property
    def rendered(self) -> list[dict[str, Any]]:
        """The turns as an OpenAI-style API takes them."""
        return [to_openai(turn.message) for turn in self.turns]

    @property
    def seq(self) -> int:
        """The place of its first turn."""
        return self.turns[0].seq


def units(turns: Sequence[Turn]) -> list[Unit]:
    """Put each call together with its results; what has lost the other half is left out.

    Results follow their call, in the order of the calls, also where they came later. A result without its
    call makes no unit, nor does a second one for the same call. A call without all its results makes none,
    unless nothing but some of those comes after it; of one with words beside it the words stay.
    """
    made: list[Unit] = []
    taken: set[int] = set()
    for at, turn in enumerate(turns):
        if at in taken or turn.message.role in _RESULTS:
            continue
        wanted = _calls(turn.message)
        if not wanted:
            if says_something(turn.message):
                made.append(Unit((turn,)))
            continue
        found = _results(turns, at, wanted)
        places = [place for place in found if place is not None]
        if len(places) == len(wanted):
            taken.update(places)
            made.append(Unit((turn, *(turns[place] for place in places))))
        elif turn.message.state == "complete" and _end_it(turns, at, places):
            taken.update(places)
            made.append(Unit((turn, *(turns[place] for place in places)), open=True))
        elif turn.message.content.strip():
            made.append(Unit((replace(turn, message=without_calls(turn.message)),)))
    return made


def says_something(message: Message) -> bool:
    """Whether there is anything in a message that isn't a call: words, parts, a refusal."""
    carried = message.extra.keys() - {"tool_calls", "function_call"}
    return bool(message.content.strip()) or any(message.extra[key] for key in carried)


def without_calls(message: Message) -> Message:
    """A message as it is but for the calls it makes."""
    calls = ("tool_calls", "function_call")
    left = {key: value for key, value in message.extra.items() if key not in calls}
    return replace(message, extra=left)


def last_of_unit(turns: Sequence[Turn], at: int) -> int:
    """Where the last result of the call at a place is; the place itself where there is none."""
    found = _results(turns, at, _calls(turns[at].message))
    return max((place for place in found if place is not None), default=at)


def _results(turns: Sequence[Turn], at: int, wanted: Sequence[str | None]) -> list[int | None]:
    """Where the first result of each call is, up to the next call that uses one of the ids again."""
    found: list[int | None] = [None] * len(wanted)
    missing = len(wanted)
    names = set(wanted)
    for place in range(at + 1, min(at + 1 + MOST_APART, len(turns))):
        message = turns[place].message
        if message.role not in _RESULTS:
            if message.role == "assistant" and names.intersection(_calls(message)):
                break
            continue
        answered = _answers(message)
        for number, id in enumerate(wanted):
            if id == answered and found[number] is None:
                found[number] = place
                missing -= 1
                break
        if not missing:
            break
    return found


def _end_it(turns: Sequence[Turn], at: int, results: Sequence[int]) -> bool:
    """Whether nothing but these results follows a call."""
    return sorted(results) == list(range(at + 1, len(turns)))


def _calls(message: Message) -> list[str | None]:
    """The ids of the calls that a message makes; a call of the older form goes by its name.

    Where a server gives no ids, results belong to the calls in their order.
    """
    return list(_iter_calls(message)) if message.role == "assistant" else []


def _iter_calls(message: Message) -> Iterator[str | None]:
    for call in calls_of(message):
        yield _name(call.get("id"))
    older = message.extra.get("function_call")
    if isinstance(older, Mapping) and older:
        yield f"function {older.get('name')}"


def _answers(message: Message) -> str | None:
    """The id of the call that a message is a result of."""
    if message.role == "function":
        return f"function {message.name}"
    return _name(message.extra.get("tool_call_id"))


def _name(id: Any) -> str | None:
    return None if id is None or id == "" else str(id)
