"""What an agent gives back: the answer, what it was given for it, and what was kept of both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mnemic.context.result import Context
from mnemic.records import Receipt, StreamStats

ToolName = Literal["remember", "recall", "forget"]


@dataclass(frozen=True, slots=True)
class ToolUse:
    """One use of a tool by the model: which, what it gave, and the memories made, found or erased.

    `refused` says why nothing was done, where that is so.
    """

    name: ToolName
    given: str
    memory_ids: tuple[str, ...] = ()
    refused: str | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """What the model's provider counted for one reply: requests, and tokens in and out."""

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer. `context` is what the model was handed; `tools` is what it did to memory by itself.

    `said` is the receipt of the user's message, `receipt` that of the answer: None while it streams,
    where the model said nothing, and where the answer couldn't be kept, for which `error` says why.
    `stats` has the measures of a streamed one.
    """

    text: str
    context: Context
    said: Receipt
    receipt: Receipt | None = None
    tools: tuple[ToolUse, ...] = ()
    usage: Usage = Usage()
    stats: StreamStats | None = None
    error: str | None = None
