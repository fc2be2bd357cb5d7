"""Forgetting: what goes, what stays, what is written down of it, and that no byte of the text is left."""

from __future__ import annotations

import gc
import os
import sqlite3
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from random import Random
from string import ascii_lowercase
from time import sleep
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from mnemic.errors import AmbiguousMessage, InputError
from mnemic.layers import tending
from mnemic.memory import Memory, ScopedMemory
from mnemic.records import Recall
from mnemic.stores import appending, outbox, schema, search
from mnemic.stores import store as stores
from mnemic.stores.ledger import Ledger
from mnemic.stores.search import _PAGE_HEADER as PAGE_HEADER
from tests.fakes import FailingEmbedder, MeasuringEmbedder, new_folder, new_memory, open_memory


def texts(handle: ScopedMemory) -> list[str]:
    return [record.text for record in handle.iter_memories()]


def contents(handle: ScopedMemory) -> list[str]:
    return [item.message.content for item in handle._message_page(0, 10_000)]


def found(recall: Recall) -> list[str]:
    return [hit.memory.text for hit in recall]


def rows(memory: Memory) -> dict[str, int]:
    """How many rows each table of content holds."""
    tables = (schema.messages, schema.records, schema.support, schema.terms, schema.vectors)
    with memory._core.database.read() as connection:
        return {
            table.name: len(connection.execute(select(table.c.scope)).all()) for table in tables
        }


# --- what goes ------------------------------------------------------------------------------------


def test_a_memory_is_forgotten_by_its_id(memory: Memory, ana: ScopedMemory) -> None:
    stays, goes = ana.remember(["I like tea", "My PIN is 4711"]).memory_ids
    erasure = ana.forget(goes)
    assert (erasure.state, erasure.messages, erasure.memories) == ("clean", 1, 1)
    assert set(erasure.timings_ms) == {"rows", "bytes"}
    assert texts(ana) == contents(ana) == found(ana.recall("PIN 4711")) == ["I like tea"]
    assert ana.get(goes) is None
    assert ana.get(stays) is not None
    assert rows(memory) == dict.fromkeys(["messages", "records", "support", "terms", "vectors"], 1)
    assert memory.operator.stats().jobs == {}


def test_forgetting_a_memory_forgets_every_message_that_says_it(ana: ScopedMemory) -> None:
    ana.remember(["My PIN is 4711", "I like tea", "my pin is 4711!"])
    goes = next(record.id for record in ana.iter_memories() if "PIN" in record.text)
    erasure = ana.forget(goes)
    assert (erasure.messages, erasure.memories) == (2, 1)
    assert contents(ana) == ["I like tea"]


def test_a_message_is_forgotten_by_its_own_id(ana: ScopedMemory) -> None:
    ana.remember([{"id": "m1", "content": "My PIN is 4711"}, {"id": "m2", "content": "I like tea"}])
    assert ana.forget(message_id="m1").messages == 1
    assert contents(ana) == ["I like tea"]
    assert ana.remember({"id": "m1", "content": "Something else"}).state == "indexed"


def test_an_id_in_several_sessions_needs_the_session(ana: ScopedMemory) -> None:
    for session in ("s1", "s2", None):
        ana.remember({"id": "m1", "content": f"said in {session}"}, session=session)
    with pytest.raises(AmbiguousMessage, match="s1"):
        ana.forget(message_id="m1")
    assert len(contents(ana)) == 3
    assert ana.forget(message_id="m1", session="s2").messages == 1
    assert contents(ana) == ["said in s1", "said in None"]
    assert ana.forget(message_id="m1", session="s3").state == "absent"
    assert ana.forget(message_id="m1", session="s1").messages == 1
    assert ana.forget(message_id="m1").messages == 1
    assert contents(ana) == []


def test_all_passages_of_a_message_go_with_it() -> None:
    long = " ".join(f"Sentence {n} of the secret is long enough." for n in range(10))
    with new_memory(MeasuringEmbedder(16)) as memory:
        ana = memory.user("ana")
        ids = ana.remember([long, "I like tea"]).memory_ids
        assert len(ids) > 4
        erasure = ana.forget(ids[2])
        assert (erasure.messages, erasure.memories) == (1, len(ids) - 1)
        assert texts(ana) == ["I like tea"]
        assert set(rows(memory).values()) == {1}


