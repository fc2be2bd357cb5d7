"""Copies of a store taken while others write, and put in place while others read."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from mnemic.errors import (
    InputError,
    MnemicError,
    StoreBusy,
    StoreError,
    StoreFull,
    StoreTooNew,
    StoreUnreadable,
)
from mnemic.memory import Memory, ScopedMemory
from mnemic.records import Restored
from mnemic.stores import sqlite
from mnemic.stores.database import HEAD
from mnemic.transfer.exporting import export_lines
from tests.fakes import FakeEmbedder, environment, open_memory

SECRET = "My PIN is 4711, and my password is swordfish"


@pytest.fixture
def filled(memory: Memory, ana: ScopedMemory) -> Memory:
    ana.remember([f"thing number {n}" for n in range(50)], session="s1")
    memory.user("ben").remember("Ben likes tea")
    return memory


@pytest.fixture
def backup(filled: Memory, tmp_path: Path) -> Path:
    return Path(filled.operator.backup(tmp_path / "copies" / "monday.db").path)


def content(memory: Memory) -> list[str]:
    return [
        line for scope in memory.operator.scopes() for line in export_lines(memory.user(scope.name))
    ]


def test_a_backup_is_a_store_of_its_own(filled: Memory, backup: Path) -> None:
    assert os.listdir(backup.parent) == ["monday.db"]
    with closing(sqlite3.connect(backup)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("PRAGMA application_id").fetchone() == (sqlite.APPLICATION_ID,)
    with open_memory(backup) as copy:
        assert content(copy) == content(filled)
        assert copy.user("ana").recall("thing number 7", limit=100).error is None
        assert copy.operator.check()[0].ok
        copy.user("ana").remember("only in the copy")
    assert "only in the copy" not in str(content(filled))


def test_a_backup_has_the_size_and_the_permissions_it_says(filled: Memory, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    done = filled.operator.backup(tmp_path / "b.db", lambda size, of: told.append((size, of)))
    assert done.bytes == (tmp_path / "b.db").stat().st_size
    assert told[-1] == (done.bytes, done.bytes)
    if os.name == "posix":
        store = Path(filled._core.database.backend.url.removeprefix("sqlite:///"))
        assert (tmp_path / "b.db").stat().st_mode == store.stat().st_mode


def test_a_backup_holds_no_byte_of_what_was_forgotten(
    filled: Memory, ana: ScopedMemory, tmp_path: Path
) -> None:
    ana.forget(ana.remember(SECRET).memory_ids[0])
    filled.operator.backup(tmp_path / "b.db")
    assert b"swordfish" not in (tmp_path / "b.db").read_bytes()


def test_a_backup_is_one_moment_while_others_write(filled: Memory, tmp_path: Path) -> None:
    stop, said = threading.Event(), list[int]()

    def write() -> None:
        while not stop.is_set():
            filled.user("cy").remember([f"{len(said)} first half", f"{len(said)} second half"])
            said.append(1)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(5):
            before = len(said)
            filled.operator.backup(tmp_path / f"{number}.db")
            with open_memory(tmp_path / f"{number}.db") as copy:
                there = [record.text for record in copy.user("cy").iter_memories()]
                assert len(there) % 2 == 0
                assert len(there) >= 2 * before
    finally:
        stop.set()
        writer.join()


def test_an_older_backup_is_replaced_only_if_that_is_said(filled: Memory, backup: Path) -> None:
    before = backup.read_bytes()
    filled.user("ben").remember("more")
    with pytest.raises(InputError, match="is there already"):
        filled.operator.backup(backup)
    assert backup.read_bytes() == before
    filled.operator.backup(backup, replace=True)
    with open_memory(backup) as copy:
        assert content(copy) == content(filled)


def other_program(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE theirs (x)")


TARGETS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a folder": (lambda path: path.mkdir(), "is a folder"),
    "a text file": (lambda path: path.write_text("notes"), "no copy of a store"),
    "another program's database": (other_program, "no copy of a store"),
}


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_but_a_backup_is_written_over(filled: Memory, tmp_path: Path, name: str) -> None:
    make, says = TARGETS[name]
    path = tmp_path / "there"
    make(path)
    before = None if path.is_dir() else path.read_bytes()
    with pytest.raises(InputError, match=says):
        filled.operator.backup(path, replace=True)
    assert (None if path.is_dir() else path.read_bytes()) == before


def test_a_store_is_not_copied_onto_itself(filled: Memory, db: Path) -> None:
    with pytest.raises(InputError, match="the store itself"):
        filled.operator.backup(db, replace=True)
    assert len(content(filled)) == 53


def test_a_backup_that_broke_off_leaves_nothing_under_its_name(
    filled: Memory, tmp_path: Path
) -> None:
    def parts() -> set[str]:
        return {path.name for path in tmp_path.glob("*.part*")}

    named = [f"b.db.part-{number}-{'0f' * 8}" for number in ("4194999", "9" * 30, os.getpid())]
    for name in (*named, f"{named[0]}-journal", f"{named[1]}.part-1-{'2d' * 8}"):
        (tmp_path / name).write_text("left by one that was killed")
        os.utime(tmp_path / name, (0, 0))
    theirs = {"b.db.part-notes", "b.db.part-4194999-1", "b.db.part-20240101"}
    for name in theirs:
        (tmp_path / name).write_text("somebody's own")
        os.utime(tmp_path / name, (0, 0))
    young = f"b.db.part-4194999-{'1e' * 8}"
    (tmp_path / young).write_text("perhaps being made, by a process that we can't see")
    filled.operator.backup(tmp_path / "b.db")
    assert parts() == {*theirs, young}


class Stopped(BaseException):
    """Not an `Exception`, like an interrupt."""


@pytest.mark.parametrize("error", [Stopped, KeyboardInterrupt, ValueError, OSError])
def test_what_a_progress_raises_ends_the_backup(
    filled: Memory, tmp_path: Path, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mnemic.stores.copies._STEPS", 10)

    def stop(size: int, of: int) -> None:
        raise error("enough")

    before = set(tmp_path.iterdir())
    with pytest.raises(StoreError if error is OSError else error, match="enough"):
        filled.operator.backup(tmp_path / "c.db", stop)
    assert set(tmp_path.iterdir()) == before


def test_a_damaged_store_is_not_blamed_on_its_backup(filled: Memory, tmp_path: Path) -> None:
    filled.close()
    db = tmp_path / "memory.db"
    with db.open("r+b") as file:
        file.seek(8 * 4096)
        file.write(os.urandom(4 * 4096))
    with open_memory(db) as memory, pytest.raises(StoreUnreadable, match=r"memory\.db is"):
        memory.operator.backup(tmp_path / "b.db")
    with pytest.raises(StoreUnreadable, match=r"memory\.db is"):
        Memory.restore(db, tmp_path / "new.db")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="nobody is refused anything")
def test_a_read_only_store_can_be_backed_up(filled: Memory, db: Path, tmp_path: Path) -> None:
    db.chmod(0o444)
    filled.operator.backup(tmp_path / "b.db")


@pytest.mark.parametrize("given", [5, "tell me"])
def test_what_cant_be_called_is_refused_before_the_work(
    filled: Memory, tmp_path: Path, given: Any
) -> None:
    with pytest.raises(InputError, match="progress must be a function"):
        filled.operator.backup(tmp_path / "b.db", given)
    for call in (filled.operator.reembed, filled.operator.repair):
        with pytest.raises(InputError, match="progress must be a function"):
            call(given)
    assert not (tmp_path / "b.db").exists()


def test_a_backup_may_be_named_by_a_url(filled: Memory, tmp_path: Path) -> None:
    made = filled.operator.backup(f"sqlite:///{tmp_path / 'b.db'}")
    assert made.path == str(tmp_path / "b.db")


def test_what_a_progress_returns_doesnt_matter(
    filled: Memory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mnemic.stores.copies._STEPS", 10)
    asked: list[int] = []

    def told(size: int, of: int) -> Any:
        asked.append(size)
        return True

    filled.operator.backup(tmp_path / "c.db", told)
    assert len(asked) > 1


KILLED = """
import os, signal, sys
from mnemic.memory import Memory
from tests.fakes import FakeEmbedder
memory = Memory(sys.argv[1], embedder=FakeEmbedder())
memory.user("ana").remember([f"said in the backup itself {n}" for n in range(30)])
os._exit(9)
"""


def test_the_log_of_an_older_file_is_never_taken_for_a_backups(
    filled: Memory, tmp_path: Path
) -> None:
    place = tmp_path / "b.db"
    filled.operator.backup(place)
    subprocess.run([sys.executable, "-c", KILLED, str(place)], env=environment(), check=False)
    assert Path(f"{place}-wal").exists()
    filled.user("ana").remember([f"said since {n}" for n in range(100)])
    filled.operator.backup(place, replace=True)
    with open_memory(place) as made:
        assert content(made) == content(filled)
        made.user("ben").remember("it is in use")
        with pytest.raises(InputError, match="open"):
            filled.operator.backup(place, replace=True)
    filled.operator.backup(place, replace=True)
    place.unlink()
    log = Path(f"{place}-wal")
    log.write_bytes(b"of a file that somebody removed")
    with pytest.raises(InputError, match="remove it"):
        filled.operator.backup(place)
    log.unlink()
    filled.operator.backup(place)


def test_many_back_up_to_one_place_and_restore_at_once(
    filled: Memory, db: Path, tmp_path: Path
) -> None:
    filled.operator.backup(tmp_path / "b.db")
    before = content(filled)

    def work(number: int) -> None:
        if number % 2:
            filled.operator.backup(tmp_path / "b.db", replace=True)
        else:
            Memory.restore(tmp_path / "b.db", db, replace=True)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(24)))
    assert content(filled) == before
    assert not [
        path.name for path in tmp_path.iterdir() if "-" in path.name.partition(".db")[2][5:]
    ]


def test_restore_to_a_new_place(filled: Memory, backup: Path, tmp_path: Path) -> None:
    place = tmp_path / "new" / "memory.db"
    assert Memory.restore(backup, place) == Restored(str(place), 51, 51)
    assert os.listdir(place.parent) == ["memory.db"]
    with open_memory(place) as restored:
        assert content(restored) == content(filled)
        restored.user("ana").remember("more")
    with open_memory(backup) as copy:  # the backup itself is as it was
        assert content(copy) == content(filled)


def test_a_store_that_is_there_is_replaced_only_if_that_is_said(
    filled: Memory, backup: Path, db: Path
) -> None:
    filled.user("ben").remember("more")
    before = content(filled)
    with pytest.raises(InputError, match="there is a store at"):
        Memory.restore(backup, db)
    assert content(filled) == before


def test_those_who_have_it_open_go_on_with_what_was_restored(
    filled: Memory, ana: ScopedMemory, backup: Path, db: Path
) -> None:
    before = content(filled)
    with open_memory(db) as other:
        ben = other.user("ben")
        assert len(ana.recall("thing", limit=100, min_relevance=0)) == 50
        # As many changes as bring the versions back to where they were: no cache may take them for those.
        ana.forget_session("s1")
        ben.remember("Ben likes milk")
        assert len(ben.recall("What does Ben like?")) == 2
        Memory.restore(backup, db, replace=True)
        assert {hit.memory.text for hit in ben.recall("What does Ben like?")} == {"Ben likes tea"}
        ben.remember("Ben likes beer")
        assert {hit.memory.text for hit in filled.user("ben").recall("Ben")} == {
            "Ben likes tea",
            "Ben likes beer",
        }
        assert len(ana.recall("thing", limit=100, min_relevance=0)) == 50
        ben.forget(ben.remember("Ben likes beer").memory_ids[0])
        assert content(filled) == before
        assert all(finding.ok for finding in other.operator.check())


def test_versions_that_look_alike_after_a_restore_are_not_taken_for_the_same(
    memory: Memory, db: Path, tmp_path: Path
) -> None:
    ana = memory.user("ana")
    ana.remember("one")
    memory.operator.backup(tmp_path / "b.db")
    ana.remember("two")
    assert {hit.memory.text for hit in ana.recall("one two")} == {"one", "two"}
    Memory.restore(tmp_path / "b.db", db, replace=True)
    with open_memory(db) as other:
        other.user("ana").remember("three")  # the version that "two" had
    assert {hit.memory.text for hit in ana.recall("one two three")} == {"one", "three"}


def test_a_damaged_store_stays_where_it_is_if_it_cant_be_replaced(
    backup: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "broken.db"
    place.write_bytes(b"this is no database" * 100)
    before = set(tmp_path.iterdir())

    def full(*_: object) -> None:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    monkeypatch.setattr("mnemic.upkeep.restoring.overwrite", full)
    with pytest.raises(StoreFull):
        Memory.restore(backup, place, replace=True)
    assert set(tmp_path.iterdir()) == before
    assert place.read_bytes() == b"this is no database" * 100


def test_a_damaged_store_is_set_aside(backup: Path, tmp_path: Path) -> None:
    place = tmp_path / "broken.db"
    place.write_bytes(b"this is no database at all" * 1000)
    done = Memory.restore(backup, place, replace=True)
    assert done.set_aside is not None
    assert Path(done.set_aside).read_bytes().startswith(b"this is no database")
    with open_memory(place) as restored:
        assert restored.operator.stats().memories == 51


def test_a_store_with_damaged_pages_is_restored(filled: Memory, backup: Path, db: Path) -> None:
    before = content(filled)
    filled.close()
    raw = bytearray(db.read_bytes())
    for page in range(3, len(raw) // 4096):
        raw[page * 4096 : page * 4096 + 100] = b"\xff" * 100
    db.write_bytes(raw)
    Memory.restore(backup, db, replace=True)
    with open_memory(db) as restored:
        assert content(restored) == before
        assert restored.operator.check()[0].ok


def replaced_by_others(path: Path) -> None:
    path.unlink()
    other_program(path)


def newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")


def damage(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    for page in range(4, len(raw) // 4096, 2):
        raw[page * 4096 : page * 4096 + 100] = b"\xff" * 100
    path.write_bytes(raw)


BACKUPS: dict[str, tuple[Callable[[Path], object], type[MnemicError]]] = {
    "missing": (lambda path: path.unlink(), InputError),
    "a text file": (lambda path: path.write_text("notes"), StoreUnreadable),
    "another program's": (replaced_by_others, StoreUnreadable),
    "newer": (newer, StoreTooNew),
    "damaged": (damage, StoreUnreadable),
    "cut off": (lambda path: os.truncate(path, path.stat().st_size // 2), StoreUnreadable),
}


@pytest.mark.parametrize("name", BACKUPS)
def test_a_backup_that_cant_be_used_changes_nothing(
    filled: Memory, backup: Path, db: Path, name: str
) -> None:
    make, error = BACKUPS[name]
    make(backup)
    before = content(filled)
    with pytest.raises(error):
        Memory.restore(backup, db, replace=True)
    assert content(filled) == before
    assert sorted(path.name for path in db.parent.iterdir() if "restoring" in path.name) == []
    filled.user("ana").remember("it works on")


def test_another_programs_database_is_never_replaced(backup: Path, tmp_path: Path) -> None:
    place = tmp_path / "theirs.db"
    other_program(place)
    before = place.read_bytes()
    with pytest.raises(StoreUnreadable, match="another program"):
        Memory.restore(backup, place, replace=True)
    assert place.read_bytes() == before


def test_a_store_that_stays_locked_is_not_waited_for_without_end(
    filled: Memory, backup: Path, db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mnemic.upkeep.restoring.BUSY_TIMEOUT_MS", 100)
    filled.user("ben").remember("more")
    before = content(filled)
    with closing(sqlite3.connect(db)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreBusy):
            Memory.restore(backup, db, replace=True)
    assert content(filled) == before


def test_a_backup_of_an_older_version_is_brought_up_to_date(
    backup: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What a newer version does with it: its migrations run on the copy, before it is put in place.
    ran: list[object] = []
    monkeypatch.setattr("mnemic.stores.database.HEAD", f"{HEAD}x")
    monkeypatch.setattr("mnemic.stores.database._upgrade", ran.append)
    Memory.restore(backup, tmp_path / "new.db")
    assert len(ran) == 1


def test_the_embedder_of_a_restored_store_is_its_own(backup: Path, tmp_path: Path) -> None:
    Memory.restore(backup, tmp_path / "new.db")
    with (
        Memory(tmp_path / "new.db", embedder=FakeEmbedder("other")) as memory,
        pytest.raises(MnemicError, match="reembed"),
    ):
        memory.user("ana").recall("thing")
