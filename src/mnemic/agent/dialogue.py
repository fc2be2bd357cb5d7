"""One turn's talk with a model: ask, do what its tools are called for, ask again, until it has answered.

It runs on the models' loop; tools, which touch the database, run in threads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mnemic.agent.history import history_of
from mnemic.agent.reply import Usage
from mnemic.agent.tools import Tools
from mnemic.errors import ModelError
from mnemic.models.llm import asking

if TYPE_CHECKING:
    from pydantic_ai.messages import ModelMessage, ModelResponse, ModelResponseStreamEvent
    from pydantic_ai.models import Model

# How often the model may use tools before it has to answer.
MOST_ROUNDS = 6
Put = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Limits:
    """Which model is asked, and the most that it may take and say."""

    name: str
    timeout_s: float
    max_tokens: int | None


class Dialogue:
    """The talk about one message. Its time-out bounds all of it: requests, their retries, and tools."""

    def __init__(
        self, limits: Limits, messages: Sequence[Mapping[str, Any]], tools: Tools | None
    ) -> None:
        self.usage = Usage()
        self._limits = limits
        self._messages = messages
        self._tools = tools

    async def answer(self, model: Model) -> str:
        """Return the whole answer."""
        said = _Said()
        await self._talk(_Request(model, self._limits), _ask, said)
        return said.text

    async def stream(self, model: Model, put: Put) -> None:
        """Hand on the answer's text as it comes."""
        await self._talk(_Request(model, self._limits), _ask_streamed, _Said(put))

    async def _talk(self, request: _Request, ask: _Ask, said: _Said) -> None:
        history = history_of(self._messages)
        async with asyncio.timeout(self._limits.timeout_s):
            for left in reversed(range(MOST_ROUNDS + 1)):
                said.next_round()
                answer = await ask(request, history, self._tools, left > 0, said)
                self._count(answer)
                if self._tools is None or not answer.tool_calls:
                    return
                history += [answer, await _results(self._tools, answer)]
        raise ModelError(
            f"the language model {self._limits.name} asked for its tools over and over, and was stopped"
        )

    def _count(self, answer: ModelResponse) -> None:
        before, used = self.usage, answer.usage
        self.usage = Usage(
            before.requests + 1,
            before.input_tokens + used.input_tokens,
            before.output_tokens + used.output_tokens,
        )


@dataclass(frozen=True, slots=True)
class _Request:
    model: Model
    limits: Limits

    def given(
        self, history: list[ModelMessage], tools: Tools | None, may_call: bool
    ) -> dict[str, Any]:
        """What both ways to ask are called with."""
        from pydantic_ai.models import ModelRequestParameters

        settings: dict[str, Any] = {"request_timeout": self.limits.timeout_s}
        if self.limits.max_tokens is not None:
            settings["max_tokens"] = self.limits.max_tokens
        if tools is not None and not may_call:
            settings["tool_choice"] = "none"
        return {
            "model": self.model,
            "messages": history,
            "model_settings": settings,
            "model_request_parameters": ModelRequestParameters(
                function_tools=[] if tools is None else tools.definitions()
            ),
            "instrument": False,  # what is said is sent to nobody but the model
        }


class _Said:
    """The text of an answer as it comes; what is said before and after a use of tools is set apart."""

    def __init__(self, put: Put | None = None) -> None:
        self._pieces: list[str] = []
        self._put = put or self._pieces.append
        self._any = self._apart = False

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    def next_round(self) -> None:
        self._apart = self._any

    def put(self, text: str) -> None:
        if text:
            self._put(f"\n\n{text}" if self._apart else text)
            self._any, self._apart = True, False


_Ask = Callable[
    [_Request, list["ModelMessage"], Tools | None, bool, _Said], Awaitable["ModelResponse"]
]


async def _ask(
    request: _Request, history: list[ModelMessage], tools: Tools | None, may_call: bool, said: _Said
) -> ModelResponse:
    from pydantic_ai.direct import model_request

    given = request.given(history, tools, may_call)
    with asking(request.limits.name):
        answer = await model_request(**given)
    said.put(answer.text or "")
    return answer


async def _ask_streamed(
    request: _Request, history: list[ModelMessage], tools: Tools | None, may_call: bool, said: _Said
) -> ModelResponse:
    from pydantic_ai.direct import model_request_stream

    given = request.given(history, tools, may_call)
    with asking(request.limits.name):
        async with model_request_stream(**given) as events:
            async for event in events:
                said.put(_text_of(event))
            return events.get()


def _text_of(event: ModelResponseStreamEvent) -> str:
    from pydantic_ai.messages import PartDeltaEvent, PartStartEvent, TextPart, TextPartDelta

    if isinstance(event, PartStartEvent) and isinstance(event.part, TextPart):
        return event.part.content
    if isinstance(event, PartDeltaEvent) and isinstance(event.delta, TextPartDelta):
        return event.delta.content_delta
    return ""


async def _results(tools: Tools, answer: ModelResponse) -> ModelMessage:
    """Do what was called for, one after the other, in the order of the calls."""
    from pydantic_ai.messages import ModelRequest, ToolReturnPart

    results = []
    for call in answer.tool_calls:
        said = await asyncio.to_thread(tools.use, call.tool_name, call.args)
        results.append(ToolReturnPart(call.tool_name, said, call.tool_call_id))
    return ModelRequest(results)