def test_a_session_is_forgotten_whole(memory: Memory, ana: ScopedMemory) -> None:
    ana.remember(["one in s1", "two in s1", "said in both"], session="s1")
    ana.remember(["one in s2", "said in both"], session="s2")
    ana.remember("in none")
    erasure = ana.forget_session("s1")
    assert (erasure.state, erasure.messages, erasure.memories) == ("clean", 3, 2)
    assert contents(ana) == ["one in s2", "said in both", "in none"]
    assert {record.session for record in ana.iter_memories()} == {"s2", None}
    assert len(ana.recall("said", in_session="s1")) == 0
    assert len(ana.recall("said", in_session="s2")) == 2
    with memory._core.database.read() as connection:
        kept = connection.execute(select(schema.sessions.c.session)).scalars().all()
    assert sorted(kept) == ["", "s2"]


def test_everything_of_a_scope_is_forgotten_with_its_name(memory: Memory, db: Path) -> None:
    name = "anastasia-of-the-long-name"
    handle, bob = memory.user(name), memory.user("bob")
    bob.remember("I like milk")
    handle.remember([f"secret number {n} of mine" for n in range(50)], session="confidential-1")
    erasure = handle.forget_everything()
    assert (erasure.state, erasure.messages, erasure.memories) == ("clean", 50, 50)
    assert texts(handle) == contents(handle) == found(handle.recall("secret")) == []
    assert [str(scope) for scope in memory.operator.scopes()] == ["user:bob"]
    assert set(rows(memory).values()) == {1}
    for left in (name, "confidential-1", "secret number"):
        assert not holds(db, left.encode()), left
    handle.remember("a new beginning")
    assert found(handle.recall("secret beginning")) == ["a new beginning"]
    assert texts(bob) == ["I like milk"]


def test_forgetting_twice_finds_nothing(ana: ScopedMemory) -> None:
    [id] = ana.remember({"id": "m1", "content": "My PIN is 4711"}, session="s1").memory_ids
    assert ana.forget(id).state == "clean"
    again = [
        ana.forget(id),
        ana.forget(message_id="m1"),
        ana.forget_session("s1"),
        ana.forget_everything(),
    ]
    assert [(e.state, e.messages, e.memories) for e in again] == [("absent", 0, 0)] * 4
    assert [change.action for change in ana.history(id)] == ["remembered", "forgotten"]


def test_a_message_without_text_is_forgotten_too(ana: ScopedMemory) -> None:
    ana.remember({"role": "assistant", "content": None, "tool_calls": [{"id": "c"}], "id": "m1"})
    erasure = ana.forget(message_id="m1")
    assert (erasure.state, erasure.messages, erasure.memories) == ("clean", 1, 0)
    assert contents(ana) == []


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"id": "01890a5d-ac96-774b-bcce-b302099a8057", "message_id": "m1"},
        {"id": "no id"},
        {"id": 5},
        {"message_id": ""},
        {"message_id": 5},
        {"message_id": "m1", "session": "\ud800"},
        {"message_id": "m1", "session": 5},
    ],
    ids=repr,
)
def test_a_bad_forget_is_refused(ana: ScopedMemory, given: dict[str, Any]) -> None:
    ana.remember({"id": "m1", "content": "I like tea"})
    with pytest.raises(InputError):
        ana.forget(**given)
    assert texts(ana) == ["I like tea"]


# --- what stays -----------------------------------------------------------------------------------


