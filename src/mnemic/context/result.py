"""What `context` gives: messages ready to send, what they were made of, and what was left out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from mnemic.records import Hit, MemoryRecord, Procedure, Summary, Turn

Part = Literal["instruction", "fact", "summary", "turn", "memory"]
Rendered = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Dropped:
    """Something that is not in a context: which part, the memory's or message's id, and why."""

    part: Part
    id: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class Context:
    """A prompt within a budget.

    `messages` are as OpenAI-style APIs take them: at most one system message, first; then the session's
    summary and last turns; last the query, with what was recalled for it fenced before it. `tokens` is
    what they come to, as the counter that was asked for counts (o200k unless told otherwise), never more
    than `budget`. `hits`, `facts`, `procedures`, `summary` and `turns` are what they were made of.
    `error` says why only words were compared, should the embedder have failed.
    """

    query: str
    messages: list[Rendered]
    tokens: int
    budget: int
    dropped: tuple[Dropped, ...] = ()
    hits: tuple[Hit, ...] = ()
    facts: tuple[MemoryRecord, ...] = ()
    procedures: tuple[Procedure, ...] = ()
    summary: Summary | None = None
    turns: tuple[Turn, ...] = ()
    error: str | None = None
    timings_ms: Mapping[str, float] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The same as one plain prompt, for a model without a chat format; within the budget too."""
        return as_text(self.messages)

    def to_anthropic(self) -> dict[str, Any]:
        """The same as Anthropic's API takes it: `system` and `messages`, to be passed on as keywords.

        Turns of one role are joined; words of the assistant's before the user's first are left out,
        since a conversation begins with the user there.
        """
        turns: list[Rendered] = []
        for message in self.messages:
            if message["role"] != "system":
                role, blocks = _blocks(message)
                if turns and turns[-1]["role"] == role:
                    turns[-1]["content"].extend(blocks)
                elif blocks and (turns or role == "user"):
                    turns.append({"role": role, "content": blocks})
        system = "\n\n".join(m["content"] for m in self.messages if m["role"] == "system")
        return {"messages": turns, **({"system": system} if system else {})}


def as_text(messages: Iterable[Rendered]) -> str:
    """Messages as one text: the system's as they are, the others behind their role.

    >>> print(as_text([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]))
    Be brief.
    <BLANKLINE>
    User: Hi
    """
    return "\n\n".join(_line(message) for message in messages)


def _line(message: Rendered) -> str:
    if message["role"] == "system":
        return str(message["content"])
    who = message.get("name") or str(message["role"]).capitalize()
    said = [_text_of(message.get("content"))]
    said += [_call_line(call) for call in message.get("tool_calls") or ()]
    return f"{who}: " + "\n".join(part for part in said if part)


def _call_line(call: Mapping[str, Any]) -> str:
    function = call.get("function") or {}
    return f"[calls {function.get('name', '')}({function.get('arguments', '')})]"


def _text_of(content: Any) -> str:
    """The text of a content that may be parts; what is no text is named by its type."""
    if content is None or isinstance(content, str):
        return content or ""
    parts = content if isinstance(content, Sequence) else [content]
    return "\n".join(
        str(part.get("text") or f"[{part.get('type', 'part')}]")
        for part in parts
        if isinstance(part, Mapping)
    )


def _blocks(message: Rendered) -> tuple[str, list[Rendered]]:
    """A message's role and content blocks in Anthropic's form."""
    role = message["role"]
    text = _text_of(message.get("content"))
    if role == "tool":
        result = {
            "type": "tool_result",
            "tool_use_id": message.get("tool_call_id"),
            "content": text,
        }
        return "user", [result]
    blocks: list[Rendered] = [{"type": "text", "text": text}] if text.strip() else []
    for call in message.get("tool_calls") or ():
        function = call.get("function") or {}
        blocks.append(
            {
                "type": "tool_use",
                "id": call.get("id"),
                "name": function.get("name"),
                "input": _arguments(function.get("arguments")),
            }
        )
    return ("assistant" if role == "assistant" else "user"), blocks


def _arguments(given: Any) -> Any:
    """A call's arguments as a mapping; what isn't JSON is kept as a text in one."""
    if not isinstance(given, str):
        return given or {}
    try:
        read = json.loads(given or "{}")
    except ValueError:
        read = None
    return read if isinstance(read, dict) else {"arguments": given}
