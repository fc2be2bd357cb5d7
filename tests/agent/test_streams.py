"""Answers as they come: passed on at once, kept whole, or kept as far as they came."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
from collections.abc import Iterator
from time import monotonic, sleep
from typing import Any

import pytest
from pydantic_ai.messages import ModelMessage
from pydantic_ai.models.function import AgentInfo, FunctionModel

from mnemic import InputError, Memory, Message, ModelError, ModelUnavailable, ScopedMemory
from mnemic.agent import MemoryAgent
from mnemic.testing import Reply as Scripted
from mnemic.testing import ScriptedServer
from tests.agent.conftest import Make


class Slow:
    """A model that says a word, then no other until it is let; it knows whether it was stopped."""

    def __init__(self, memory: Memory) -> None:
        self.go_on = threading.Event()
        self.stopped = threading.Event()
        self.agent = MemoryAgent(memory, FunctionModel(stream_function=self._say), tools=False)

    async def _say(self, _messages: list[ModelMessage], _info: AgentInfo) -> Any:
        try:
            yield "One "
            while not self.go_on.is_set():
                await asyncio.sleep(0.01)
            yield "two."
        except (asyncio.CancelledError, GeneratorExit):
            self.stopped.set()
            raise


@pytest.fixture
def slow(memory: Memory) -> Iterator[Slow]:
    made = Slow(memory)
    yield made
    made.go_on.set()
    made.agent.close()


def said(handle: ScopedMemory, session: str = "s1") -> list[Message]:
    return [turn.message for turn in handle._core.session_rows.tail(handle.scope, session, 100)]


def answer(memory: Memory) -> Message:
    """The answer that is kept, as soon as it is."""
    until = monotonic() + 30
    while (last := said(memory.user("ana"))[-1]).role != "assistant" or last.state == "streaming":
        assert monotonic() < until
        sleep(0.01)
    return last


def test_words_pass_as_they_come_and_are_kept(memory: Memory, agent_of: Make) -> None:
    with ScriptedServer(["In Lisbon, by the river."]) as server:
        stream = agent_of(server).stream("ana", "Where?", session="s1")
        pieces = list(stream)
    assert len(pieces) > 2
    assert "".join(pieces) == stream.text == stream.reply.text == "In Lisbon, by the river."
    reply = stream.reply
    assert reply.receipt is not None
    assert reply.stats is not None
    assert (reply.stats.state, reply.stats.chunks) == ("complete", len(pieces))
    assert reply.stats.first_token_ms is not None
    kept = answer(memory)
    assert (kept.content, kept.state) == (reply.text, "complete")
    assert kept.metadata["agent"] == "assistant"
    assert [m.role for m in said(memory.user("ana"))] == ["user", "assistant"]
    body = server.requests[0].body
    assert body is not None
    assert body["stream"] is True


def test_the_first_word_does_not_wait_for_the_last(memory: Memory, slow: Slow) -> None:
    with slow.agent.stream("ana", "Well?", session="s1") as stream:
        words = iter(stream)
        assert next(words) == "One "
        assert stream.text == "One "
        assert stream.context.messages[-1]["content"] == "Well?"
        assert stream.reply.receipt is None
        slow.go_on.set()
        assert list(words) == ["two."]
    assert answer(memory).content == "One two."


def test_nothing_is_asked_before_the_first_word_is_wanted(memory: Memory, agent_of: Make) -> None:
    with ScriptedServer() as server:
        with agent_of(server).stream("ana", "Well?", session="s1"):
            pass
        assert server.requests == []
    assert [m.content for m in said(memory.user("ana"))] == ["Well?"]


def test_an_answer_that_breaks_off_is_kept_as_interrupted(memory: Memory, agent_of: Make) -> None:
    with ScriptedServer([Scripted("one two three four five six", half=True)]) as server:
        stream = agent_of(server).stream("ana", "Well?", session="s1")
        with pytest.raises(ModelUnavailable, match="connection was lost"):
            list(stream)
    kept = answer(memory)
    assert kept.state == "interrupted"
    assert "one two three four five six".startswith(kept.content)
    assert kept.content == stream.text
    assert stream.reply.stats is not None
    assert stream.reply.stats.error == "ModelUnavailable"


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Scripted("boom", status=500), ModelUnavailable),
        (Scripted("no", status=401), ModelError),
        (Scripted(body=b"data: {broken\n\n"), ModelError),
        (Scripted(body=b"<html>"), ModelError),
        (Scripted(drop=True), ModelUnavailable),
    ],
)
def test_a_stream_that_never_begins_keeps_the_users_words(
    memory: Memory, agent_of: Make, reply: Scripted, kind: type[ModelError]
) -> None:
    with ScriptedServer(lambda _: reply) as server:
        stream = agent_of(server).stream("ana", "I moved.", session="s1")
        with pytest.raises(kind):
            list(stream)
    assert [m.content for m in said(memory.user("ana"))] == ["I moved."]
    assert stream.reply.text == ""


def test_a_server_that_hangs_is_given_up(memory: Memory, agent_of: Make) -> None:
    with ScriptedServer([Scripted("late", delay=60)]) as server:
        stream = agent_of(server, timeout_s=0.3).stream("ana", "Well?", session="s1")
        with pytest.raises(ModelUnavailable, match="took too long"):
            list(stream)


def test_an_answer_that_is_left_is_kept_and_the_model_stopped(memory: Memory, slow: Slow) -> None:
    with slow.agent.stream("ana", "Well?", session="s1") as stream:
        for _ in stream:
            break
    assert slow.stopped.wait(30)
    kept = answer(memory)
    assert (kept.content, kept.state) == ("One ", "interrupted")


def test_an_answer_that_is_dropped_is_kept_and_the_model_stopped(
    memory: Memory, slow: Slow
) -> None:
    for _ in slow.agent.stream("ana", "Well?", session="s1"):
        break
    gc.collect()
    assert slow.stopped.wait(30)
    assert (answer(memory).content, answer(memory).state) == ("One ", "interrupted")


def test_another_thread_may_end_an_answer(memory: Memory, slow: Slow) -> None:
    stream = slow.agent.stream("ana", "Well?", session="s1")
    words = iter(stream)
    assert next(words) == "One "
    thread = threading.Timer(0.1, stream.close)
    thread.start()
    with pytest.raises(ModelUnavailable, match="cancelled"):
        next(words)
    thread.join()
    assert slow.stopped.wait(30)
    assert answer(memory).state == "interrupted"


def test_ctrl_c_keeps_what_came_and_stops_the_model(memory: Memory, slow: Slow) -> None:
    timer = threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT))

    def read() -> None:
        with slow.agent.stream("ana", "Well?", session="s1") as stream:
            for _ in stream:
                timer.start()

    with pytest.raises(KeyboardInterrupt):
        read()
    timer.join()
    assert slow.stopped.wait(30)
    kept = answer(memory)
    assert (kept.content, kept.state) == ("One ", "interrupted")


def test_a_stream_is_read_once(memory: Memory, agent_of: Make) -> None:
    with ScriptedServer(["Yes."]) as server:
        stream = agent_of(server).stream("ana", "Well?", session="s1")
        assert list(stream) == ["Yes."]
        with pytest.raises(InputError, match="once"):
            list(stream)


def test_a_task_reads_a_stream_too(memory: Memory, agent_of: Make) -> None:
    async def main(agent: MemoryAgent) -> str:
        async with await agent.astream("ana", "Where?", session="s1") as stream:
            text = "".join([piece async for piece in stream])
        assert stream.reply.receipt is not None
        return text

    with ScriptedServer(["In Lisbon, by the river."]) as server:
        assert asyncio.run(main(agent_of(server))) == "In Lisbon, by the river."
    assert answer(memory).state == "complete"


def test_tasks_stream_side_by_side(memory: Memory, agent_of: Make) -> None:
    async def read(agent: MemoryAgent, user: str) -> str:
        async with await agent.astream(user, f"I am {user}") as stream:
            return "".join([piece async for piece in stream])

    async def main(agent: MemoryAgent) -> list[str]:
        return list(await asyncio.gather(*(read(agent, f"user{n}") for n in range(6))))

    with ScriptedServer(lambda messages: f"Hello {messages[-1]['content']}") as server:
        assert asyncio.run(main(agent_of(server))) == [f"Hello I am user{n}" for n in range(6)]


def test_a_cancelled_task_keeps_what_came_and_stops_the_model(memory: Memory, slow: Slow) -> None:
    async def main() -> None:
        came = asyncio.Event()

        async def read() -> None:
            async with await slow.agent.astream("ana", "Well?", session="s1") as stream:
                async for _ in stream:
                    came.set()

        task = asyncio.create_task(read())
        await asyncio.wait_for(came.wait(), 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert slow.stopped.wait(30)
    assert (answer(memory).content, answer(memory).state) == ("One ", "interrupted")


def test_an_answer_that_breaks_off_raises_in_a_task_too(memory: Memory, agent_of: Make) -> None:
    async def main(agent: MemoryAgent) -> None:
        async with await agent.astream("ana", "Well?", session="s1") as stream:
            async for _ in stream:
                pass

    script = [Scripted("one two three four five six", half=True)]
    with ScriptedServer(script) as server, pytest.raises(ModelUnavailable):
        asyncio.run(main(agent_of(server)))
    assert answer(memory).state == "interrupted"


def test_an_answer_survives_the_loop_of_its_reader(memory: Memory, slow: Slow) -> None:
    async def main() -> None:
        stream = await slow.agent.astream("ana", "Well?", session="s1")
        async for _ in stream:
            break
        await stream.aclose()

    asyncio.run(main())
    assert slow.stopped.wait(30)
    assert answer(memory).state == "interrupted"
