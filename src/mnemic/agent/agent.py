"""The door of the agent: one object that answers any number of users, each from their own memory."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, TypedDict, Unpack

from mnemic.agent.pieces import AsyncPieces, Pieces
from mnemic.agent.reply import Reply, ToolName
from mnemic.agent.streams import AsyncReplyStream, ReplyStream
from mnemic.agent.tools import TOOLS
from mnemic.agent.turn import Manner, Turn
from mnemic.context.ask import DEFAULT_BUDGET, MAX_BUDGET
from mnemic.errors import InputError
from mnemic.inputs import kind_of, read_name, read_text, shown
from mnemic.memory import Memory, ScopedMemory, Tenant
from mnemic.models.llm import GRACE_S, TIMEOUT_S, HostedModel, choose_model, waiting
from mnemic.retrieval.ask import read_whole

Said = str | Mapping[str, Any]


class ModelFields(TypedDict, total=False):
    """Where a model is reached, and what bounds a reply: seconds, and tokens as the model counts them."""

    base_url: str | None
    api_key: str | None
    timeout_s: float
    max_tokens: int | None


class MemoryAgent:
    """A model with a memory of each user it talks with; any number of threads and tasks may use one.

    A reply is made of three steps: what is remembered is put into a context of `budget` tokens, with
    `instructions` as its system prompt and the procedures of `agent`; what the user said is committed;
    the model is asked. Its answer is then remembered too. It never learns from what it was handed.

    `model` is a name such as `openai:gpt-4.1-mini` (MNEMIC_MODEL unless given) or a pydantic-ai `Model`;
    with `base_url`, any model behind an OpenAI-compatible server. `tools` are those of remember, recall
    and forget that the model may use by itself: all of them, or none with False. `timeout_s` bounds a
    reply as a whole (120), `max_tokens` its length (as the provider does, unless given; thinking counts).
    Making one loads and asks nothing.
    """

    def __init__(
        self,
        memory: Memory | Tenant,
        model: object = None,
        *,
        agent: str = "assistant",
        instructions: str = "",
        budget: int = DEFAULT_BUDGET,
        tools: bool | Iterable[ToolName] = True,
        **at: Unpack[ModelFields],
    ) -> None:
        if not isinstance(memory, Memory | Tenant):
            raise InputError(
                f"an agent needs a `Memory`, or a tenant of one, not {kind_of(memory)}"
            )
        if not isinstance(instructions, str):
            raise InputError(f"instructions are a system prompt, not {kind_of(instructions)}")
        unknown = at.keys() - ModelFields.__annotations__.keys()
        if unknown:
            known = ", ".join(sorted(ModelFields.__annotations__))
            raise InputError(f"unknown argument {min(unknown)}; a model is given {known}")
        most = at.get("max_tokens")
        chosen = choose_model(
            model,
            at.get("base_url"),
            at.get("api_key"),
            timeout_s=at.get("timeout_s", TIMEOUT_S),
        )
        if not isinstance(chosen, HostedModel):
            raise InputError(
                "an agent needs a model that pydantic-ai can talk to: a name such as openai:gpt-4.1-mini,"
                f" or a pydantic-ai `Model`, not {kind_of(chosen)}"
            )
        self._memory = memory
        self._model = chosen
        self._manner = Manner(
            model=chosen.name,
            agent=read_name(agent, "agent"),
            instructions=read_text(instructions, "instructions"),
            budget=read_whole(budget, "budget", MAX_BUDGET),
            tools=_tools(tools),
            timeout_s=chosen.timeout_s,
            max_tokens=None if most is None else read_whole(most, "max_tokens", MAX_BUDGET),
        )

    @property
    def model_name(self) -> str:
        """The model's name, as it is noted with each answer."""
        return self._model.name

    def respond(self, user: str, message: Said, *, session: str | None = None) -> Reply:
        """Answer what a user says: a text, or a message as `remember` takes it.

        What was said is on disk before the model is asked. Raises `InputError`, `BudgetTooSmall`,
        `StoreError` or `ModelError`; after the last, give the message an `id` to say it again without
        it being said twice.
        """
        turn = self._turn(user, message, session)
        return turn.keep(self._model.run(turn.dialogue.answer, self._manner.timeout_s))

    def stream(self, user: str, message: Said, *, session: str | None = None) -> ReplyStream:
        """The same, with the answer's text as it comes; the model is asked when it is first read."""
        turn = self._turn(user, message, session)
        pieces = Pieces(self._model, turn.dialogue.stream, self._manner.timeout_s)
        buffer = turn.handle.stream(pieces, session=turn.session, metadata=turn.marks)
        return ReplyStream(turn, buffer, pieces)

    async def arespond(self, user: str, message: Said, *, session: str | None = None) -> Reply:
        """`respond` for asyncio: memory is read and written in threads; cancelling it stops the model."""
        turn = await asyncio.to_thread(self._turn, user, message, session)
        with waiting(self._model.name):
            call = asyncio.wrap_future(self._model.start(turn.dialogue.answer))
            text = await asyncio.wait_for(call, self._manner.timeout_s + GRACE_S)
        return await asyncio.to_thread(turn.keep, text)

    async def astream(
        self, user: str, message: Said, *, session: str | None = None
    ) -> AsyncReplyStream:
        """`stream` for asyncio."""
        turn = await asyncio.to_thread(self._turn, user, message, session)
        pieces = AsyncPieces(self._model, turn.dialogue.stream, self._manner.timeout_s)
        buffer = turn.handle.stream(pieces, session=turn.session, metadata=turn.marks)
        return AsyncReplyStream(turn, buffer, pieces)

    def close(self) -> None:
        """Close the connections to the model; the memory stays open. A later call makes new ones."""
        self._model.close()

    def _turn(self, user: str, message: Said, session: str | None) -> Turn:
        handle: ScopedMemory = self._memory.user(user)
        return Turn(self._manner, handle, message, session)


def _tools(given: Any) -> tuple[ToolName, ...]:
    if isinstance(given, bool):
        return TOOLS if given else ()
    named = (given,) if isinstance(given, str) else given
    if not isinstance(named, Iterable):
        raise InputError(
            f"tools are True, False or some of {', '.join(TOOLS)}, not {kind_of(given)}"
        )
    chosen = list(named)
    unknown = [name for name in chosen if name not in TOOLS]
    if unknown:
        raise InputError(f"tools must be some of {', '.join(TOOLS)}, not {shown(unknown[0])}")
    return tuple(name for name in TOOLS if name in chosen)
