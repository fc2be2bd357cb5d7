"""The buffer around a token stream: what passes, what is measured, and what is kept of every ending."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, assert_type

import httpx
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemic import (
    AsyncMemory,
    AsyncSensoryBuffer,
    IdConflict,
    InputError,
    Memory,
    Message,
    ScopedMemory,
    SensoryBuffer,
    StoreClosed,
)
from mnemic.inputs import MAX_TEXT
from mnemic.layers.chunks import readable, text_of
from mnemic.settings import Settings
from mnemic.testing import FakeEmbedder, Reply, ScriptedServer
from mnemic.transfer.exporting import export_lines
from mnemic.transfer.importing import import_file
from tests.fakes import new_memory, open_memory

WORDS = ["I ", "moved ", "to ", "Lisbon."]


def said(handle: ScopedMemory, session: str = "s1") -> list[Message]:
    return [turn.message for turn in handle._core.session_rows.tail(handle.scope, session, 100)]


def only(handle: ScopedMemory, session: str = "s1") -> Message:
    [message] = said(handle, session)
    return message


def failing(error: BaseException, words: list[str] | None = None) -> Iterator[str]:
    yield from WORDS[:2] if words is None else words
    raise error


async def arriving(words: list[str], error: BaseException | None = None) -> AsyncIterator[str]:
    for word in words:
        await asyncio.sleep(0)
        yield word
    if error is not None:
        raise error


async def endless() -> AsyncIterator[str]:
    for word in WORDS[:2]:
        yield word
    await asyncio.Event().wait()


# --- what passes, and what is kept of it ------------------------------------------------------------


def test_tokens_pass_unchanged_and_in_order(ana: ScopedMemory) -> None:
    given = [{"choices": [{"index": 0, "delta": {"content": word}}]} for word in WORDS]
    buffer = ana.stream(iter(given), session="s1")
    passed = list(buffer)
    assert [id(token) for token in passed] == [id(token) for token in given]
    assert buffer.text == only(ana).content == "I moved to Lisbon."


def test_each_token_passes_before_the_next_is_asked_for(ana: ScopedMemory) -> None:
    asked: list[str] = []

    def source() -> Iterator[str]:
        for word in WORDS:
            asked.append(word)
            yield word

    for number, word in enumerate(ana.stream(source(), session="s1"), 1):
        assert asked == WORDS[:number]
        assert word == WORDS[number - 1]


def test_a_stream_that_ends_is_a_complete_message_and_is_recalled(ana: ScopedMemory) -> None:
    with ana.stream(WORDS, session="s1", name="Bot", id="r1", tags=["x"]) as buffer:
        assert buffer.receipt is None
        assert "".join(buffer) == "I moved to Lisbon."
        assert buffer.receipt is not None
    message = only(ana)
    assert (message.state, message.role, message.name) == ("complete", "assistant", "Bot")
    assert (message.id, message.tags, message.session) == ("r1", ("x",), "s1")
    assert buffer.message_id == "r1"
    assert buffer.receipt.state == "indexed"
    assert buffer.receipt.message_ids == ("r1",)
    [hit] = ana.recall("Where is Lisbon?")
    assert (hit.memory.source, hit.memory.text) == ("assistant", "I moved to Lisbon.")
    assert ana.history(hit.memory.id)[0].action == "remembered"


def test_measures_are_kept_with_the_message_and_not_with_its_memories(ana: ScopedMemory) -> None:
    buffer = ana.stream(["", *WORDS, ""], session="s1", metadata={"model": "m"})
    list(buffer)
    stats = buffer.stats
    assert (stats.state, stats.chunks, stats.characters) == ("complete", 4, 18)
    assert stats.first_token_ms is not None
    assert 0 <= stats.first_token_ms <= stats.duration_ms
    kept = only(ana).metadata
    assert kept["model"] == "m"
    assert (kept["stream"]["chunks"], kept["stream"]["characters"]) == (4, 18)
    assert kept["stream"]["first_token_ms"] == stats.first_token_ms
    assert {"error", "cut", "state"} & kept["stream"].keys() == set()
    [memory] = ana.iter_memories()
    assert memory.metadata == {"model": "m"}


def test_the_same_reply_streamed_again_is_one_memory(ana: ScopedMemory) -> None:
    for _ in range(2):
        buffer = ana.stream(WORDS, session="s1")
        list(buffer)
    assert buffer.receipt is not None
    assert (buffer.receipt.made, len(said(ana))) == (0, 2)
    ana.remember({"role": "assistant", "content": "I moved to Lisbon!"})
    assert len(list(ana.iter_memories())) == 1


@pytest.mark.parametrize("words", [[], [""], [" ", "\n"]])
def test_a_stream_without_text_is_no_message(ana: ScopedMemory, words: list[str]) -> None:
    with ana.stream(words, session="s1") as buffer:
        assert list(buffer) == words
    assert buffer.receipt is None
    assert buffer.stats.state == "complete"
    assert said(ana) == []


def test_a_stream_that_is_never_read_is_no_message(ana: ScopedMemory) -> None:
    with ana.stream(WORDS, session="s1"):
        pass
    iter(ana.stream(WORDS, session="s1"))
    ana.stream(WORDS, session="s1").close()
    assert said(ana) == []


def test_a_stream_is_read_once(ana: ScopedMemory) -> None:
    buffer = ana.stream(WORDS, session="s1")
    list(buffer)
    with pytest.raises(InputError, match="once only"):
        iter(buffer)
    assert len(said(ana)) == 1


@given(st.text(), st.lists(st.integers(0, 40), max_size=8))
def test_any_split_of_a_text_is_kept_as_their_concatenation(text: str, cuts: list[int]) -> None:
    at = sorted({0, len(text), *(min(cut, len(text)) for cut in cuts)})
    pieces = [text[a:b] for a, b in pairwise(at)]
    with new_memory() as memory:
        ana = memory.user("ana")
        buffer = ana.stream(pieces, session="s1")
        assert list(buffer) == pieces
        assert [m.content for m in said(ana)] == ([text.replace("\0", "�")] if text.strip() else [])
        assert buffer.stats.characters == len(text)


def test_more_than_a_message_holds_is_cut_and_marked(ana: ScopedMemory) -> None:
    piece = "word " * 100_000
    buffer = ana.stream([piece] * 6, session="s1")
    assert sum(map(len, buffer)) == 6 * len(piece)
    assert buffer.stats.cut
    assert (buffer.stats.chunks, buffer.stats.characters) == (6, 6 * len(piece))
    message = only(ana)
    assert len(message.content) == MAX_TEXT
    assert message.content == (piece * 6)[:MAX_TEXT]
    assert message.metadata["stream"]["cut"] is True


def test_what_cannot_be_stored_is_replaced(ana: ScopedMemory) -> None:
    tokens = ["a\0b ", "\ud83d", "\ude00", " \ud83d!"]
    assert list(ana.stream(tokens, session="s1")) == tokens
    assert only(ana).content == "a\ufffdb \U0001f600 \ufffd!"
    assert readable("\ude00") == "\ufffd"


def test_two_streams_in_one_session_are_two_messages(ana: ScopedMemory) -> None:
    one, two = (
        iter(ana.stream(WORDS, session="s1")),
        iter(ana.stream("a b c d".split(), session="s1")),
    )
    for _ in WORDS:
        next(one), next(two)
    assert (next(two, None), next(one, None)) == (None, None)
    assert [message.content for message in said(ana)] == ["abcd", "I moved to Lisbon."]


def test_threads_stream_at_once(memory: Memory) -> None:
    def reply(number: int) -> None:
        words = [f"{number}.{n} " for n in range(50)]
        assert list(memory.user("ana").stream(words, session=f"s{number}", every=0.05)) == words

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(reply, range(24)))
    for number in range(24):
        assert only(memory.user("ana"), f"s{number}").content.count(f"{number}.") == 50


# --- chunks of every kind ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chunk", "text"),
    [
        ("plain", "plain"),
        ({"choices": []}, ""),
        ({"choices": [{"index": 0, "delta": {}}]}, ""),
        ({"choices": [{"index": 0, "delta": {"content": None, "tool_calls": [{}]}}]}, ""),
        ({"choices": [{"index": 1, "delta": {"content": "another reply"}}]}, ""),
        ({"choices": [{"index": 0, "delta": {"refusal": "I can't."}}]}, "I can't."),
        ({"choices": [{"text": "completed"}]}, "completed"),
        (SimpleNamespace(choices=[SimpleNamespace(delta=SimpleNamespace(content="x"))]), "x"),
        ({"type": "response.created", "response": {}}, ""),
        ({"type": "response.output_text.delta", "delta": "x"}, "x"),
        ({"type": "response.reasoning_text.delta", "delta": "thinking"}, ""),
        ({"type": "response.output_text.done", "text": "all of it"}, ""),
        (SimpleNamespace(type="response.output_text.delta", delta="x"), "x"),
        ({"type": "message_start", "message": {"content": []}}, ""),
        ({"type": "content_block_delta", "delta": {"type": "text_delta", "text": "x"}}, "x"),
        ({"type": "content_block_delta", "delta": {"type": "thinking_delta", "thinking": "x"}}, ""),
        ({"type": "text", "text": "x", "snapshot": "x"}, ""),
        ({"type": "text_delta", "text": "x"}, "x"),
        ({"type": "ping"}, ""),
        (SimpleNamespace(type="AIMessageChunk", content="x"), "x"),
        (SimpleNamespace(content=[{"type": "text", "text": "x"}, {"type": "tool_use"}, "y"]), "xy"),
    ],
)
def test_the_text_of_chunks_as_clients_give_them(chunk: Any, text: str) -> None:
    assert text_of(chunk) == text


@pytest.mark.parametrize(
    "chunk", [None, 3, b"x", [1], {}, {"token": "x"}, SimpleNamespace(text="x")]
)
def test_an_unknown_chunk_is_refused_and_what_came_before_is_kept(
    ana: ScopedMemory, chunk: Any
) -> None:
    tokens: list[Any] = ["I moved", chunk, "on"]
    buffer = ana.stream(tokens, session="s1")
    with pytest.raises(InputError, match="give text="):
        list(buffer)
    message = only(ana)
    assert (message.content, message.state) == ("I moved", "interrupted")
    assert message.metadata["stream"]["error"] == "InputError"


def test_a_function_gives_the_text_of_any_other_chunk(ana: ScopedMemory) -> None:
    given = [(1, "I "), (2, None), (3, "moved.")]
    buffer = ana.stream(given, session="s1", text=lambda chunk: chunk[1])
    assert list(buffer) == given
    assert only(ana).content == "I moved."
    with pytest.raises(InputError, match="must give a string"):
        list(ana.stream(given, text=lambda chunk: chunk[0]))  # type: ignore[arg-type, return-value]


def test_a_stream_of_a_real_client_is_kept(ana: ScopedMemory) -> None:
    with (
        ScriptedServer(["I live in Lisbon, near the river."]) as serving,
        openai.OpenAI(base_url=serving.url, api_key="none") as client,
    ):
        stream = client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "Where?"}], stream=True
        )
        with ana.stream(stream, session="s1") as buffer:
            chunks = list(buffer)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == buffer.text
    assert only(ana).content == "I live in Lisbon, near the river."
    assert buffer.stats.chunks > 3


def test_a_connection_that_is_lost_leaves_an_interrupted_message(ana: ScopedMemory) -> None:
    with (
        ScriptedServer([Reply("I live in Lisbon, near the old river.", half=True)]) as serving,
        openai.OpenAI(base_url=serving.url, api_key="none", max_retries=0) as client,
    ):
        stream = client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "Where?"}], stream=True
        )
        buffer = ana.stream(stream, session="s1")
        with pytest.raises((openai.APIError, httpx.HTTPError)) as caught:
            list(buffer)
    message = only(ana)
    assert message.state == "interrupted"
    assert message.content
    assert "I live in Lisbon, near the old river.".startswith(message.content)
    assert message.metadata["stream"]["error"] == type(caught.value).__name__


# --- every way of ending ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [ConnectionError("lost"), KeyboardInterrupt(), RuntimeError("x"), SystemExit(1)]
)
def test_an_error_of_the_stream_comes_out_unchanged(
    ana: ScopedMemory, error: BaseException
) -> None:
    buffer = ana.stream(failing(error), session="s1")
    with pytest.raises(type(error)) as caught:
        list(buffer)
    assert caught.value is error
    message = only(ana)
    assert (message.content, message.state) == ("I moved ", "interrupted")
    assert message.metadata["stream"]["error"] == buffer.stats.error == type(error).__name__
    assert [hit.memory.text for hit in ana.recall("moved")] == ["I moved"]


def test_a_loop_that_is_left_keeps_what_arrived(ana: ScopedMemory) -> None:
    buffer = ana.stream(WORDS, session="s1")
    for word in buffer:
        if word == "moved ":
            break
    message = only(ana)
    assert (message.content, message.state) == ("I moved ", "interrupted")
    assert buffer.stats.error == "GeneratorExit"
    assert [hit.memory.text for hit in ana.recall("moved")] == ["I moved"]


def test_an_error_in_the_loop_keeps_what_arrived(ana: ScopedMemory) -> None:
    def read() -> None:
        with ana.stream(WORDS, session="s1") as buffer:
            for word in buffer:
                if word == "moved ":
                    raise KeyError(word)

    with pytest.raises(KeyError):
        read()
    message = only(ana)
    assert (message.content, message.metadata["stream"]["error"]) == ("I moved ", "KeyError")


def test_a_stream_that_the_garbage_collector_finds_is_kept(ana: ScopedMemory) -> None:
    class Holder:
        pass

    holder = Holder()
    holder.me, holder.reading = holder, iter(ana.stream(WORDS, session="s1"))  # type: ignore[attr-defined]
    next(holder.reading)  # type: ignore[attr-defined]
    del holder
    gc.collect()
    assert only(ana).state == "interrupted"


def test_closing_ends_a_stream_and_its_source(ana: ScopedMemory) -> None:
    class Source:
        closed = False

        def __iter__(self) -> Iterator[str]:
            yield from WORDS

        def close(self) -> None:
            self.closed = True

    for times in (0, 2):
        source = Source()
        with ana.stream(source, session=f"s{times}") as buffer:
            for _ in zip(range(times), buffer, strict=False):
                pass
        assert source.closed
        buffer.close()
    assert only(ana, "s2").state == "interrupted"
    assert said(ana, "s0") == []
    whole = Source()
    with ana.stream(whole, session="s3") as buffer:
        list(buffer)
    assert not whole.closed


def test_another_thread_may_end_a_stream_that_hangs(ana: ScopedMemory) -> None:
    hangs, go_on, passed = threading.Event(), threading.Event(), list[str]()

    def source() -> Iterator[str]:
        yield from WORDS[:2]
        hangs.set()
        assert go_on.wait(30)
        yield WORDS[2]

    buffer = ana.stream(source(), session="s1")
    reading = threading.Thread(target=lambda: passed.extend(buffer))
    reading.start()
    assert hangs.wait(30)
    buffer.close()
    assert only(ana).content == "I moved "
    go_on.set()
    reading.join()
    assert passed == WORDS[:3]
    assert (only(ana).content, only(ana).state) == ("I moved ", "interrupted")


def test_closing_the_memory_ends_its_streams(db: Path) -> None:
    memory = open_memory(db)
    buffer = memory.user("ana").stream(WORDS, session="s1")
    reading = iter(buffer)
    assert next(reading) + next(reading) == "I moved "
    memory.close()
    with open_memory(db) as again:
        message = only(again.user("ana"))
        assert (message.content, message.state) == ("I moved ", "interrupted")
        assert message.metadata["stream"]["error"] == "MemoryClosed"
        again.operator.upkeep()
        assert [hit.memory.text for hit in again.user("ana").recall("moved")] == ["I moved"]
    assert list(reading) == WORDS[2:]
    with pytest.raises(StoreClosed):
        list(memory.user("ana").stream(WORDS))


def test_a_process_that_just_ends_keeps_its_streams(db: Path) -> None:
    import subprocess
    import sys

    from tests.fakes import environment

    code = """
