"""What is written of a stream while it runs: flushes, kills, forks, forgetting, a store that fails."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from mnemic import Memory, ScopedMemory, StoreBusy, StoreError, StoreReadOnly
from mnemic.records import Summary
from mnemic.stores import schema, sqlite
from mnemic.stores.streaming import STREAM
from tests.core.test_processes import in_child, needs_fork
from tests.fakes import environment, open_memory
from tests.layers.test_sensory import WORDS, only, said, until


def states(handle: ScopedMemory) -> list[tuple[str, str | None]]:
    """Content and state of the rows, as they are kept."""
    with handle._core.store.database.read() as connection:
        rows = connection.execute(select(schema.messages.c.content, schema.messages.c.state))
        return [(row.content, row.state) for row in rows]


def flushed(handle: ScopedMemory, *texts: str) -> None:
    """Wait until these texts are what is there of streams."""
    until(lambda: sorted(states(handle)) == [(text, "streaming") for text in sorted(texts)])


def let_time_pass(memory: Memory) -> None:
    """As if there had been no sign of life for an hour."""
    with memory._core.database.write() as connection:
        hour = 3_600_000_000
        at = schema.messages.c.recorded_at
        connection.execute(update(schema.messages).values(recorded_at=at - hour))
        connection.execute(update(schema.jobs).values(run_at=schema.jobs.c.run_at - hour))


def jobs(memory: Memory) -> int:
    return memory.operator.stats().jobs.get(STREAM, 0)


def test_what_has_arrived_is_flushed_while_it_streams(ana: ScopedMemory, memory: Memory) -> None:
    user = ana.remember("Where do you live?", session="s1")
    reading = iter(ana.stream(WORDS, session="s1", id="r1", every=0.05))
    next(reading)
    flushed_first = [("Where do you live?", None), ("I ", "streaming")]
    until(lambda: states(ana) == flushed_first)
    ana.remember("Go on.", session="s1")
    next(reading)
    until(lambda: ("I moved ", "streaming") in states(ana))
    assert [m.state for m in said(ana)] == ["complete", "streaming", "complete"]
    assert said(ana)[1].metadata["stream"]["chunks"] == 2
    assert jobs(memory) == 1
    assert {hit.memory.id for hit in ana.recall("moved")} >= set(user.memory_ids)
    assert "".join(reading) == "to Lisbon."
    # It keeps the place in the session that it had when it began.
    assert [m.content for m in said(ana)] == ["Where do you live?", "I moved to Lisbon.", "Go on."]
    assert [m.state for m in said(ana)] == ["complete"] * 3
    assert jobs(memory) == 0
    assert "I moved to Lisbon." in ana.recall("moved").text
    assert not [finding for finding in memory.operator.check() if not finding.ok]


def test_a_short_stream_is_one_commit(ana: ScopedMemory) -> None:
    list(ana.stream(WORDS, session="s1", every=60))
    [memory] = ana.iter_memories()
    assert [change.seq for change in ana.history(memory.id)] == [1]


def test_upkeep_leaves_a_stream_alone_that_lives(ana: ScopedMemory, memory: Memory) -> None:
    reading = iter(ana.stream(WORDS, session="s1", every=0.05))
    next(reading)
    flushed(ana, "I ")
    memory.operator.upkeep()
    memory.operator.repair()
    assert states(ana) == [("I ", "streaming")]
    assert jobs(memory) == 1


def test_a_summary_of_what_was_not_all_said_goes(ana: ScopedMemory, memory: Memory) -> None:
    reading = iter(ana.stream(WORDS, session="s1", every=0.05))
    next(reading)
    flushed(ana, "I ")
    rows, now = memory._core.session_rows, only(ana).said_at
    made = Summary("s1", "I ...", 1, 1, 1, 0, 1, "extract", now)
    assert rows.set_summary(ana.scope, made, None)
    before = rows.changed(ana.scope, "s1")
    list(reading)
    assert rows.summary(ana.scope, "s1") is None
    assert rows.changed(ana.scope, "s1") > before
    with memory._core.database.read() as connection:
        actions = connection.execute(select(schema.changes.c.action)).scalars().all()
    assert actions == ["streaming", "completed", "remembered"]


# --- a process that is killed -----------------------------------------------------------------------

KILLED = """
import sys
from mnemic.memory import Memory
from mnemic.testing import FakeEmbedder

def tokens():
    for number in range(1_000_000):
        print(number, flush=True)
        yield f"word{number} "
        sys.stdin.readline()

