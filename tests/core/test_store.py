"""The store: its schema, whose files it opens, its embedder, and what the operator may see."""

from __future__ import annotations

import ast
import inspect
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import LargeBinary, String, Text, create_engine
from sqlalchemy import inspect as look_at

from mnemic.errors import (
    EmbedderMismatch,
    EmbedderUnavailable,
    InputError,
    StoreClosed,
    StoreError,
    StoreMoved,
    StoreTooNew,
    StoreUnreadable,
)
from mnemic.memory import Memory, ScopedMemory
from mnemic.settings import Settings
from mnemic.stores import database, known, ledger, outbox, schema
from mnemic.writing import mend
from tests.fakes import FailingEmbedder, FakeEmbedder, environment, open_memory


def texts(handle: ScopedMemory) -> list[str]:
    return [record.text for record in handle.iter_memories()]


def open_new(path: Path) -> Memory:
    """Open a file by migrating it, not by copying one."""
    return Memory(path, embedder=FakeEmbedder(), settings=Settings())


# --- the schema -----------------------------------------------------------------------------------


def test_the_migrations_make_what_the_schema_says(tmp_path: Path) -> None:
    open_new(tmp_path / "new.db").close()
    engine = create_engine(f"sqlite:///{tmp_path / 'new.db'}")
    try:
        with engine.connect() as connection:
            context = MigrationContext.configure(
                connection, opts={"compare_type": True, "compare_server_default": True}
            )
            assert compare_metadata(context, schema.metadata) == []
            made = look_at(connection)
            # What Alembic doesn't compare on SQLite.
            for table in schema.metadata.tables.values():
                key = made.get_pk_constraint(table.name)["constrained_columns"]
                assert key == [column.name for column in table.primary_key]
                columns = {column["name"]: column for column in made.get_columns(table.name)}
                assert list(columns) == [column.name for column in table.columns]
                for column in table.columns:
                    assert columns[column.name]["nullable"] == bool(column.nullable)
    finally:
        engine.dispose()


