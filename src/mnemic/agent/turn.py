"""One exchange of an agent with one user: what is handed to the model, and what is kept of it.

Kept are the user's own words, before the model is asked, and the model's own answer. What was recalled
for it, and what its tools returned, was never said by either, and isn't kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from mnemic.agent.dialogue import Dialogue, Limits
from mnemic.agent.reply import Reply, ToolName
from mnemic.agent.tools import Tools
from mnemic.context.result import Context
from mnemic.errors import BudgetTooSmall, InputError, MnemicError
from mnemic.inputs import MAX_TEXT, kind_of
from mnemic.layers.chunks import readable
from mnemic.memory import ScopedMemory
from mnemic.records import Message, Receipt, StreamStats
from mnemic.writing.messages import read_input


@dataclass(frozen=True, slots=True)
class Manner:
    """How an agent goes about it: its name, its system prompt, and its limits."""

    model: str
    agent: str
    instructions: str
    budget: int
    tools: Sequence[ToolName]
    timeout_s: float
    max_tokens: int | None


class Turn:
    """One exchange. Making it commits what the user said; nothing is asked of the model yet."""

    def __init__(
        self, manner: Manner, handle: ScopedMemory, message: Any, session: str | None
    ) -> None:
        asked = _read(message, session)
        self.handle = handle
        self.session = asked.session
        self.marks: Mapping[str, str] = {"agent": manner.agent, "model": manner.model}
        try:
            self.context: Context = handle.context(
                asked.content,
                session=asked.session,
                agent=manner.agent,
                budget=manner.budget,
                prompt=manner.instructions,
            )
        except BudgetTooSmall:
            handle.remember(asked)  # too long to be asked; said all the same
            raise
        self._said: Receipt = handle.remember(asked)
        tools = Tools(manner.tools, handle, asked, self.context) if manner.tools else None
        self._tools = tools
        limits = Limits(manner.model, manner.timeout_s, manner.max_tokens)
        self.dialogue = Dialogue(limits, self.context.messages, tools)

    def keep(self, text: str) -> Reply:
        """Remember an answer that came whole, and make the reply of it."""
        text = readable(text)
        receipt, error = None, None
        if text.strip():
            answer = {
                "role": "assistant",
                "content": text[:MAX_TEXT],
                "metadata": dict(self.marks),
            }
            try:
                receipt = self.handle.remember(answer, session=self.session)
            except MnemicError as failed:
                error = str(failed)  # the answer is there, and the caller should have it
        return self.reply(text, receipt=receipt, error=error)

    def reply(
        self,
        text: str,
        *,
        receipt: Receipt | None = None,
        stats: StreamStats | None = None,
        error: str | None = None,
    ) -> Reply:
        """The reply that an answer makes."""
        return Reply(
            text=text,
            context=self.context,
            said=self._said,
            receipt=receipt,
            tools=() if self._tools is None else tuple(self._tools.uses),
            usage=self.dialogue.usage,
            stats=stats,
            error=error,
        )


def _read(message: Any, session: str | None) -> Message:
    """What the user says: a text, or a message of the user's as `remember` takes it."""
    if not isinstance(message, str | Mapping | Message):
        raise InputError(
            f'a message must be what the user says, a text or {{"content": "..."}}, not {kind_of(message)}'
        )
    [(asked, _)] = read_input(message, session, datetime.now(UTC))
    if asked.role != "user":
        raise InputError(f"an agent answers what a user says, not what has the role {asked.role}")
    if not asked.content.strip():
        raise InputError("the message has no text; there is nothing to answer")
    return asked
