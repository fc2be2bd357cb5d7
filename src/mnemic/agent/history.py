"""Messages as OpenAI's API has them -> the same as pydantic-ai has them. Pure.

What is no text (an image of an earlier turn) is named by its type: a model may not take it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic_ai.messages import ModelMessage, ModelRequestPart, ModelResponsePart


def history_of(messages: Sequence[Mapping[str, Any]]) -> list[ModelMessage]:
    """Read the messages of a context: the system's, the history, and the user's last."""
    from pydantic_ai.messages import ModelRequest, ModelResponse

    tools = {
        call.get("id"): call.get("function", {}).get("name")
        for message in messages
        for call in message.get("tool_calls") or ()
    }
    # Where several people speak as the user, each line says who; most providers take no names.
    named = len({message.get("name") for message in messages if message["role"] == "user"}) > 1
    history: list[ModelMessage] = []
    asked: list[ModelRequestPart] = []
    for message in messages:
        if message["role"] == "assistant":
            if asked:
                history.append(ModelRequest(asked))
                asked = []
            history.append(ModelResponse(_answered(message)))
        else:
            asked.append(_asked(message, tools, named))
    return [*history, ModelRequest(asked)] if asked else history


def _asked(
    message: Mapping[str, Any], tools: Mapping[Any, str | None], named: bool
) -> ModelRequestPart:
    from pydantic_ai.messages import SystemPromptPart, ToolReturnPart, UserPromptPart

    text = text_of(message.get("content"))
    if message["role"] in ("system", "developer"):
        return SystemPromptPart(text)
    if message["role"] == "tool":
        called = message.get("tool_call_id")
        return ToolReturnPart(
            tool_name=tools.get(called) or message.get("name") or "tool",
            content=text,
            tool_call_id=str(called),
        )
    name = message.get("name")
    return UserPromptPart(f"{name}: {text}" if named and name else text)


def _answered(message: Mapping[str, Any]) -> list[ModelResponsePart]:
    from pydantic_ai.messages import TextPart, ToolCallPart

    text = text_of(message.get("content"))
    parts: list[ModelResponsePart] = [TextPart(text)] if text else []
    for call in message.get("tool_calls") or ():
        function = call.get("function") or {}
        given = function.get("arguments")
        parts.append(
            ToolCallPart(
                tool_name=str(function.get("name") or "tool"),
                args=given if isinstance(given, str | dict) else None,
                tool_call_id=str(call.get("id")),
            )
        )
    return parts


def text_of(content: Any) -> str:
    r"""The text of a content that may be parts.

    >>> text_of([{"type": "text", "text": "Look:"}, {"type": "image_url", "image_url": {}}])
    'Look:\n[image_url]'
    """
    if content is None or isinstance(content, str):
        return content or ""
    return "\n".join(
        str(part.get("text") or f"[{part.get('type', 'part')}]")
        for part in content
        if isinstance(part, Mapping)
    )