def test_head_is_the_newest_migration() -> None:
    folder = Path(database.__file__).parent / "migrations" / "versions"
    revisions: list[str] = []
    for path in sorted(folder.glob("[0-9]*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        named = {
            target.id: ast.literal_eval(node.value)
            for node in tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        assert path.name.startswith(named["revision"])
        assert named["down_revision"] == (revisions[-1] if revisions else None)
        revisions.append(named["revision"])
    assert revisions[-1] == database.HEAD


@pytest.mark.parametrize("table", [t for t in schema.metadata.sorted_tables if t.name != "meta"])
def test_every_key_begins_with_the_scope(table: Any) -> None:
    assert next(iter(table.primary_key)).name == "scope"
    for index in table.indexes:
        assert next(iter(index.columns)).name == "scope"


def test_each_connection_is_set_up(memory: Memory) -> None:
    engine = memory._core.database.engine
    held = [engine.connect() for _ in range(3)]
    try:
        for connection in held:
            for pragma, value in (
                ("journal_mode", "wal"),
                ("synchronous", 2),
                ("secure_delete", 1),
                ("fullfsync", 1),
                ("busy_timeout", 10_000),
                ("temp_store", 2),
            ):
                assert connection.exec_driver_sql(f"PRAGMA {pragma}").scalar() == value, pragma
    finally:
        for connection in held:
            connection.close()


def test_a_durable_write_is_synced_whatever_came_before(memory: Memory) -> None:
    held = memory._core.database
    for durable in (True, False, True):
        with held.write(durable=durable) as connection:
            level = connection.exec_driver_sql("PRAGMA synchronous").scalar()
            assert level == (2 if durable else 1)


# --- which files it opens -------------------------------------------------------------------------


def test_a_file_of_a_newer_version_is_refused_and_left_alone(db: Path, ana: ScopedMemory) -> None:
    ana.remember("I like tea")
    with closing(sqlite3.connect(db)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()
    with pytest.raises(StoreTooNew, match="9999"):
        open_memory(db)
    with closing(sqlite3.connect(db)) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [
            ("9999",)
        ]


def test_another_programs_database_is_refused_and_left_alone(db: Path) -> None:
    with closing(sqlite3.connect(db)) as connection:
        connection.execute("CREATE TABLE messages (content TEXT)")
        connection.execute("INSERT INTO messages VALUES ('theirs')")
        connection.commit()
    before = db.read_bytes()
    with pytest.raises(StoreUnreadable, match="another program"):
        open_memory(db)
    with closing(sqlite3.connect(db)) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master").fetchall()
        mark = connection.execute("PRAGMA application_id").fetchone()
        mode = connection.execute("PRAGMA journal_mode").fetchone()
    assert (tables, mark) == ([("messages",)], (0,))
    assert mode == ("delete",)
    assert db.read_bytes() == before


@pytest.mark.parametrize(
    "content", [b"no database at all " * 500, b"SQLite format 3\0" + b"x" * 9000]
)
def test_garbage_is_refused_and_left_alone(db: Path, content: bytes) -> None:
    db.write_bytes(content)
    with pytest.raises(StoreUnreadable, match=r"memory\.db"):
        open_memory(db)
    assert db.read_bytes() == content


def test_an_empty_file_becomes_a_store(db: Path) -> None:
    db.touch()
    with open_new(db) as memory:
        memory.user("ana").remember("I like tea")
    with closing(sqlite3.connect(db)) as connection:
        assert connection.execute("PRAGMA application_id").fetchone() == (0x4D4E454D,)


def test_a_folder_is_made_and_a_folder_is_no_file(tmp_path: Path) -> None:
    with open_new(tmp_path / "a" / "b" / "new.db") as memory:
        assert memory.operator.stats().messages == 0
    with pytest.raises(InputError, match="is a folder"):
        open_new(tmp_path / "a")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(InputError, match="no ordinary file"):
            open_new(tmp_path / "pipe")
    with pytest.raises(StoreError, match="can't be opened"):
        open_new(tmp_path / "a" / "b" / "new.db" / "c.db")


@pytest.mark.parametrize("target", [":memory:", "postgresql://localhost/life", "sqlite://", "/"])
def test_what_names_no_file_is_refused(target: str) -> None:
    with pytest.raises(InputError):
        Memory(target, embedder=FakeEmbedder(), settings=Settings())


def test_a_url_and_a_path_name_the_same_file(db: Path, ana: ScopedMemory) -> None:
    ana.remember("I like tea")
    for target in (str(db), f"sqlite:///{db}", f"sqlite+pysqlite:///{db}"):
        with Memory(target, embedder=FakeEmbedder(), settings=Settings()) as other:
            assert texts(other.user("ana")) == ["I like tea"]


def test_a_closed_memory_says_so(db: Path) -> None:
    memory = open_memory(db)
    ana = memory.user("ana")
    ana.remember("I like tea")
    memory.close()
    memory.close()
    for use in (
        lambda: ana.remember("more"),
        lambda: ana.recall("tea"),
        lambda: list(ana.iter_memories()),
        lambda: ana.forget_everything(),
        lambda: memory.operator.stats(),
        lambda: memory.operator.upkeep(),
    ):
        with pytest.raises(StoreClosed):
            use()


OPEN = """
import sys
from pathlib import Path
from mnemic.memory import Memory
from mnemic.settings import Settings
from tests.fakes import FakeEmbedder
name = sys.argv[1]
for line in sys.stdin:
    with Memory(Path(line.strip()), embedder=FakeEmbedder(), settings=Settings()) as memory:
        receipt = memory.user(name).remember(f"{name} was here")
        print(receipt.state, memory.operator.stats().schema, flush=True)
"""


def test_two_processes_open_a_new_file_at_once(tmp_path: Path) -> None:
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    both: list[Any] = [
        subprocess.Popen([sys.executable, "-c", OPEN, name], **pipes, env=environment())
        for name in ("ana", "ben")
    ]
    try:
        for number in range(10):
            path = tmp_path / f"new{number}.db"
            for process in both:
                process.stdin.write(f"{path}\n")
                process.stdin.flush()
            said = [process.stdout.readline().strip() for process in both]
            assert said == [f"indexed {database.HEAD}"] * 2
            with open_memory(path) as memory:
                assert texts(memory.user("ana")) == ["ana was here"]
                assert texts(memory.user("ben")) == ["ben was here"]
    finally:
        for process in both:
            process.stdin.close()
            assert process.wait(timeout=30) == 0
            process.stdout.close()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows moves no file that is open")
def test_nothing_is_acknowledged_in_a_file_that_went_away(db: Path, ana: ScopedMemory) -> None:
    ana.remember("one")
    away = db.with_name("away.db")
    for replaced in (False, True):
        db.rename(away)
        if replaced:
            shutil.copy(away, db)
        for use in (lambda: ana.remember("two"), lambda: ana.recall("one"), lambda: texts(ana)):
            with pytest.raises(StoreMoved, match="moved"):
                use()
        db.unlink(missing_ok=True)
        away.rename(db)  # put back, all goes on
        assert texts(ana) == ["one"]
    ana.remember("three")
    assert texts(ana) == ["one", "three"]


def test_a_new_file_that_another_is_writing_is_waited_for(db: Path) -> None:
    sqlite3.connect(db).close()
    with closing(sqlite3.connect(db, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        timer = threading.Timer(0.3, other.rollback)
        timer.start()
        # Before it changes the journal's kind, SQLite itself doesn't wait for a writer.
        with open_new(db) as memory:
            assert memory.user("ana").remember("I like tea").state == "indexed"
        timer.join()


# --- embedders ------------------------------------------------------------------------------------


@pytest.mark.parametrize("other", [FakeEmbedder("other"), FakeEmbedder("fake", 16)])
def test_another_embedder_is_refused_and_changes_nothing(
    db: Path, memory: Memory, ana: ScopedMemory, other: FakeEmbedder
) -> None:
    ana.remember("I like tea")
    before = memory.operator.stats().scopes
    with open_memory(db, other) as second:
        with pytest.raises(EmbedderMismatch, match="fake"):
            second.user("ana").remember("I like milk")
        with pytest.raises(EmbedderMismatch, match="reembed"):
            second.user("ana").recall("What do I like?")
        assert texts(second.user("ana")) == ["I like tea"]
        assert [f.ok for f in second.operator.check() if f.check == "embedder"] == [False]
        assert other.calls == 0
    assert memory.operator.stats().scopes == before


def test_any_embedder_may_forget(db: Path, ana: ScopedMemory) -> None:
    [id] = ana.remember("My PIN is 4711").memory_ids
    with open_memory(db, FakeEmbedder("other")) as second:
        assert second.user("ana").forget(id).state == "clean"
    assert texts(ana) == []


@pytest.fixture
def filled(memory: Memory) -> Memory:
    for name in ("ana", "ben"):
        memory.user(name).remember([f"{name} bought thing number {n}" for n in range(25)])
    return memory


def vectors(memory: Memory) -> dict[int, int]:
    with memory._core.database.read() as connection:
        found = connection.exec_driver_sql("SELECT embedder, count(*) FROM vectors GROUP BY 1")
        return {int(number): int(count) for number, count in found}


def test_reembed_moves_a_store_to_another_embedder(db: Path, filled: Memory) -> None:
    made: list[int] = []
    with open_memory(db, FakeEmbedder("other", 16)) as second:
        assert second.operator.reembed(made.append) == 50
        assert made == [25, 50]
        found = second.user("ben").recall("What is thing number 7?", limit=50, min_relevance=0)
        assert found[0].memory.text == "ben bought thing number 7"
        assert len(found) == 50 / 2
        assert second.user("ben").remember("ben sold it").state == "indexed"
        assert second.operator.stats().embedder == "other"
        assert all(finding.ok for finding in second.operator.check())
        assert vectors(second) == {2: 51}
        assert second.operator.reembed() == 0
    with open_memory(db) as third, pytest.raises(EmbedderMismatch):
        third.user("ana").recall("What is thing number 7?")


def test_a_memory_left_open_while_the_store_moves_is_refused(db: Path, filled: Memory) -> None:
    assert len(filled.user("ana").recall("thing")) > 0
    with open_memory(db, FakeEmbedder("other", 16)) as second:
        second.operator.reembed()
        before = second.operator.stats().scopes
        with pytest.raises(EmbedderMismatch):
            filled.user("ana").recall("thing")
        with pytest.raises(EmbedderMismatch):
            filled.user("ana").remember("one more thing")
        assert second.operator.stats().scopes == before


def test_an_interrupted_reembed_goes_on_where_it_was(
    db: Path, filled: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mend, "EMBED_BATCH", 10)
    monkeypatch.setattr("mnemic.writing.remember.EMBED_BATCH", 10)
    embedder = FailingEmbedder("other", 16, after=3)
    with open_memory(db, embedder) as second:
        with pytest.raises(EmbedderUnavailable):
            second.operator.reembed()
        assert vectors(second) == {1: 50, 2: 25}
        with pytest.raises(EmbedderMismatch):
            second.user("ana").recall("thing")
        # Until it is done, the old vectors answer, and are written.
        assert filled.user("ana").remember("ana came late").state == "indexed"
        found = filled.user("ana").recall("Who came late?")
        assert found[0].memory.text == "ana came late"
        ids = [record.id for record in filled.user("ana").iter_memories()]
        filled.user("ana").forget(ids[0])
    embedder.after = None
    with open_memory(db, embedder) as second:
        assert second.operator.reembed() == 26
        assert vectors(second) == {2: 50}
        assert second.user("ana").recall("Who came late?")[0].memory.text == "ana came late"


def test_a_move_to_a_third_embedder_drops_what_the_second_had(
    db: Path, filled: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mend, "EMBED_BATCH", 10)
    with open_memory(db, FailingEmbedder("second", 16, after=2)) as second:
        with pytest.raises(EmbedderUnavailable):
            second.operator.reembed()
        with open_memory(db, FakeEmbedder("third", 8)) as third:
            assert third.operator.reembed() == 50
            assert vectors(third) == {3: 50}
            assert len(third.user("ana").recall("thing", limit=50)) == 25
        with pytest.raises(EmbedderMismatch):
            second.user("ana").recall("thing")


def test_reembed_of_a_new_store_takes_the_embedder_on(memory: Memory, db: Path) -> None:
    assert memory.operator.reembed() == 0
    assert memory.operator.stats().embedder == "fake"
    with open_memory(db, FakeEmbedder("other")) as second, pytest.raises(EmbedderMismatch):
        second.user("ana").remember("I like tea")


# --- what the operator sees -----------------------------------------------------------------------

# Columns that hold what people said, or what they called it.
TEXTUAL = {"content", "text", "extra", "metadata", "tags"}


def named_columns(tree: ast.AST) -> Iterator[str]:
    """Every attribute and every string: `schema.messages.c.content`, `row["content"]`, raw SQL."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from node.value.replace('"', " ").replace(",", " ").split()


def without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body[0] = ast.Pass()
    return tree


@pytest.mark.parametrize("module", [ledger, known, outbox])
def test_the_operators_view_names_no_column_that_holds_text(module: Any) -> None:
    tree = without_docstrings(ast.parse(inspect.getsource(module)))
    assert TEXTUAL.isdisjoint(named_columns(tree))
    # A whole table in a select would bring its text along.
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "select":
            tables = {ast.unparse(argument).split(".")[-1] for argument in node.args}
            watched = {"messages", "records", "sessions", "changes", "summaries", "procedures"}
            assert tables.isdisjoint(watched)


def test_the_text_columns_are_the_ones_that_are_watched() -> None:
    assert {c.name for t in (schema.messages, schema.records) for c in t.columns} > TEXTUAL
    textual = {
        column.name
        for table in (schema.messages, schema.records)
        for column in table.columns
        if isinstance(column.type, Text) or type(column.type) is String
    }
    others = {"session", "message_id", "role", "name", "kind", "source", "speaker", "status"}
    others |= {"state"}
    assert textual == TEXTUAL | others
    binary = {c.name for c in schema.records.columns if isinstance(c.type, LargeBinary)}
    assert binary == {"scope", "id", "fingerprint"}


def test_the_operator_is_told_ids_and_counts_alone(
    memory: Memory, ana: ScopedMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana.remember({"content": "My PIN is 4711", "tags": ["secret-tag"], "name": "Anastasia"})
    ana.remember("I like tea", session="secret-session")
    memory.tenant("acme").agent("helper").remember("one")
    operator = memory.operator
    stats = operator.stats()
    assert (stats.messages, stats.memories, stats.embedder) == (3, 3, "fake")
    assert stats.schema == database.HEAD
    assert stats.bytes_on_disk > 50_000
    assert [str(scope) for scope in operator.scopes()] == ["acme/agent:helper", "user:ana"]
    seen = repr([stats, operator.scopes(), operator.check(), operator.upkeep()])
    for text in ("4711", "secret-tag", "Anastasia", "tea", "secret-session"):
        assert text not in seen


def test_damage_is_found(db: Path) -> None:
    with open_memory(db) as memory:
        memory.user("ana").remember([f"thing number {n} of many" for n in range(200)])
        assert all(finding.ok for finding in memory.operator.check())
    content = bytearray(db.read_bytes())
    for page in range(20, len(content) // 4096, 5):
        content[page * 4096 : page * 4096 + 200] = b"\xff" * 200
    db.write_bytes(content)
    with open_memory(db) as memory:
        checked = {finding.check: finding for finding in memory.operator.check()}
    assert not checked["files"].ok


def test_jobs_that_wait_are_counted_and_due_ones_found(db: Path) -> None:
    embedder = FailingEmbedder()
    with open_memory(db, embedder) as memory:
        embedder.failing = True
        memory.user("ana").remember("I like tea")
        held = memory._core.outbox
        assert memory.operator.stats().jobs == {"embed": 1}
        assert held.due("embed", 10) == []
        assert dict(held.counts()) == {("embed", "under way"): 1}
        checked = {finding.check: finding.ok for finding in memory.operator.check()}
        assert checked == {
            "files": True,
            "embedder": False,
            "vectors": False,
            "terms": True,
            "jobs": True,
        }