memory = Memory(sys.argv[1], embedder=FakeEmbedder())
list(memory.user("ana").stream(tokens(), session="s1", id="r1", every=0.1))
"""


def test_a_reply_whose_process_is_killed_is_there_and_interrupted(db: Path) -> None:
    open_memory(db).close()
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(db)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    assert child.stdin is not None
    assert child.stdout is not None
    with child, open_memory(db) as memory:
        ana = memory.user("ana")
        for _ in range(40):
            child.stdout.readline()
            print(file=child.stdin, flush=True)
        child.stdout.readline()
        expected = "".join(f"word{number} " for number in range(40))
        # Within the interval all that had arrived is there; no process of its own is asked for it.
        until(lambda: said(ana) and said(ana)[0].content.startswith(expected))
        assert only(ana).state == "streaming"
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdin.close()
    with open_memory(db) as memory:
        ana = memory.user("ana")
        let_time_pass(memory)
        message = only(ana)
        assert message.state == "interrupted"
        assert message.content.startswith(expected)
        assert len(ana.recall("word7")) == 0
        ana.remember("The next process speaks.")  # and looks after what was left undone
        assert ana.recall("word7")[0].memory.text.startswith("word0 word1 word2")
        assert (only(ana).content, only(ana).state) == (message.content, "interrupted")
        assert only(ana).metadata["stream"]["error"] == "ProcessLost"
        assert jobs(memory) == 0
        assert not [finding for finding in memory.operator.check() if not finding.ok]
        memory.operator.upkeep()
        assert len(said(ana)) == 1


def left(memory: Memory, handle: ScopedMemory) -> Iterator[str]:
    """A stream that was flushed, and whose process seems to be dead."""
    reading = iter(handle.stream(WORDS, session="s1", id="r1", every=0.05))
    next(reading), next(reading)
    flushed(handle, "I moved ")
    let_time_pass(memory)
    return reading


def test_several_processes_recover_a_reply_once(
    db: Path, ana: ScopedMemory, memory: Memory
) -> None:
    reading = left(memory, ana)
    others = [open_memory(db) for _ in range(3)]
    threads = [threading.Thread(target=other.operator.upkeep) for other in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Unless its own sign of life came first, which is as well.
    assert states(ana) in ([("I moved ", "interrupted")], [("I moved ", "streaming")])
    assert len(ana.recall("moved")) <= 1
    assert "".join(reading) == "to Lisbon."
    assert states(ana) == [("I moved to Lisbon.", None)]
    for other in others:
        other.close()


def test_a_process_that_was_only_asleep_says_all_of_it_once(
    ana: ScopedMemory, memory: Memory
) -> None:
    reading = iter(ana.stream(WORDS, session="s1", id="r1", every=0.05))
    next(reading), next(reading)
    flushed(ana, "I moved ")
    ana.remember({"role": "assistant", "content": "I moved"}, session="s2")
    memory._core.flusher._watched.clear()  # asleep
    let_time_pass(memory)
    memory.operator.upkeep()
    assert ("I moved ", "interrupted") in states(ana)
    assert "".join(reading) == "to Lisbon."
    assert only(ana).content == "I moved to Lisbon."
    assert only(ana).state == "complete"
    assert sorted(m.text for m in ana.iter_memories()) == ["I moved", "I moved to Lisbon."]
    assert jobs(memory) == 0
    memory.operator.upkeep()
    assert memory.operator.stats().scopes[0].without_vector == 0


# --- forgetting -------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["message", "session", "everything"])
def test_what_is_forgotten_while_it_streams_stays_forgotten(
    db: Path, ana: ScopedMemory, memory: Memory, how: str
) -> None:
    secret = "greyhounds sleep on the violet sofa "
    words = [*(f"{number}: {secret}" for number in range(30)), "the end"]
    buffer = ana.stream(words, session="s1", id="r1", every=0.05)
    reading = iter(buffer)
    for number in range(20):
        next(reading)
        flushed(ana, "".join(words[: number + 1]))  # each is longer than the last
    forget: dict[str, Any] = {
        "message": lambda: ana.forget(message_id="r1"),
        "session": lambda: ana.forget_session("s1"),
        "everything": ana.forget_everything,
    }
    erasure = forget[how]()
    assert (erasure.state, erasure.messages) == ("clean", 1)
    assert list(reading)[-1] == "the end"
    assert buffer.stats.state == "forgotten"
    assert buffer.receipt is None
    assert states(ana) == []
    assert jobs(memory) == 0
    memory.operator.upkeep()
    memory.close()
    for file in db.parent.iterdir():
        assert b"violet sofa" not in file.read_bytes()


def test_a_new_message_may_have_the_id_of_a_forgotten_stream(ana: ScopedMemory) -> None:
    reading = iter(ana.stream(WORDS, session="s1", id="r1", every=0.05))
    next(reading)
    flushed(ana, "I ")
    ana.forget(message_id="r1")
    ana.remember({"content": "Anew.", "id": "r1"}, session="s1")
    list(reading)
    assert only(ana).content == "Anew."


# --- forks ------------------------------------------------------------------------------------------


@needs_fork
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_leaves_its_parents_stream_alone(ana: ScopedMemory, memory: Memory) -> None:
    buffer = ana.stream(WORDS, session="s1", every=0.05)
    reading = iter(buffer)
    next(reading)
    flushed(ana, "I ")

    def child() -> None:
        nonlocal reading
        reading = iter([])  # its copy is let go
        buffer.close()
        list(ana.stream(["of ", "the ", "child"], session="s2", every=0.05))
        assert only(ana, "s2").content == "of the child"
        slow = iter(ana.stream(WORDS, session="s3", every=0.05))
        next(slow)
        until(lambda: said(ana, "s3"))
        memory.close()

    assert in_child(child) == 0
    next(reading)
    until(lambda: only(ana).content == "I moved ")
    assert only(ana).state == "streaming"
    assert "".join(reading) == "to Lisbon."
    assert (only(ana).content, only(ana).state) == ("I moved to Lisbon.", "complete")
    assert only(ana, "s3").state == "interrupted"


# --- a store that fails -----------------------------------------------------------------------------


def test_a_store_that_is_locked_for_a_while_holds_no_token(
    ana: ScopedMemory, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[int] = []
    write = memory._core.stream_rows.write

    def busy(heard: Any) -> Any:
        tries.append(len(heard))
        if len(tries) < 4:
            raise StoreBusy("locked")
        return write(heard)

    monkeypatch.setattr(memory._core.stream_rows, "write", busy)
    reading = iter(ana.stream(WORDS, session="s1", every=0.05))
    assert next(reading) + next(reading) == "I moved "
    until(lambda: len(tries) >= 2)
    assert said(ana) == []
    flushed(ana, "I moved ")
    assert "".join(reading) == "to Lisbon."
    assert states(ana) == [("I moved to Lisbon.", None)]


def test_a_store_that_fails_at_the_end_is_told_after_the_last_token_and_tried_again(
    db: Path, ana: ScopedMemory, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_MS", 50)
    with memory._core.database.read() as connection:
        connection.exec_driver_sql("PRAGMA busy_timeout=50")
    memory._core.database.engine.dispose()
    monkeypatch.setattr(sqlite, "_PRAGMAS", ("PRAGMA busy_timeout=50", *sqlite._PRAGMAS[1:]))
    ana.remember("something")
    passed: list[str] = []
    with open_memory(db) as other:
        with other._core.database.write():
            buffer = ana.stream(WORDS, session="s1", every=0.05)
            with pytest.raises(StoreError), buffer:
                passed.extend(buffer)
            assert passed == WORDS
            assert buffer.receipt is None
            error = ConnectionError("lost")
            second = ana.stream(broken(error), session="s2", every=0.05)
            with pytest.raises(ConnectionError) as caught, second:
                list(second)
            assert caught.value is error
            [note] = error.__notes__
            assert "is not kept yet" in note
        until(lambda: said(ana, "s1") and said(ana, "s2"))
        assert [only(ana, s).state for s in ("s1", "s2")] == ["complete", "interrupted"]
        until(lambda: buffer.receipt is not None)


def broken(error: BaseException) -> Iterator[str]:
    yield from WORDS
    raise error


def test_a_store_that_cannot_be_written_to_holds_no_token(
    ana: ScopedMemory, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana.remember("something")
    read_only = (*sqlite._PRAGMAS, "PRAGMA query_only=ON")
    with monkeypatch.context() as patched:
        patched.setattr(sqlite, "_PRAGMAS", read_only)
        memory._core.database.engine.dispose()
        buffer = ana.stream(WORDS, session="s1", every=0.05)
        passed: list[str] = []
        with pytest.raises(StoreReadOnly):
            passed.extend(buffer)
        assert passed == WORDS
    memory._core.database.engine.dispose()
    buffer.close()
    assert only(ana).content == "I moved to Lisbon."


def test_closing_again_commits_what_could_not_be(
    ana: ScopedMemory, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = memory._core.stream_rows
    finish = rows.finish

    def full(*_: Any) -> Any:
        raise StoreError("the disk is full")

    monkeypatch.setattr(rows, "finish", full)
    buffer = ana.stream(WORDS, session="s1")
    with pytest.raises(StoreError):
        list(buffer)
    with pytest.raises(StoreError):
        buffer.close()
    monkeypatch.setattr(rows, "finish", finish)
    buffer.close()
    assert (only(ana).content, only(ana).state) == ("I moved to Lisbon.", "complete")
    buffer.close()
    assert len(said(ana)) == 1


def test_no_thread_is_left_when_a_memory_is_closed(db: Path) -> None:
    before = threading.active_count()
    with open_memory(db) as memory:
        assert threading.active_count() == before
        list(memory.user("ana").stream(WORDS))
        assert threading.active_count() == before + 1
    assert threading.active_count() == before
