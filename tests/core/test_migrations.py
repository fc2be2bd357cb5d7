"""Stores that older versions made: they open, keep all they hold, and can do what is new since.

`data/schema-0001.db.gz` was written by the version before the layers: two sessions of `user:ana`, a
pin, an erased message, a shared space, with the vectors of a `FakeEmbedder`.
"""

from __future__ import annotations

import gzip
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from mnemic import ContextWindow, SummarizationMemory
from mnemic.errors import StoreError
from mnemic.stores.database import HEAD
from mnemic.transfer.exporting import export_lines
from tests.fakes import open_memory

OLD = Path(__file__).parent / "data" / "schema-0001.db.gz"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "old.db"
    path.write_bytes(gzip.decompress(OLD.read_bytes()))
    return path


def rows(path: Path, table: str, columns: str = "*") -> list[Any]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(f"SELECT {columns} FROM {table} ORDER BY rowid").fetchall()


def columns(path: Path, table: str) -> str:
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute(f"PRAGMA table_info({table})").fetchall()
    return ", ".join(f'"{row[1]}"' for row in found)


def test_a_store_of_the_first_schema_keeps_all_it_holds(old: Path) -> None:
    assert rows(old, "alembic_version") == [("0001",)]
    tables = ("messages", "records", "sessions", "scopes", "changes", "postings")
    known = {
        table: columns(old, table)
        for table in tables
        if (table,) in rows(old, "sqlite_master", "name")
    }
    assert len(known) >= 5
    before = {table: rows(old, table, names) for table, names in known.items()}
    with open_memory(old) as memory:
        ana = memory.user("ana")
        assert ana.recall("where did I move with my dog?")[0].memory.text.startswith("I moved")
        assert len(list(export_lines(ana))) == 7
        (pinned,) = [record for record in ana.iter_memories() if record.pinned]
        assert pinned.text == "I love hiking in Sintra."
        (note,) = memory.shared("team").iter_memories()
        assert note.text == "We meet on Mondays."
    assert rows(old, "alembic_version") == [(HEAD,)]
    after = {table: rows(old, table, names) for table, names in known.items()}
    assert after == before
    assert b"299817" not in old.read_bytes()


def test_the_layers_work_in_a_store_of_the_first_schema(old: Path, tokens_ready: None) -> None:
    with open_memory(old) as memory:
        ana = memory.user("ana")
        assert [session.name for session in ana.sessions()] == ["s2", "s1"]
        roles = [message["role"] for message in ContextWindow(ana, "s1").messages()]
        assert roles == ["system", "user", "assistant", "assistant", "tool"]
        window = ContextWindow(ana, "s1")
        assert len(window.messages()) == 5
        window.add("And when is the market?")
        assert window.messages()[-1]["content"] == "And when is the market?"
        summary = SummarizationMemory(ana, "s1", keep=1).roll()
        assert summary is not None
        assert summary.messages == 4
        ana.facts.remember("Ana lives in Lisbon.", message_ids=["m1"], session="s1")
        ana.procedures.remember("tone", "Be brief.")
        ana.set_timezone("Europe/Lisbon")
        context = ana.context("where do I live?", session="s2", budget=500)
        assert "Be brief." in context.messages[0]["content"]
        assert "Ana lives in Lisbon." in context.messages[0]["content"]
        assert ana.forget(message_id="m1").state == "clean"
        assert SummarizationMemory(ana, "s1", keep=1).summary is None
    assert b"my dog Rex" not in old.read_bytes()


def run(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(statement)
        connection.commit()


def test_a_migration_that_fails_leaves_the_store_as_it_was(old: Path) -> None:
    # Half of what it makes is there already, so that it fails in the middle.
    run(old, "CREATE TABLE procedures (scope BLOB)")
    with pytest.raises(StoreError, match="procedures"):
        open_memory(old)
    assert rows(old, "alembic_version") == [("0001",)]
    assert '"state"' not in columns(old, "messages")
    run(old, "DROP TABLE procedures")
    with open_memory(old) as memory:
        assert len(list(memory.user("ana").iter_memories())) == 5
