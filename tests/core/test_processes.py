"""Forks, signals, handles that nobody closed, and more threads than there are connections."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from mnemic.errors import StoreBusy, StoreClosed
from mnemic.memory import Memory, ScopedMemory
from mnemic.stores import database
from mnemic.writing.passages import make_passage
from tests.fakes import FakeEmbedder, environment, open_memory

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system can't fork")
needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no /proc to look into")


def texts(handle: ScopedMemory) -> set[str]:
    return {record.text for record in handle.iter_memories()}


def in_child(do: Callable[[], None]) -> int:
    """Fork, do something in the child, and return its exit code."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            do()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    for _ in range(600):
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return -1


def open_files(path: Path) -> list[str]:
    """The descriptors of this process that lead to a database's files."""
    found = []
    for fd in Path("/proc/self/fd").iterdir():
        try:
            target = os.readlink(fd)
        except OSError:
            continue
        if target.startswith(str(path)):
            found.append(target)
    return found


# --- forks -----------------------------------------------------------------------------------------

FORKS = """
import os, sys, threading, time, warnings
from tests.core.test_processes import in_child, open_files, texts
from tests.fakes import FakeEmbedder
from mnemic.memory import Memory
from pathlib import Path

warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of forking with threads
path, rounds = Path(sys.argv[1]), int(sys.argv[2])
memory = Memory(path, embedder=FakeEmbedder())
ana = memory.user("ana")
ana.remember("said before the fork")
stop, written = threading.Event(), []

def write(name):
    number = 0
    while not stop.is_set():
        number += 1
        text = f"thread {name} said {number}"
        ana.remember(text)
        written.append(text)
        ana.recall("what was said?", limit=3)
        if number % 5 == 0:
            ana.forget(ana.remember(f"to be forgotten {name} {number}").memory_ids[0])

threads = [threading.Thread(target=write, args=(n,)) for n in range(3)]
for thread in threads:
    thread.start()

def child(number):
    def do():
        before = list(written)
        assert set(before) <= texts(ana), "the child misses what was acknowledged before"
        said = [f"child {number} said {n}" for n in range(3)]
        ids = [ana.remember(text).memory_ids[0] for text in said]
        assert set(said) <= {hit.memory.text for hit in ana.recall("said", limit=10_000, min_relevance=0)}
        assert ana.forget(ids[0]).memories == 1
        assert said[0] not in {hit.memory.text for hit in ana.recall("said", limit=10_000, min_relevance=0)}
        memory.close()
    return do

codes = []
for number in range(rounds):
    time.sleep(0.02)
    codes.append(in_child(child(number)))
stop.set()
for thread in threads:
    thread.join()
assert codes == [0] * rounds, codes
there = texts(ana)
assert set(written) <= there, "something acknowledged is missing"
children = {f"child {number} said {n}" for number in range(rounds) for n in (1, 2)}
assert children <= there and not {f"child {n} said 0" for n in range(rounds)} & there
found = {hit.memory.text for hit in ana.recall("child said", limit=10_000, min_relevance=0)}
assert children <= found, "the parent's cache misses what children said"
assert not [f for f in memory.operator.check() if not f.ok]
memory.close()
assert not Path("/proc/self/fd").exists() or not open_files(path)
print("fine", len(written))
"""


@needs_fork
def test_forks_amid_busy_threads_lose_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKS, str(tmp_path / "memory.db"), "12"],
        capture_output=True,
        text=True,
        timeout=240,
        env=environment(),
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("fine")


@needs_fork
@needs_proc
def test_no_connection_crosses_a_fork(db: Path, memory: Memory, ana: ScopedMemory) -> None:
    [id] = ana.remember("one").memory_ids
    ana.forget(id)  # looks into the file by a descriptor of its own
    assert open_files(db)

    def look() -> None:
        # In the child: its own, or none.
        assert len(open_files(db)) == 0
        ana.remember("two")
        assert texts(ana) == {"two"}

    assert in_child(look) == 0
    assert texts(ana) == {"two"}


@needs_fork
def test_a_call_that_goes_on_through_a_fork_makes_the_childs_memory_unusable(
    memory: Memory, ana: ScopedMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "PATIENCE", 0.05)
    ana.remember("one")

    def refused() -> None:
        with pytest.raises(StoreClosed, match="open it again"):
            ana.recall("one")
        with open_memory(Path(memory._core.database.backend.url.removeprefix("sqlite:///"))):
            pass

    with memory._core.database.read() as connection:
        connection.exec_driver_sql("SELECT 1")
        assert in_child(refused) == 0
    ana.remember("two")
    assert texts(ana) == {"one", "two"}


@contextmanager
def busy(memory: Memory) -> Iterator[threading.Event]:
    """A thread that is in the middle of a call until the event, or the end of the block."""
    inside, go_on = threading.Event(), threading.Event()

    def read() -> None:
        with memory._core.database.read() as connection:
            connection.exec_driver_sql("SELECT count(*) FROM messages").all()
            inside.set()
            go_on.wait(30)

    thread = threading.Thread(target=read)
    thread.start()
    try:
        assert inside.wait(30)
        yield go_on
    finally:
        go_on.set()
        thread.join()