import sys
from mnemic.memory import Memory
from mnemic.testing import FakeEmbedder
ana = Memory(sys.argv[1], embedder=FakeEmbedder()).user("ana")
reading = iter(ana.stream(["I ", "moved ", "to "], session="s1"))
next(reading), next(reading)
"""
    command = [sys.executable, "-W", "error", "-c", code, str(db)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    with open_memory(db) as memory:
        assert (only(memory.user("ana")).content, only(memory.user("ana")).state) == (
            "I moved ",
            "interrupted",
        )


# --- what is refused --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tokens", "given", "says"),
    [
        ("text", {}, "an iterable of tokens"),
        (b"text", {}, "an iterable of tokens"),
        (None, {}, "an iterable of tokens"),
        ({"role": "user"}, {}, "an iterable of tokens"),
        ([], {"every": 0}, "every must be"),
        ([], {"every": float("nan")}, "every must be"),
        ([], {"every": True}, "every must be"),
        ([], {"every": "1"}, "every must be"),
        ([], {"text": "content"}, "text must be a function"),
        ([], {"content": "x"}, "unknown field 'content'"),
        ([], {"sesion": "s1"}, "unknown field 'sesion'"),
        ([], {"session": ""}, "session must not be empty"),
        ([], {"role": "robot"}, "the role must be"),
        ([], {"name": 3}, "name must be a string"),
        ([], {"id": " "}, "id must not be empty"),
        ([], {"metadata": {"stream": 1}}, "another key"),
        ([], {"metadata": "x"}, "must be a mapping"),
        ([], {"said_at": "yesterday"}, "no ISO 8601 time"),
    ],
)
def test_bad_input_is_refused_before_anything_is_read(
    ana: ScopedMemory, tokens: Any, given: dict[str, Any], says: str
) -> None:
    with pytest.raises(InputError, match=says):
        ana.stream(tokens, **given)
    assert list(ana._core.session_rows.sessions(ana.scope, 10)) == []


def test_the_largest_metadata_still_has_room_for_the_measures(
    ana: ScopedMemory, tmp_path: Path
) -> None:
    class ErrorWithALongNameThatSaysAllThatIsToBeSaidOfWhatWentWrongInsideOfTheServersMachine(
        Exception
    ):
        pass

    most = 262_144 - 400 - len('{"k": "", "stream": ""}')
    with pytest.raises(InputError, match="larger than"):
        ana.stream([], metadata={"k": "x" * (most + 1)})
    error = ErrorWithALongNameThatSaysAllThatIsToBeSaidOfWhatWentWrongInsideOfTheServersMachine()
    buffer = ana.stream(failing(error), session="s1", metadata={"k": "x" * most})
    with pytest.raises(type(error)):
        list(buffer)
    file = tmp_path / "ana.jsonl"
    file.write_text("\n".join(export_lines(ana)), "utf-8")
    with open_memory(tmp_path / "other.db") as other:
        assert import_file(other, file, user="ana").messages == 1


def test_an_id_that_is_taken_is_told_at_the_end(ana: ScopedMemory) -> None:
    ana.remember({"role": "assistant", "content": "I moved to Porto.", "id": "r1"}, session="s1")
    passed: list[str] = []
    buffer = ana.stream(WORDS, session="s1", id="r1")
    with pytest.raises(IdConflict):
        passed.extend(buffer)
    assert buffer.text == "I moved to Lisbon."
    assert only(ana).content == "I moved to Porto."
    same = ana.stream(["I moved to ", "Porto."], session="s1", id="r1")
    list(same)
    assert same.receipt is not None
    assert same.receipt.state == "unchanged"


# --- async ------------------------------------------------------------------------------------------


async def typed(ana: ScopedMemory) -> None:
    """Never run: mypy holds it against the types that a caller sees."""
    assert_type(ana.stream([1, 2]), SensoryBuffer[int])
    assert_type(ana.stream(arriving([])), AsyncSensoryBuffer[str])
    ana.stream([], sesion="x")  # type: ignore[call-overload]


def test_an_async_stream_passes_and_is_kept(ana: ScopedMemory) -> None:
    async def read() -> list[str]:
        async with ana.stream(arriving(WORDS), session="s1") as buffer:
            passed = [word async for word in buffer]
        assert buffer.receipt is not None
        assert buffer.receipt.state == "indexed"
        return passed

    assert asyncio.run(read()) == WORDS
    assert (only(ana).content, only(ana).state) == ("I moved to Lisbon.", "complete")


def test_an_async_memory_streams_before_it_is_open(db: Path) -> None:
    async def read() -> None:
        async with ScriptedAsync() as stream:
            memory = AsyncMemory(db, embedder=FakeEmbedder(), settings=Settings())
            buffer = memory.user("ana").stream(stream, session="s1")
            chunks = [chunk async for chunk in buffer]
            assert len(chunks) > 3
            assert buffer.receipt is not None
            [hit] = await memory.user("ana").recall("Lisbon")
            assert hit.memory.text == buffer.text == "I live in Lisbon."
            with pytest.raises(InputError, match="Memory takes both"):
                memory.user("ana").stream(WORDS)  # type: ignore[arg-type]
            await memory.close()

    asyncio.run(read())


class ScriptedAsync:
    """A real client's asynchronous stream from a scripted server."""

    async def __aenter__(self) -> Any:
        self.server = ScriptedServer(["I live in Lisbon."])
        self.client = openai.AsyncOpenAI(base_url=self.server.url, api_key="none")
        return await self.client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "Where?"}], stream=True
        )

    async def __aexit__(self, *_: object) -> None:
        await self.client.close()
        self.server.close()


