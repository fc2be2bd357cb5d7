"""What is found damaged, outdated or left undone, and is made anew: by a process in use, or by repair."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mnemic.errors import BadVector, EmbedderUnavailable, StoreUnreadable
from mnemic.memory import Memory, ScopedMemory
from mnemic.models import terms
from mnemic.stores import appending, outbox
from mnemic.stores.ledger import Ledger
from mnemic.upkeep import jobs
from tests.fakes import FailingEmbedder, FakeEmbedder, open_memory

TEXTS = [f"thing number {n} of many things" for n in range(20)]


def change(db: Path, *statements: str) -> None:
    """Do to a store's rows what nobody should."""
    with closing(sqlite3.connect(db)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def faults(memory: Memory) -> list[str]:
    return [finding.check for finding in memory.operator.check() if not finding.ok]


DAMAGE = {
    "a vector cut short": (
        "UPDATE vectors SET vector = substr(vector, 1, 10) WHERE rowid = 3",
        "vectors",
    ),
    "a vector that isn't finite": (
        "UPDATE vectors SET vector = CAST(x'007c' || substr(vector, 3) AS BLOB) WHERE rowid = 3",
        "vectors",
    ),
    "an empty vector": ("UPDATE vectors SET vector = x'' WHERE rowid = 3", "vectors"),
    "no vector, and no job": ("DELETE FROM vectors WHERE rowid = 3", "vectors"),
    "terms cut short": ("UPDATE terms SET hashes = substr(hashes, 1, 11) WHERE rowid = 3", "terms"),
    "counts cut short": ("UPDATE terms SET counts = substr(counts, 1, 1) WHERE rowid = 3", "terms"),
    "no terms": ("DELETE FROM terms WHERE rowid = 3", "terms"),
    "terms of an older version": ("UPDATE terms SET version = 0", "terms"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_what_is_derived_is_found_damaged_and_mended(
    db: Path, memory: Memory, ana: ScopedMemory, name: str
) -> None:
    statement, check = DAMAGE[name]
    ana.remember(TEXTS)
    before = {
        hit.memory.text: hit.score
        for hit in ana.recall("thing number 2", limit=50, min_relevance=0)
    }
    assert faults(memory) == []
    change(db, statement)
    assert faults(memory) == [check]
    with open_memory(db) as other:
        # It answers all the same, by what is left.
        found = other.user("ana").recall("thing number 2", limit=50, min_relevance=0)
        assert {hit.memory.text for hit in found} == set(TEXTS)
        assert len(other.operator.repair()) == 1
        assert faults(other) == other.operator.repair() == []
        after = {
            hit.memory.text: hit.score
            for hit in other.user("ana").recall("thing number 2", limit=50, min_relevance=0)
        }
        assert after == pytest.approx(before)


@pytest.mark.parametrize("name", sorted(DAMAGE.keys() - {"no vector, and no job"}))
def test_a_process_in_use_mends_what_it_comes_across(
    db: Path, ana: ScopedMemory, name: str
) -> None:
    statement, _ = DAMAGE[name]
    ana.remember(TEXTS)
    change(db, statement)
    with open_memory(db) as other:
        other.user("ana").recall("thing number 2")
        other._core.upkeep(now=True)
        assert faults(other) == []


def test_other_processes_learn_of_words_that_were_counted_anew(
    db: Path, memory: Memory, ana: ScopedMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana.remember(TEXTS)
    assert ana.recall("thing number 2")[0].memory.text == TEXTS[2]
    # Another version of this code reads words otherwise: what was counted before doesn't fit.
    monkeypatch.setattr(terms, "hash_term", lambda term, old=terms.hash_term: old(f"2 {term}"))
    for module in ("writing.mend", "retrieval.damage", "upkeep.doctor", "writing.passages"):
        monkeypatch.setattr(f"mnemic.{module}.TERMS_VERSION", terms.TERMS_VERSION + 1)
    assert all(
        "words" not in hit.channels or hit.channels["words"] == 0 for hit in ana.recall("many")
    )
    with open_memory(db) as other:
        assert other.operator.repair() == ["words of memories counted anew: 20"]
    assert max(hit.channels["words"] for hit in ana.recall("number 2")) > 0


def test_an_index_of_the_file_that_is_damaged_is_made_anew(db: Path) -> None:
    with open_memory(db) as memory:
        memory.user("ana").remember(TEXTS)
    with closing(sqlite3.connect(db)) as connection, connection:
        [root] = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'messages_by_message_id'"
        ).fetchone()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = bytearray(db.read_bytes())
    page = slice((root - 1) * 4096, root * 4096)
    content[page] = content[page].replace(b"default", b"DEFAULT")
    content[page.start + 4000 : page.start + 4010] = bytes(10)
    db.write_bytes(content)
    with open_memory(db) as memory:
        assert faults(memory) == ["files"]
        assert memory.operator.repair() == ["the file's indexes were damaged, and were made anew"]
        assert faults(memory) == []
        assert len(list(memory.user("ana").iter_memories())) == len(TEXTS)


def test_damage_beyond_the_indexes_is_not_papered_over(db: Path) -> None:
    with open_memory(db) as memory:
        memory.user("ana").remember([f"{text} {'and more ' * 40}" for text in TEXTS * 5])
    content = bytearray(db.read_bytes())
    for page in range(20, len(content) // 4096, 3):
        content[page * 4096 : page * 4096 + 200] = b"\xff" * 200
    db.write_bytes(content)
    # Where the schema's own page is among the damaged ones, opening says so already.
    with pytest.raises(StoreUnreadable, match="restore a backup"), open_memory(db) as memory:
        memory.operator.repair()


class Refusing(FakeEmbedder):
    """One that returns nonsense for one text."""

    refused = "poison"

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        rows = super().embed(texts)
        for row, text in zip(rows, texts, strict=True):
            if self.refused in text:
                row[:] = np.nan
        return rows


def test_a_text_that_the_embedder_cant_do_doesnt_hold_up_others(
    db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(appending, "EMBED_GRACE_MICROS", 0)
    with open_memory(db, Refusing()) as memory:
        ana = memory.user("ana")
        assert ana.remember(["fine", "poison", "good"]).state == "committed"
        with pytest.raises(BadVector):
            memory.operator.upkeep()
        [scope] = memory.operator.stats().scopes
        assert scope.without_vector == 1
        assert memory.operator.stats().jobs == {"embed": 1}
        assert dict(memory._core.outbox.counts()) == {("embed", "waiting"): 1}
        assert {hit.memory.text for hit in ana.recall("poison")} == {"fine", "poison", "good"}


def attempts(db: Path) -> list[tuple[str, int, str | None]]:
    with closing(sqlite3.connect(db)) as connection:
        return connection.execute("SELECT state, attempts, error FROM jobs").fetchall()


def test_a_job_that_fails_waits_longer_each_time_and_in_the_end_for_a_person(
    db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(appending, "EMBED_GRACE_MICROS", 0)
    embedder = FailingEmbedder()
    embedder.failing = True
    with open_memory(db, embedder) as memory:
        memory.user("ana").remember("I like tea")
        waits = []
        for number in range(outbox.MAX_ATTEMPTS):
            with pytest.raises(EmbedderUnavailable):
                memory._core.upkeep(now=True)
            [(_, count, error)] = attempts(db)
            assert (count, error) == (number + 1, "embedder_unavailable")
            # While it waits, nobody asks the embedder for it.
            asked = embedder.calls
            memory._core.upkeep(now=True)
            assert embedder.calls == asked
            with closing(sqlite3.connect(db)) as connection, connection:
                waits += connection.execute(
                    "SELECT run_at - unixepoch() * 1000000 FROM jobs"
                ).fetchone()
                connection.execute("UPDATE jobs SET run_at = 0")
        assert [f.says for f in memory.operator.check() if f.check == "jobs"] == [
            "1 embed (failed); mnemic doctor --repair does them now"
        ]
        assert waits[0] < 40e6 < waits[3] < max(waits) < 4600e6
        memory._core.upkeep(now=True)
        assert attempts(db) == [("failed", outbox.MAX_ATTEMPTS, "embedder_unavailable")]
        embedder.failing = False
        memory.operator.repair()
        assert attempts(db) == []
        assert faults(memory) == []


def test_a_job_left_leased_by_a_dead_process_is_taken_up(
    db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(appending, "EMBED_GRACE_MICROS", 0)
    embedder = FailingEmbedder()
    embedder.failing = True
    with open_memory(db, embedder) as memory:
        memory.user("ana").remember("I like tea")
        [job] = memory._core.outbox.due("embed", 1)
        assert memory._core.outbox.take(job)
        assert not memory._core.outbox.take(job)  # nobody else may have it meanwhile
        embedder.failing = False
        memory._core.upkeep(now=True)
        assert attempts(db) == [("leased", 1, None)]
        assert dict(memory._core.outbox.counts()) == {("embed", "under way"): 1}
        change(db, "UPDATE jobs SET run_at = 0")  # its lease has run out
        memory._core.upkeep(now=True)
        assert attempts(db) == []


class Counting(FailingEmbedder):
    """Knows what it has embedded."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        vectors = super().embed(texts)
        self.asked += texts
        return vectors


@pytest.mark.parametrize("name", ["repair", "upkeep"])
def test_repair_and_upkeep_leave_no_job_however_many(
    db: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(jobs, "MAX_JOBS", 4)
    embedder = Counting()
    embedder.failing = True
    with open_memory(db, embedder) as memory:
        for text in TEXTS:
            memory.user("ana").remember(text)
        embedder.failing = False
        REPAIRS[name](memory)
        assert attempts(db) == []
        assert faults(memory) == []
        assert sorted(embedder.asked) == sorted([*TEXTS, "Is anybody there?"])  # each once


def test_scopes_to_mend_are_kept_in_mind_while_the_embedder_is_away(
    db: Path,
) -> None:
    embedder = FailingEmbedder()
    with open_memory(db, embedder) as memory:
        for name in ("ana", "ben", "cy"):
            memory.user(name).remember("I like tea")
    change(db, "UPDATE vectors SET vector = x'00'", "UPDATE terms SET version = 0")
    with open_memory(db, embedder) as memory:
        for name in ("ana", "ben", "cy"):
            assert memory.user(name).recall("tea")
        embedder.failing = True
        with pytest.raises(EmbedderUnavailable):
            memory._core.upkeep(now=True)
        embedder.failing = False
        memory._core.upkeep(now=True)
        assert faults(memory) == []


def test_erased_bytes_go_though_the_embedder_is_away(db: Path) -> None:
    embedder = FailingEmbedder()
    with open_memory(db, embedder) as memory:
        ana = memory.user("ana")
        [id, _] = ana.remember(["My PIN is 4711", "I like tea"]).memory_ids
        change(db, "DELETE FROM vectors")
        with closing(sqlite3.connect(db)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM meta").fetchall()
            assert ana.forget(id).state == "pending"
        embedder.failing = True
        with pytest.raises(EmbedderUnavailable):
            memory.operator.repair()
        assert [kind for kind, _ in memory._core.outbox.counts()] == []
        assert b"My PIN" not in db.read_bytes()


class Casing(FakeEmbedder):
    """Tells capitals from small letters, and waits at capitals until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.go_on = threading.Event(), threading.Event()

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if any(text.isupper() for text in texts):
            self.inside.set()
            assert self.go_on.wait(30)
        return super().embed(["in capitals" if text.isupper() else text for text in texts])


def test_the_vector_of_forgotten_words_is_never_given_to_others(
    db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedder = Casing()
    with open_memory(db, embedder) as memory, ThreadPoolExecutor(1) as pool:
        ana = memory.user("ana")
        ana.remember("first of all")
        writing = pool.submit(ana.remember, {"id": "m1", "content": "I MOVED TO LISBON"})
        assert embedder.inside.wait(30)
        ana.remember({"id": "m2", "content": "i moved to lisbon"})  # says the same memory again
        scrub = Ledger.truncate_log

        def when_reworded(self: Ledger) -> bool:
            embedder.go_on.set()
            writing.result(30)
            return scrub(self)

        monkeypatch.setattr(Ledger, "truncate_log", when_reworded)
        assert ana.forget(message_id="m1").state == "clean"
        memory.operator.upkeep()
        with closing(sqlite3.connect(db)) as connection:
            query = "SELECT vector FROM vectors JOIN records ON id = record WHERE text = ?"
            [(raw,)] = connection.execute(query, ("i moved to lisbon",)).fetchall()
        expected = np.asarray(embedder.embed(["i moved to lisbon"])[0], dtype="<f2")
        assert np.allclose(np.frombuffer(raw, dtype="<f2"), expected, atol=0.01)


REPAIRS: dict[str, Callable[[Memory], object]] = {
    "repair": lambda memory: memory.operator.repair(),
    "upkeep": lambda memory: memory.operator.upkeep(),
}


@pytest.mark.parametrize("name", REPAIRS)
def test_a_new_store_has_nothing_to_mend(memory: Memory, name: str) -> None:
    REPAIRS[name](memory)
    assert memory.operator.repair() == []
    assert faults(memory) == []
