"""Messages as OpenAI-style APIs take them, and their exact size in tokens. Pure.

The size is by OpenAI's recipe: 3 tokens a message, its values, 1 more for a name, and 3 that prime the
reply. It is a sum over messages, so that one message more never costs counting the others again.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from functools import partial
from typing import Any

from mnemic.errors import InputError
from mnemic.inputs import kind_of, shown
from mnemic.models.tokens import ENCODINGS, count_tokens
from mnemic.records import Message
from mnemic.writing.passages import SENTENCE_END

INTERRUPTED = " [interrupted]"
CUT = " [...]"
DEFAULT_COUNTER = "o200k_base"
_SHORT_NAMES = {"o200k": "o200k_base", "cl100k": "cl100k_base"}
_PER_MESSAGE, _PER_NAME, _REPLY = 3, 1, 3
# What the API takes as a name.
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_-]+")
_MAX_NAME = 64
# A text is cut at the end of a sentence that leaves this share of what fits at least, else at a word's.
_LEAST_KEPT = 0.5
# So many borders of each kind are tried, should a shorter text have more tokens than a longer one.
_MOST_TRIED = 8
# How long a text can be is found to its 256th part: a border is looked for before that anyway.
_COARSE = 8
# A mark, a joiner or a selector belongs to the character before it; some that stand in a row.
_MOST_JOINED = 32
_JOINERS = "\u200d\ufe0e\ufe0f"


def to_openai(message: Message) -> dict[str, Any]:
    """A message as an OpenAI-style API takes it; one that broke off, or goes on, is marked.

    Nothing in it is the message's own: it may be changed.
    """
    content = _content(message)
    rendered: dict[str, Any] = {"role": message.role, "content": content}
    name = _NOT_IN_NAMES.sub("_", message.name or "").strip("_")[:_MAX_NAME]
    if message.role == "function":
        rendered["name"] = name or "function"  # without a name the API refuses it
    elif name and message.role != "tool":
        rendered["name"] = name
    if message.role == "assistant":
        rendered |= _answered(message)
        if not content and len(rendered) > 2 + ("name" in rendered):
            rendered["content"] = None
    elif message.role == "tool" and message.extra.get("tool_call_id"):
        rendered["tool_call_id"] = message.extra["tool_call_id"]
    return rendered


def calls_of(message: Message) -> list[Mapping[str, Any]]:
    """The tool calls that a message makes, but for one of the older form; what is none is left out."""
    given = message.extra.get("tool_calls") if message.role == "assistant" else None
    calls = given if isinstance(given, list | tuple) else ()
    return [call for call in calls if isinstance(call, Mapping) and call]


def words_of(message: Message) -> str:
    """What a message says in words: its content, or those of a spoken answer.

    The API takes a recording back for an hour only, its words always.
    """
    audio = message.extra.get("audio") if not message.content else None
    spoken = audio.get("transcript") if isinstance(audio, Mapping) else None
    return spoken if isinstance(spoken, str) else message.content


def _content(message: Message) -> Any:
    text = words_of(message)
    if message.state != "complete":
        mark = INTERRUPTED if message.state == "interrupted" else CUT
        text = f"{text}{mark}" if text else mark.strip()
    parts = message.extra.get("parts")
    if not isinstance(parts, list | tuple) or not parts:
        return text
    said = [{"type": "text", "text": text}] if text else []
    return [*said, *deepcopy(list(parts))]


def _answered(message: Message) -> dict[str, Any]:
    """What an answer carries beside its text: calls, in the form that the API demands, or a refusal."""
    carried: dict[str, Any] = {}
    calls = calls_of(message)
    if calls:
        carried["tool_calls"] = [_call(call) for call in calls]
    older = message.extra.get("function_call")
    if isinstance(older, Mapping) and older:
        carried["function_call"] = _function(older)
    refusal = message.extra.get("refusal")
    if isinstance(refusal, str) and refusal:
        carried["refusal"] = refusal
    return carried


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    copied = {"type": "function", **deepcopy(dict(call))}
    if isinstance(copied.get("function"), Mapping):
        copied["function"] = _function(copied["function"])
    return copied


def _function(function: Mapping[str, Any]) -> dict[str, Any]:
    """A call's name and arguments; the API takes the latter as a text of JSON."""
    copied = deepcopy(dict(function))
    arguments = copied.get("arguments")
    if not isinstance(arguments, str):
        copied["arguments"] = json.dumps(arguments or {}, ensure_ascii=False)
    return copied