def test_an_error_of_an_async_stream_comes_out_unchanged(ana: ScopedMemory) -> None:
    error = ConnectionError("lost")

    async def read() -> None:
        async with ana.stream(arriving(WORDS[:2], error), session="s1") as buffer:
            async for _ in buffer:
                pass

    with pytest.raises(ConnectionError) as caught:
        asyncio.run(read())
    assert caught.value is error
    assert only(ana).metadata["stream"]["error"] == "ConnectionError"


@pytest.mark.parametrize("managed", [True, False])
def test_a_task_that_is_cancelled_keeps_what_arrived(ana: ScopedMemory, managed: bool) -> None:
    async def read(arrived: asyncio.Event) -> None:
        buffer = ana.stream(endless(), session="s1")
        if managed:
            async with buffer:
                await count(buffer, arrived)
        else:
            await count(buffer, arrived)

    async def count(buffer: AsyncSensoryBuffer[str], arrived: asyncio.Event) -> None:
        async for word in buffer:
            if word == "moved ":
                arrived.set()

    async def cancel() -> None:
        arrived = asyncio.Event()
        task = asyncio.create_task(read(arrived))
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        message = only(ana)
        assert (message.content, message.state) == ("I moved ", "interrupted")
        assert message.metadata["stream"]["error"] == "CancelledError"

    asyncio.run(cancel())