@contextmanager
def interrupted_after(seconds: float) -> Iterator[None]:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@needs_fork
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_before_a_fork_makes_the_childs_memory_unusable(
    memory: Memory, ana: ScopedMemory
) -> None:
    ana.remember("one")

    def refused() -> None:
        with pytest.raises(StoreClosed):
            ana.recall("one")

    # Python prints the interrupt, and forks all the same.
    with busy(memory) as go_on, interrupted_after(0.2):
        assert in_child(refused) == 0
        go_on.set()
    ana.remember("two")
    assert texts(ana) == {"one", "two"}


@needs_fork
@needs_proc
def test_threads_that_fork_at_once(db: Path, memory: Memory, ana: ScopedMemory) -> None:
    ana.remember("one")
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            ana.recall("one")

    def fork_on() -> list[int]:
        return [in_child(look) for _ in range(25)]

    def look() -> None:
        assert memory._core.database._engine is None or not open_files(db)

    with ThreadPoolExecutor(5) as pool:
        asking = [pool.submit(ask) for _ in range(2)]
        forking = [pool.submit(fork_on) for _ in range(3)]
        codes = [code for each in forking for code in each.result()]
        done.set()
        for each in asking:
            each.result()
    assert set(codes) == {0}
    assert texts(ana) == {"one"}


@needs_fork
@needs_proc
def test_a_store_that_is_opened_during_a_fork(
    db: Path, tmp_path: Path, memory: Memory, ana: ScopedMemory
) -> None:
    ana.remember("one")
    opened: list[Memory] = []

    def look() -> None:
        assert not opened or not open_files(tmp_path / "other.db")

    # The fork waits for the call; the other store waits for the fork.
    with busy(memory) as go_on:
        thread = threading.Timer(0.1, lambda: opened.append(open_memory(tmp_path / "other.db")))
        thread.start()
        threading.Timer(0.4, go_on.set).start()
        assert in_child(look) == 0
        thread.join()
    with opened.pop() as other:
        other.user("ben").remember("two")


def remember_in_pool(job: tuple[str, int]) -> str:
    path, number = job
    with Memory(path, embedder=FakeEmbedder()) as memory:
        memory.user("ana").remember(f"number {number}")
        return memory.user("ana").recall(f"number {number}")[0].memory.text


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_a_pool_of_processes_of_any_kind(db: Path, ana: ScopedMemory, method: str) -> None:
    ana.remember("said before")
    with multiprocessing.get_context(method).Pool(2) as pool:
        answers = pool.map(remember_in_pool, [(str(db), number) for number in range(6)])
        pool.close()
        pool.join()
    assert answers == [f"number {number}" for number in range(6)]
    assert texts(ana) == {"said before", *answers}


# --- handles that nobody closed --------------------------------------------------------------------


@needs_proc
def test_handles_that_nobody_closed_are_given_back(db: Path) -> None:
    open_memory(db).close()
    threads = threading.active_count()
    for number in range(50):
        ana = open_memory(db).user("ana")
        ana.remember(f"thing {number}")  # the handle alone keeps the memory open
        assert len(ana.recall("thing", limit=100, min_relevance=0)) == number + 1
        del ana
    gc.collect()
    assert open_files(db) == []
    assert threading.active_count() == threads


def test_a_process_that_ends_without_closing_leaves_a_tidy_file(tmp_path: Path) -> None:
    db = tmp_path / "memory.db"
    code = "import sys; from mnemic import Memory; Memory(sys.argv[1]).user('ana').remember('I like tea')"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(db)],
        capture_output=True,
        text=True,
        env=environment(),
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["memory.db"]


def test_closing_waits_for_the_calls_under_way(db: Path) -> None:
    memory = open_memory(db)
    ana = memory.user("ana")
    inside, go_on = threading.Event(), threading.Event()

    def slow(_connection: object) -> list[bytes]:
        inside.set()
        assert go_on.wait(30)
        return []

    with ThreadPoolExecutor(2) as pool:
        call = pool.submit(memory._core.store.erase, ana.scope, slow, make_passage)
        assert inside.wait(30)
        closing = pool.submit(memory.close)
        assert not closing.done()
        go_on.set()
        call.result(30)
        closing.result(30)
    with pytest.raises(StoreClosed):
        ana.recall("anything")