class ChatCounter:
    """Counts the tokens of texts and of rendered messages.

    `counter` is `o200k_base` (GPT-4o and later), `cl100k_base`, or a function from a text to its number of
    tokens. Raises `InputError` for any other, or where the function gives no whole number.
    """

    def __init__(self, counter: str | Callable[[str], int] = DEFAULT_COUNTER) -> None:
        if isinstance(counter, str):
            name = _SHORT_NAMES.get(counter, counter)
            if name not in ENCODINGS:
                raise InputError(
                    f"unknown counter {shown(counter)}; known are {', '.join(ENCODINGS)}, or give a"
                    " function from a text to its number of tokens"
                )
            self._count: Callable[[str], Any] = partial(count_tokens, encoding=name)
        elif callable(counter):
            self._count = counter
        else:
            raise InputError(
                f"a counter is one of {', '.join(ENCODINGS)}, or a function, not {kind_of(counter)}"
            )

    def text(self, text: str) -> int:
        """The tokens of a text."""
        if not isinstance(text, str):
            raise InputError(f"a text's tokens can be counted, not those of {kind_of(text)}")
        count = self._count(text)
        if isinstance(count, bool) or not isinstance(count, int) or count < 0:
            raise InputError(f"the counter must give a whole number of tokens, not {shown(count)}")
        return count

    def message(self, rendered: Mapping[str, Any]) -> int:
        """The tokens of one rendered message: its frame, and each value, as JSON where it is no text."""
        if not isinstance(rendered, Mapping):
            raise InputError(
                f'a rendered message is a mapping such as {{"role": "user"}}, not {kind_of(rendered)}'
            )
        total = _PER_MESSAGE
        for key, value in rendered.items():
            if value is not None:
                total += self.text(value if isinstance(value, str) else _json(value))
            if key == "name":
                total += _PER_NAME
        return total

    def messages(self, rendered: Iterable[Mapping[str, Any]]) -> int:
        """The tokens of all that is sent, with those that prime the reply."""
        return _REPLY + sum(map(self.message, rendered))

    def cut(self, text: str, most: int) -> str:
        """A text's beginning within so many tokens, marked `[...]`; the whole text where it fits.

        It ends with a sentence, where one ends in the latter half of what fits, else with a word, else
        anywhere. Empty where not a character fits beside the mark. Counts some texts of about the
        result's length, however long the whole is.

        >>> ChatCounter(len).cut("One. Two is longer.", 11)
        'One. [...]'
        """
        tokens = self.text(text)
        if tokens <= most:
            return text
        length = self._longest(text, most, len(text) * max(most, 0) // max(tokens, 1))
        for end in _ends(text, int(length * _LEAST_KEPT), length):
            if text[:end].strip() and self._fits(text, end, most):
                return _marked(text, end)
        whole = _whole_characters(text, length)
        end = whole if self._fits(text, whole, most) else length
        return _marked(text, end) if text[:end].strip() else ""

    def _longest(self, text: str, most: int, guess: int) -> int:
        """About how many characters fit with the mark; 0 where none does.

        From a guess outwards, then into the middle, so that nothing much longer than the result is counted.
        What it gives was counted, whether or not a longer text always has more tokens.
        """
        low, high = 0, len(text)
        while high - low > max(low >> _COARSE, 1):
            place = min(max(guess, low + 1), high - 1)
            if self._fits(text, place, most):
                low = place
                guess = 2 * place if high == len(text) else (low + high) // 2
            else:
                high = place
                guess = place // 2 if low == 0 else (low + high) // 2
        return low

    def _fits(self, text: str, end: int, most: int) -> bool:
        return self.text(_marked(text, end)) <= most


def _marked(text: str, end: int) -> str:
    return text[:end].rstrip() + CUT


def _json(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        raise InputError(f"a rendered message holds JSON, not {shown(value)}") from None


def _ends(text: str, least: int, most: int) -> Iterator[int]:
    """Where sentences end between two places, the last first; then where words do."""
    found = SENTENCE_END.finditer(text, least, most + 1)
    ends = [match.start() + len(match.group().rstrip()) for match in found]
    yield from (end for end in ends[: -_MOST_TRIED - 1 : -1] if least < end <= most)
    end = most + 1
    for _ in range(_MOST_TRIED):
        end = max(text.rfind(mark, least + 1, end) for mark in (" ", "\n", "\t"))
        if end < 0:
            return
        yield end


def _whole_characters(text: str, end: int) -> int:
    """A place at or before `end` where no character is parted from its marks."""
    for place in range(end, max(end - _MOST_JOINED, 0), -1):
        after = text[place : place + 1] or " "
        joined = after in _JOINERS or unicodedata.category(after).startswith("M")
        if not joined and text[place - 1] != _JOINERS[0]:
            return place
    return end