def test_a_task_that_is_cancelled_again_while_it_commits_keeps_what_arrived(
    db: Path, ana: ScopedMemory
) -> None:
    ana.remember("Hello.")

    async def read(buffer: AsyncSensoryBuffer[str]) -> None:
        async for _ in buffer:
            pass

    async def cancel() -> None:
        buffer = ana.stream(arriving(WORDS), session="s1")
        # The store is locked, so the commit takes until after the task is gone.
        with open_memory(db) as other, other._core.database.write():
            task = asyncio.create_task(read(buffer))
            while buffer.stats.state == "streaming":
                await asyncio.sleep(0.001)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert said(ana) == []

    asyncio.run(cancel())
    until(lambda: [m.content for m in said(ana)] == ["I moved to Lisbon."])
    assert only(ana).state == "complete"


@pytest.mark.parametrize("managed", [True, False])
def test_an_async_loop_that_is_left_keeps_what_arrived(db: Path, managed: bool) -> None:
    async def read() -> None:
        async with AsyncMemory(db, embedder=FakeEmbedder(), settings=Settings()) as memory:
            buffer = memory.user("ana").stream(endless(), session="s1")
            async for word in buffer:
                if word == "moved ":
                    break
            if managed:
                await buffer.aclose()
                assert buffer.receipt is not None

    asyncio.run(read())
    with open_memory(db) as memory:
        message = only(memory.user("ana"))
        assert (message.content, message.state) == ("I moved ", "interrupted")


def until(true: Any) -> None:
    """Wait for what another thread does."""
    for _ in range(1200):
        if true():
            return
        threading.Event().wait(0.025)
    raise AssertionError("it didn't happen in 30 s")


# --- elsewhere --------------------------------------------------------------------------------------


def test_the_state_of_a_message_survives_export_and_import(
    ana: ScopedMemory, memory: Memory, tmp_path: Path
) -> None:
    with pytest.raises(ConnectionError):
        list(ana.stream(failing(ConnectionError()), session="s1", id="r1"))
    list(ana.stream(WORDS, session="s1", id="r2"))
    lines = list(export_lines(ana))
    file = tmp_path / "ana.jsonl"
    file.write_text("\n".join(lines), "utf-8")
    with open_memory(tmp_path / "other.db") as other:
        import_file(other, file, user="ana")
        assert list(export_lines(other.user("ana"))) == lines
        assert [m.state for m in said(other.user("ana"))] == ["interrupted", "complete"]
    memory.user("ben").remember(said(ana))
    assert [m.state for m in said(memory.user("ben"))] == ["interrupted", "complete"]
    with pytest.raises(InputError, match="the state must be"):
        ana.remember({"content": "x", "state": "streaming"})
