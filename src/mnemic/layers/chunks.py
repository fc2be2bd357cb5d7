"""The text that a chunk of a model's stream brings, in the shapes that clients give them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mnemic.errors import InputError
from mnemic.inputs import kind_of, shown

Field = Callable[[str], Any]

# Events of OpenAI's Responses and of Anthropic's Messages that bring no text of the reply: tools,
# reasoning, and what repeats the text that came in a delta.
_OTHER_EVENTS = frozenset(
    "ping error keepalive text citation thinking signature input_json compaction".split()
)
_OTHER_FAMILIES = ("response.", "message_", "content_block_")
_SAID = ("response.output_text.delta", "response.refusal.delta")


def text_of(chunk: Any) -> str:
    """The text of a chunk, empty where it brings none; raises `InputError` for an unknown kind of chunk.

    >>> text_of("Hel"), text_of({"choices": [{"index": 0, "delta": {"content": "lo"}}]})
    ('Hel', 'lo')
    >>> text_of({"type": "content_block_delta", "delta": {"type": "text_delta", "text": "!"}})
    '!'
    """
    if isinstance(chunk, str):
        return str(chunk)
    field = _fields(chunk)
    choices = field("choices")
    if _is_list(choices):
        return _of_choices(choices)
    kind = field("type")
    if kind in _SAID and isinstance(field("delta"), str):
        return str(field("delta"))
    if kind == "content_block_delta":
        return _of_anthropic(field("delta"))
    if kind == "text_delta" and isinstance(field("text"), str):
        return str(field("text"))
    if isinstance(kind, str) and (kind in _OTHER_EVENTS or kind.startswith(_OTHER_FAMILIES)):
        return ""
    content = field("content")
    if isinstance(content, str):
        return content
    if _is_list(content):
        return "".join(map(_of_block, content))
    raise InputError(
        f"a chunk of type {kind_of(chunk)} is none that is known; give text=, a function from a chunk to"
        " the text that it brings"
    )


def checked(text: Callable[[Any], Any]) -> Callable[[Any], str]:
    """A caller's function from a chunk to its text, whose answers are looked at; None is no text."""

    def read(chunk: Any) -> str:
        said = text(chunk)
        if said is None:
            return ""
        if not isinstance(said, str):
            raise InputError(f"text= must give a string or None for each chunk, not {shown(said)}")
        return str(said)

    return read


def readable(text: str) -> str:
    r"""A text as it can be stored: pairs of surrogates made one, a lone one and NUL replaced by U+FFFD.

    Where a server cuts an emoji in two, each half comes as a surrogate of its own.

    >>> readable("\ud83d" + "\ude00") == "\U0001f600", readable("a\0b") == "a\ufffdb"
    (True, True)
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text.replace("\0", "\ufffd")


def _fields(chunk: Any) -> Field:
    if isinstance(chunk, Mapping):
        return chunk.get
    return lambda name: getattr(chunk, name, None)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray)


def _of_choices(choices: Sequence[Any]) -> str:
    """The first of the replies that were asked for at once; a chunk of usage has none."""
    if not choices:
        return ""
    choice = _fields(choices[0])
    if choice("index"):
        return ""
    delta = _fields(choice("delta"))
    for said in (delta("content"), delta("refusal"), choice("text")):
        if isinstance(said, str):
            return said
    return ""


def _of_anthropic(delta: Any) -> str:
    text = _fields(delta)("text")
    return text if isinstance(text, str) else ""


def _of_block(block: Any) -> str:
    """A part of a content that is a list; only text is said."""
    if isinstance(block, str):
        return block
    field = _fields(block)
    text = field("text")
    return text if field("type") in (None, "text") and isinstance(text, str) else ""