def test_closing_that_grows_impatient_leaves_the_call_its_locks(
    db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "PATIENCE", 0.05)
    memory = open_memory(db)
    ana = memory.user("ana")
    [id] = ana.remember("something to be forgotten").memory_ids
    ana.forget(id)  # looks into the file by a descriptor of its own
    inside, go_on = threading.Event(), threading.Event()

    def slow(_connection: object) -> list[bytes]:
        inside.set()
        assert go_on.wait(30)
        return []

    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(memory._core.store.erase, ana.scope, slow, make_passage)
        assert inside.wait(30)
        memory.close()
        look = (
            f"import sqlite3; sqlite3.connect({str(db)!r}).execute('SELECT * FROM meta').fetchall()"
        )
        subprocess.run([sys.executable, "-c", look], check=True)
        # Had the locks been lost, the other process would have taken itself for the last one.
        assert Path(f"{db}-wal").exists()
        go_on.set()
        call.result(30)
    with pytest.raises(StoreClosed):
        ana.recall("anything")


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timer that signals")
def test_closing_that_is_interrupted_can_be_done_again(db: Path) -> None:
    memory = open_memory(db)
    ana = memory.user("ana")
    ana.remember("one")
    with busy(memory), pytest.raises(KeyboardInterrupt), interrupted_after(0.2):
        memory._core.database.close()
    assert [hit.memory.text for hit in ana.recall("one")] == ["one"]
    memory.close()
    with pytest.raises(StoreClosed):
        ana.recall("one")


# --- signals -----------------------------------------------------------------------------------------

SIGNALLED = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # as nohup, or a shell's &, may not have left it
signal.signal(signal.SIGHUP, signal.SIG_DFL)
from mnemic.memory import Memory
from tests.fakes import FakeEmbedder
with Memory(sys.argv[1], embedder=FakeEmbedder()) as memory:
    ana = memory.user("ana")
    print("ready", flush=True)
    for number in range(100_000):
        receipt = ana.remember([f"message {number} part {part}" for part in range(3)])
        print(number, flush=True)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_a_signal_in_the_middle_loses_nothing(tmp_path: Path, name: str) -> None:
    db = tmp_path / "memory.db"
    process = subprocess.Popen(
        [sys.executable, "-c", SIGNALLED, str(db)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment(),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    acknowledged = [int(process.stdout.readline()) for _ in range(20)]
    process.send_signal(getattr(signal, name))
    rest = process.communicate(timeout=60)[0].split()
    acknowledged += [int(line) for line in rest]
    with Memory(db, embedder=FakeEmbedder()) as memory:
        there = texts(memory.user("ana"))
        whole = len(there) // 3
        assert len(there) == 3 * whole  # a list is there in full or not at all
        assert whole - len(acknowledged) in (0, 1)
        assert there == {f"message {n} part {p}" for n in range(whole) for p in range(3)}
        memory.operator.repair()
        assert all(finding.ok for finding in memory.operator.check())


# An interrupt that falls into a finaliser is printed rather than raised; Python can't do otherwise.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timer that signals")
def test_an_interrupt_anywhere_leaves_all_or_nothing_and_a_usable_memory(
    memory: Memory, ana: ScopedMemory
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    acknowledged, interrupted = set[int](), 0
    try:
        for number in range(60):
            said = [f"message {number} part {part}" for part in range(3)]
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0002 + 0.0001 * (number % 50))
                ana.remember(said)
                ana.recall("message part", limit=5)
                acknowledged.add(number)
                signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                interrupted += 1
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert interrupted
    there = texts(ana)
    numbers = {int(text.split()[1]) for text in there}
    assert acknowledged <= numbers
    assert there == {f"message {n} part {p}" for n in numbers for p in range(3)}
    assert ana.recall("message part", limit=500).error is None
    memory.operator.repair()
    assert all(finding.ok for finding in memory.operator.check())


def test_an_interrupted_write_leaves_the_writes_of_other_threads_alone(
    memory: Memory, ana: ScopedMemory
) -> None:
    base = memory._core.database
    inside, go_on = threading.Event(), threading.Event()
    with pytest.raises(KeyboardInterrupt), base.write():
        raise KeyboardInterrupt

    def write() -> None:
        with base.write() as connection:  # over the same connection
            connection.exec_driver_sql("INSERT INTO meta VALUES ('one', '1')")
            inside.set()
            assert go_on.wait(30)
            connection.exec_driver_sql("INSERT INTO meta VALUES ('two', '2')")

    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(write)
        assert inside.wait(30)
        threading.Timer(0.2, go_on.set).start()
        ana.remember("one")
        call.result(30)
    with base.read() as connection:
        found = connection.exec_driver_sql("SELECT key FROM meta WHERE key IN ('one', 'two')")
        assert len(found.all()) == 2


# --- threads -----------------------------------------------------------------------------------------


def test_more_threads_than_connections(memory: Memory) -> None:
    def use(number: int) -> str:
        handle = memory.user(f"user {number % 7}")
        handle.remember(f"number {number}")
        return handle.recall(f"number {number}", limit=100)[0].memory.text

    with ThreadPoolExecutor(64) as pool:
        answers = list(pool.map(use, range(300)))
    assert answers == [f"number {number}" for number in range(300)]


def test_no_connection_left_is_an_error_of_ours(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnemic.stores.sqlite.BUSY_TIMEOUT_MS", 100)
    with open_memory(db) as memory:
        ana = memory.user("ana")
        ana.remember("one")
        held = [memory._core.database.read() for _ in range(32)]
        for each in held:
            each.__enter__()
        try:
            with pytest.raises(StoreBusy, match="threads"):
                ana.recall("one")
        finally:
            for each in held:
                each.__exit__(None, None, None)
        assert ana.recall("one")