@pytest.mark.parametrize("failing", [False, True])
def test_a_memory_that_another_message_says_stays_in_its_words(
    db: Path, failing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(appending, "EMBED_GRACE_MICROS", 0)
    embedder = FailingEmbedder()
    with open_memory(db, embedder) as memory:
        ana = memory.user("ana")
        ana.remember({"id": "m1", "content": "MY  PIN IS 4711!", "at": 1000}, session="s1")
        ana.remember({"id": "m2", "content": "my pin is 4711", "at": 2000}, session="s2")
        [id] = ana.remember({"id": "m3", "content": "My PIN is 4711.", "at": 3000}).memory_ids
        ana.pin(id)
        embedder.failing = failing
        erasure = ana.forget(message_id="m1")
        assert (erasure.state, erasure.messages, erasure.memories) == ("clean", 1, 0)
        record = ana.get(id)
        assert record is not None
        assert (record.text, record.session, record.pinned) == ("my pin is 4711", "s2", True)
        assert record.said_at.timestamp() == 2000
        assert record.message_ids == ("m2", "m3")
        assert found(ana.recall("pin 4711", in_session="s2")) == ["my pin is 4711"]
        assert len(ana.recall("pin 4711", in_session="s1")) == 0
        [stats] = memory.operator.stats().scopes
        assert (stats.memories, stats.without_vector) == (1, int(failing))
        embedder.failing = False
        assert memory.operator.upkeep().scopes[0].without_vector == 0
        assert rows(memory) == {
            "messages": 2, "records": 1, "support": 2, "terms": 1, "vectors": 1,
        }  # fmt: skip
        assert not holds(db, b"MY  PIN")
        # A repeat that goes takes nothing along.
        assert ana.forget(message_id="m3").memories == 0
        assert texts(ana) == ["my pin is 4711"]
        assert ana.forget(message_id="m2").memories == 1
        assert texts(ana) == []
        actions = [change.action for change in ana.history(id)]
    assert actions == [
        "remembered", "supported", "supported", "pinned",
        "unsupported", "unsupported", "forgotten",
    ]  # fmt: skip


def test_the_history_after_forgetting_holds_no_text(db: Path, ana: ScopedMemory) -> None:
    [id] = ana.remember("My PIN is 4711, keep it").memory_ids
    ana.forget(id)
    history = ana.history(id)
    assert [(c.action, c.memory_id) for c in history] == [("remembered", id), ("forgotten", id)]
    assert history[0].at <= history[1].at
    assert history[0].seq < history[1].seq
    assert "4711" not in repr(history)


# --- bytes ----------------------------------------------------------------------------------------


LETTERS = ascii_lowercase * 3 + "äß漢"


def files_of(db: Path) -> list[bytes]:
    """The bytes of the database, its log and its shared memory."""
    paths = [Path(f"{db}{suffix}") for suffix in ("", "-wal", "-shm")]
    return [path.read_bytes() for path in paths if path.exists()]


def holds(db: Path, piece: bytes) -> bool:
    return any(piece in content for content in files_of(db))


def pieces(text: str) -> Iterator[bytes]:
    """A text, and pieces of 12 bytes: at its ends, and at most 40 between them."""
    raw = text.encode()
    yield raw
    last = len(raw) - 12
    if last >= 0:
        yield from (raw[at : at + 12] for at in (*range(0, last, max(12, last // 40)), last))


def check_gone(db: Path, gone: Sequence[str]) -> None:
    contents = files_of(db)
    for text in gone:
        for piece in pieces(text):
            assert not any(piece in content for content in contents), (text[:60], piece[:40])


def random_text(random: Random, size: int) -> str:
    """Words that no other text holds, of about so many bytes."""
    text = ""
    while len(text.encode()) < size:
        word = "".join(random.choice(LETTERS) for _ in range(random.randint(3, 9)))
        text += word + random.choice([" ", " ", ". ", ", ", "\n"])
    return text.strip()


def random_size(random: Random, longest: int) -> int:
    """Mostly short, at times very long."""
    return int(14 * (longest / 14) ** random.random() ** 2)


@given(st.integers(0, 2**32), st.sampled_from([40, 600, 20_000]))
@settings(max_examples=6)
def test_no_byte_of_a_forgotten_message_is_left(seed: int, longest: int) -> None:
    random = Random(seed)
    with new_folder() as folder, open_memory(folder / "memory.db") as memory:
        db, ana = folder / "memory.db", memory.user("ana")
        kept: dict[str, str] = {}
        gone: list[str] = []
        for _ in range(20):
            batch: list[dict[str, Any]] = []
            for _ in range(random.randint(1, 12)):
                id = f"m{len(kept) + len(gone)}-{len(batch)}"
                kept[id] = random_text(random, random_size(random, longest))
                batch.append({"id": id, "content": kept[id]})
            ana.remember(batch)
            for id in random.sample(sorted(kept), min(4, len(kept))):
                assert ana.forget(message_id=id).state == "clean"
                gone.append(kept.pop(id))
                check_gone(db, gone[-1:])
        check_gone(db, gone)
        assert sorted(contents(ana)) == sorted(kept.values())


@pytest.mark.parametrize("seed", range(3))
def test_no_byte_of_a_forgotten_session_is_left(db: Path, memory: Memory, seed: int) -> None:
    random, ana = Random(seed), memory.user("ana")
    said: dict[str, list[str]] = {f"session-{n}": [] for n in range(4)}
    for session in random.choices(sorted(said), k=160):
        texts = [random_text(random, random_size(random, 4000)) for _ in range(3)]
        said[session] += texts
        ana.remember(texts, session=session)
    for session, gone in said.items():
        assert ana.forget_session(session).state == "clean"
        check_gone(db, gone)
        assert not holds(db, session.encode()), session


@pytest.mark.parametrize("longest", [20_000, 1_000_000])
@pytest.mark.parametrize("everything", [False, True])
def test_each_forgotten_text_is_looked_for(
    ana: ScopedMemory, monkeypatch: pytest.MonkeyPatch, everything: bool, longest: int
) -> None:
    looked_for: list[bytes] = []
    rewritten: list[bool] = []
    look, rewrite = Ledger.left_over, Ledger.rewrite

    def note_look(self: Ledger, texts: Sequence[bytes]) -> bool:
        looked_for.extend(texts)
        return look(self, texts)

    def note_rewrite(self: Ledger) -> bool:
        rewritten.append(True)
        return rewrite(self)

    monkeypatch.setattr(Ledger, "left_over", note_look)
    monkeypatch.setattr(Ledger, "rewrite", note_rewrite)
    random = Random(1)
    said = ["x" * longest, *(random_text(random, 30) for _ in range(40))]
    ana.remember(said, session="s1")
    erasure = ana.forget_everything() if everything else ana.forget_session("s1")
    assert erasure.state == "clean"
    # The file was either written anew, or looked through for every text that went.
    if not rewritten:
        for text in said[1:]:
            assert text.encode() in looked_for, text[:40]


@pytest.mark.parametrize("field", ["name", "tags", "metadata", "extra", "id", "session"])
def test_no_byte_of_what_a_message_carried_is_left(db: Path, memory: Memory, field: str) -> None:
    random, ana = Random(field), memory.user("ana")
    marks = {f"m{n}": f"mark{random.getrandbits(96):024x}" for n in range(300)}
    for id, mark in marks.items():
        message: dict[str, Any] = {"id": id, "content": random_text(random, 200), "session": "s"}
        carried: dict[str, Any] = {
            "name": {"name": mark},
            "tags": {"tags": [mark]},
            "metadata": {"metadata": {"mark": mark}},
            "extra": {"tool_calls": [{"id": mark}]},
            "id": {"id": mark},
            "session": {"session": mark},
        }
        ana.remember(message | carried[field])
    ids = sorted(marks)
    random.shuffle(ids)
    for id in ids[:60]:
        own = {"message_id": marks[id]} if field == "id" else {"message_id": id}
        assert ana.forget(**own).state == "clean"
        assert not holds(db, marks[id].encode()), field


@pytest.mark.parametrize("seed", [5, 11, 56])
def test_no_byte_of_the_ids_of_a_forgotten_session_is_left(
    db: Path, memory: Memory, seed: int
) -> None:
    random, ana = Random(seed), memory.user("ana")
    ids: dict[str, list[str]] = {f"s{number}": [] for number in range(5)}
    for _ in range(60):
        session = random.choice(sorted(ids))
        batch = [f"ana-{random.getrandbits(96):024x}@example.org" for _ in range(5)]
        ids[session] += batch
        ana.remember(
            [{"id": id, "content": random_text(random, 40), "session": session} for id in batch]
        )
    for session, gone in ids.items():
        assert ana.forget_session(session).state == "clean"
        assert [id for id in gone if holds(db, id.encode())] == []


# --- what SQLite leaves between its rows ----------------------------------------------------------


def plant(db: Path, piece: bytes, page: int) -> None:
    """Write into the middle of a page where no cell is, as SQLite does when it moves cells."""
    with db.open("r+b") as file:
        page_size = int.from_bytes(file.read(18)[16:])
        start = (page - 1) * page_size
        file.seek(start)
        header = file.read(page_size)[100 if page == 1 else 0 :]
        assert header[0] in (2, 5, 10, 13)
        cells = int.from_bytes(header[5:7])
        pointers = 12 + 2 * int.from_bytes(header[3:5]) + (100 if page == 1 else 0)
        assert cells - pointers > len(piece)
        file.seek(start + cells - len(piece))
        file.write(piece)


def some_pages(db: Path) -> list[int]:
    """The first page of the file, and the first one of the messages."""
    with closing(sqlite3.connect(db)) as connection:
        [root] = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'messages'"
        ).fetchone()
    return [1, root]


@pytest.mark.parametrize("size", [1, 11, 12, 13, 30])
@pytest.mark.parametrize("where", [0, 1])
def test_a_piece_that_was_left_behind_is_found_and_the_file_is_written_anew(
    db: Path, size: int, where: int
) -> None:
    secret = "Qx7 zebra wrote 9 melancholic letters to Ulm"
    with open_memory(db) as memory:
        memory.user("ana").remember({"id": "m1", "content": secret})
    piece = secret.encode()[5 : 5 + size]
    plant(db, piece, some_pages(db)[where])
    with open_memory(db) as memory:
        assert memory._core.ledger.left_over([secret.encode()]) is (size >= 12)
        assert not memory._core.ledger.left_over([b"something else altogether"])
        assert memory._core.ledger.left_over([piece])
        assert memory.user("ana").forget(message_id="m1").state == "clean"
        assert size < 12 or not holds(db, piece)
        assert memory.operator.check()[0].ok


def test_a_live_row_is_not_left_over(db: Path, memory: Memory, ana: ScopedMemory) -> None:
    text = "Everybody says the very same thing here."
    ana.remember({"id": "m1", "content": text})
    memory.user("bob").remember({"id": "m2", "content": text})
    assert not memory._core.ledger.left_over([text.encode()])
    assert ana.forget(message_id="m1").state == "clean"
    assert contents(memory.user("bob")) == [text]
    assert holds(db, text.encode())


def test_a_new_file_in_the_place_of_a_deleted_one_is_the_one_looked_through(db: Path) -> None:
    for number in range(10):
        left = f"left in file number {number}".encode()
        with open_memory(db) as memory:
            memory.user("ana").remember("I like tea")
        plant(db, left, 1)
        with open_memory(db) as memory:
            assert memory._core.ledger.left_over([left])
            assert not memory._core.ledger.left_over([b"My PIN is 4711"])
        for suffix in ("", "-wal", "-shm"):
            Path(f"{db}{suffix}").unlink(missing_ok=True)


class Collecting:
    """A struct in whose place the garbage is collected at every page."""

    def unpack_from(self, *given: Any) -> Any:
        gc.collect()
        return PAGE_HEADER.unpack_from(*given)


def test_a_collection_amid_the_search_may_close_a_store(
    db: Path, tmp_path: Path, ana: ScopedMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    [id] = ana.remember("My PIN is 4711").memory_ids
    gc.collect()
    gc.disable()
    try:
        cycle: list[Any] = [open_memory(tmp_path / "other.db")]
        cycle.append(cycle)
        del cycle
        monkeypatch.setattr(search, "_PAGE_HEADER", Collecting())
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(ana.forget, id).result(60).state == "clean"
    finally:
        gc.enable()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such limit")
def test_without_a_descriptor_to_look_by_an_erasure_is_pending(
    db: Path, memory: Memory, ana: ScopedMemory
) -> None:
    import resource

    [id] = ana.remember("My PIN is 4711").memory_ids
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    next_free = os.dup(0)
    os.close(next_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (next_free, before[1]))
    try:
        erasure = ana.forget(id)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert (erasure.state, erasure.messages) == ("pending", 1)
    assert texts(ana) == []
    memory.operator.upkeep()
    check_gone(db, ["My PIN is 4711"])


# --- a reader in the way --------------------------------------------------------------------------


@contextmanager
def reader(db: Path) -> Iterator[sqlite3.Connection]:
    """Another program that is reading the file."""
    with closing(sqlite3.connect(db, isolation_level=None)) as connection:
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM messages").fetchone()
        yield connection


SECRET = "My PIN is 4711, and my password is swordfish"


def test_a_reader_makes_an_erasure_wait_and_upkeep_finishes_it(
    db: Path, memory: Memory, ana: ScopedMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "SCRUB_GRACE_MICROS", 0)
    [id, _] = ana.remember([SECRET, "I like tea"]).memory_ids
    with reader(db) as connection:
        erasure = ana.forget(id)
        assert (erasure.state, erasure.messages, erasure.memories) == ("pending", 1, 1)
        # The rows are gone for everyone who asks anew; the reader keeps its moment.
        assert texts(ana) == contents(ana) == ["I like tea"]
        assert ana.get(id) is None
        assert connection.execute("SELECT count(*) FROM messages").fetchone() == (2,)
        assert memory.operator.upkeep().jobs == {"scrub": 1}
        assert [f.ok for f in memory.operator.check() if f.check == "jobs"] == [False]
        assert holds(db, SECRET.encode())
    assert memory.operator.upkeep().jobs == {}
    check_gone(db, [SECRET])
    assert texts(ana) == ["I like tea"]


def test_bytes_that_wait_go_with_a_write_soon_after(
    db: Path, ana: ScopedMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (stores, tending):
        monkeypatch.setattr(module, "SCRUB_GRACE_MICROS", 1_000_000)
    [id] = ana.remember(SECRET).memory_ids
    with reader(db):
        assert ana.forget(id).state == "pending"
    sleep(1.05)
    ana.remember("I like tea")
    check_gone(db, [SECRET])


def test_an_erasure_that_waits_is_left_to_its_process_for_a_while(
    db: Path, memory: Memory, ana: ScopedMemory
) -> None:
    [id] = ana.remember(SECRET).memory_ids
    with reader(db):
        assert ana.forget(id).state == "pending"
    memory._core.upkeep(now=True)
    assert memory.operator.stats().jobs == {"scrub": 1}
    # A person who asks doesn't wait.
    assert memory.operator.upkeep().jobs == {}
    check_gone(db, [SECRET])


def test_what_waits_is_erased_while_the_embedder_is_away(
    db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "SCRUB_GRACE_MICROS", 0)
    monkeypatch.setattr(appending, "EMBED_GRACE_MICROS", 0)
    monkeypatch.setattr(outbox, "FIRST_WAIT_MICROS", 0)
    embedder = FailingEmbedder()
    with open_memory(db, embedder) as memory:
        ana = memory.user("ana")
        [id] = ana.remember(SECRET).memory_ids
        embedder.failing = True
        assert ana.remember("I like tea").state == "committed"
        with reader(db):
            assert ana.forget(id).state == "pending"
        # Any later call of this process may finish it; the missing vectors must not stop that.
        ana.forget(str(uuid4()))
        memory._core._next_upkeep = 0.0
        ana.remember("I like milk")
        assert "scrub" not in memory.operator.stats().jobs
        check_gone(db, [SECRET])


def test_a_process_that_died_before_the_bytes_went_is_made_up_for(
    db: Path, memory: Memory, ana: ScopedMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "SCRUB_GRACE_MICROS", 0)
    [id] = ana.remember(SECRET).memory_ids

    def die(self: Ledger) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "truncate_log", die)
        with pytest.raises(KeyboardInterrupt):
            ana.forget(id)
    assert texts(ana) == []
    with open_memory(db) as other:
        assert other.operator.stats().jobs == {"scrub": 1}
        assert other.operator.upkeep().jobs == {}
    check_gone(db, [SECRET])
