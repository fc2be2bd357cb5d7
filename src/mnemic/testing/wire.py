"""What an OpenAI-compatible server says, as JSON: completions, their streams, vectors, errors. Pure.

Ids and counts follow from the request alone, so that a test's answers are the same each time. A token
is a word here.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

_WORD = re.compile(r"\S+")
_PIECE = re.compile(r"\s*\S+\s*|\s+")

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that the model asks for. Arguments that are a string are sent as they are, broken or not."""

    name: str
    arguments: Mapping[str, Any] | str = field(default_factory=dict)
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer of a scripted server: what the model says, and what goes wrong with saying it.

    - `text`, `tool_calls`: what is said.
    - `delay`: seconds that pass first.
    - `status`: other than 200, an error with `text` as its message, and `retry_after` (seconds) as header.
    - `body`: sent as it is in place of JSON: garbage, half a JSON, another format.
    - `half`: the connection is lost in the middle of the answer.
    - `drop`: the connection is closed without one.
    """

    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    delay: float = 0.0
    status: int = 200
    retry_after: float | None = None
    body: bytes | None = None
    half: bool = False
    drop: bool = False

    def __post_init__(self) -> None:
        status: object = self.status
        if type(status) is not int or not 100 <= status <= 599:
            raise ValueError(f"status must be a number from 100 to 599, not {status!r}")
        if not self.delay >= 0:
            raise ValueError(f"delay must be seconds from 0 on, not {self.delay!r}")


Said = str | ToolCall | Reply


def as_reply(said: Said) -> Reply:
    """Read what a script says; raises `TypeError` for anything else.

    >>> as_reply("Hello.").text
    'Hello.'
    """
    if isinstance(said, Reply):
        return said
    if isinstance(said, ToolCall):
        return Reply(tool_calls=(said,))
    if isinstance(said, str):
        return Reply(said)
    raise TypeError(f"a script says a str, a ToolCall or a Reply, not {type(said).__name__}")


def completion(number: int, request: Json, reply: Reply) -> Json:
    """The answer to `/v1/chat/completions`; `number` is the request's."""
    said: Json = {"role": "assistant", "content": reply.text or None}
    if reply.tool_calls:
        said["tool_calls"] = _calls(number, reply)
    else:
        said["content"] = reply.text
    choice = {"index": 0, "message": said, "finish_reason": _finish(reply), "logprobs": None}
    head = _head(number, request, "chat.completion")
    return {**head, "choices": [choice], "usage": usage(request, reply)}


def chunks(number: int, request: Json, reply: Reply) -> Iterator[Json]:
    """The same answer in pieces, as a stream has it: first the role, then what is said, then the end."""
    head = _head(number, request, "chat.completion.chunk")
    # As OpenAI has it: the usage is null until the end, and there only if it was asked for.
    options = request.get("stream_options")
    counted = isinstance(options, dict) and bool(options.get("include_usage"))

    def chunk(delta: Json, finish: str | None = None) -> Json:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
        return {**head, "choices": [choice], **({"usage": None} if counted else {})}

    yield chunk({"role": "assistant", "content": None if reply.tool_calls else ""})
    for piece in _PIECE.findall(reply.text):
        yield chunk({"content": piece})
    for index, call in enumerate(_calls(number, reply)):
        function = call["function"]
        begun = {**call, "index": index, "function": {**function, "arguments": ""}}
        yield chunk({"tool_calls": [begun]})
        middle = len(function["arguments"]) // 2
        for piece in (function["arguments"][:middle], function["arguments"][middle:]):
            yield chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
    yield chunk({}, _finish(reply))
    if counted:
        yield {**head, "choices": [], "usage": usage(request, reply)}


def embeddings(request: Json, texts: Sequence[str], vectors: NDArray[np.float32]) -> Json:
    """The answer to `/v1/embeddings`: numbers, or base64 of little-endian float32 if asked for."""
    packed = request.get("encoding_format") == "base64"
    rows = [
        {
            "object": "embedding",
            "index": index,
            "embedding": base64.b64encode(vector.astype("<f4").tobytes()).decode()
            if packed
            else vector.tolist(),
        }
        for index, vector in enumerate(vectors)
    ]
    words = sum(map(count_words, texts))
    counted = {"prompt_tokens": words, "total_tokens": words}
    return {"object": "list", "model": request.get("model"), "data": rows, "usage": counted}


def models(names: Sequence[str]) -> Json:
    """The answer to `/v1/models`."""
    rows = [
        {"id": name, "object": "model", "created": 0, "owned_by": "mnemic.testing"}
        for name in names
    ]
    return {"object": "list", "data": rows}


def failure(status: int, message: str) -> Json:
    """An error, as OpenAI has it."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}


def usage(request: Json, reply: Reply) -> Json:
    """Count the words that went in and came out."""
    asked = sum(count_words(_text_of(message)) for message in request["messages"])
    said = count_words(reply.text)
    said += sum(count_words(call["function"]["arguments"]) for call in _calls(0, reply))
    return {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said}


def count_words(text: str) -> int:
    """Count what spaces part.

    >>> count_words(" One, two. ")
    2
    """
    return len(_WORD.findall(text))


def _head(number: int, request: Json, kind: str) -> Json:
    return {
        "id": f"chatcmpl-{number}",
        "object": kind,
        "created": 0,
        "model": request.get("model"),
    }


def _finish(reply: Reply) -> str:
    return "tool_calls" if reply.tool_calls else "stop"


def _calls(number: int, reply: Reply) -> list[Json]:
    return [
        {
            "id": call.id or f"call_{number}_{place}",
            "type": "function",
            "function": {"name": call.name, "arguments": _arguments(call)},
        }
        for place, call in enumerate(reply.tool_calls, 1)
    ]


def _arguments(call: ToolCall) -> str:
    given = call.arguments
    return given if isinstance(given, str) else json.dumps(dict(given))


def _text_of(message: Json) -> str:
    """The text of a message, whose content may be a list of parts."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return " ".join(str(part.get("text", "")) for part in parts if isinstance(part, dict))
