"""Bad input is refused by an error of our own, changes nothing, and leaves a store that works."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemic import errors
from mnemic.errors import InputError, MnemicError, StoreFull
from mnemic.inputs import MAX_JSON
from mnemic.memory import Memory, ScopedMemory
from mnemic.settings import Settings
from mnemic.transfer.exporting import export_lines
from tests.bad_ground import Case, play
from tests.bad_input import CASES
from tests.fakes import FakeEmbedder, environment, new_folder, new_memory, open_memory

# What to do next, or what is taken.
ADVICE = re.compile(
    r"; |must|take|such as| is (a|no) |a number from|outside|needs|name |has to be|begins with"
    r"|can't read|is not UTF-8|was due|fail(s|ed):"
)
CODES = {
    "AmbiguousMessage": "ambiguous_message",
    "BadVector": "bad_vector",
    "BudgetTooSmall": "budget_too_small",
    "EmbedderError": "embedder",
    "EmbedderMismatch": "embedder_mismatch",
    "EmbedderUnavailable": "embedder_unavailable",
    "IdConflict": "id_conflict",
    "InputError": "input",
    "MissingExtra": "missing_extra",
    "MnemicError": "mnemic",
    "ModelError": "model",
    "ModelRefused": "model_refused",
    "ModelUnavailable": "model_unavailable",
    "StoreBusy": "store_busy",
    "StoreClosed": "store_closed",
    "StoreError": "store",
    "StoreFull": "store_full",
    "StoreMoved": "store_moved",
    "StoreReadOnly": "store_read_only",
    "StoreTooNew": "store_too_new",
    "StoreUnreadable": "store_unreadable",
    "VersionConflict": "version_conflict",
}


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case.id))
def test_bad_input_comes_to_what_the_table_says(case: Case) -> None:
    played = play(case)
    assert (None if played.raised is None else type(played.raised)) is case.error
    if case.error is not None:
        assert played.after == played.before
    if isinstance(played.raised, MnemicError) or (played.raised is None and played.says):
        assert 20 <= len(played.says) <= 300
        assert "x" * 61 not in played.says
        assert played.says.encode().decode().isprintable()
        assert ADVICE.search(played.says)
    assert played.works


def test_every_case_has_an_id_of_its_own() -> None:
    ids = [case.id for case in CASES]
    assert len(set(ids)) == len(ids)


def test_codes_stay_as_they_are_and_every_error_has_a_case() -> None:
    kinds = {name: getattr(errors, name) for name in errors.__all__}
    assert {name: kind.code for name, kind in kinds.items()} == CODES
    bases = {base for kind in kinds.values() for base in kind.__mro__[1:]}
    raised = {case.error for case in CASES}
    assert {kind for kind in kinds.values() if kind not in bases} - raised == set()


# --- anything at all ------------------------------------------------------------------------------

LEAVES: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.complex_numbers(),
    st.text(st.characters(codec=None, exclude_categories=())),
    st.binary(),
    st.datetimes(timezones=st.none() | st.timezones()),
    st.dates(),
    st.timedeltas(),
    st.uuids(),
    st.sampled_from([object(), Ellipsis, int, np.float32(0.5), np.array([1, 2]), Path("x")]),
)
KEYS = st.text(max_size=3) | st.integers() | st.sampled_from(["content", "role", "type", "text"])
JUNK = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.dictionaries(KEYS, inner, max_size=3),
    ),
    max_leaves=8,
)
ARGUMENTS = (
    "limit at budget kinds since until in_session where tags diversity min_relevance".split()
)
FIELDS = "role content session name id said_at at metadata tags expires_at tool_calls audio".split()


@given(JUNK)
def test_whatever_is_remembered_is_taken_or_refused(junk: Any) -> None:
    with new_memory() as memory:
        ana: Any = memory.user("ana")
        for given in (junk, [junk], *({"content": "figs", name: junk} for name in FIELDS)):
            with suppress(InputError):
                ana.remember(given)
        with suppress(InputError):
            ana.remember("figs", session=junk)
        kept = list(export_lines(ana))
        assert len(kept) == 1 + memory.operator.stats().messages
        assert all(json.loads(line) for line in kept)
        assert len(list(ana.iter_memories())) == memory.operator.stats().memories


@pytest.mark.usefixtures("tokens_ready")
@given(JUNK)
def test_whatever_is_asked_is_answered_or_refused(junk: Any) -> None:
    with new_memory() as memory:
        ana: Any = memory.user("ana")
        ana.remember({"id": "m1", "content": "I like figs", "metadata": {"a": 1}})
        with suppress(InputError):
            ana.recall(junk)
        for name in ARGUMENTS:
            with suppress(InputError):
                assert len(ana.recall("What did I like last May?", **{name: junk})) <= 1
        before = list(export_lines(ana))
        calls = ana.get, ana.history, ana.pin, ana.unpin, ana.forget, ana.forget_session
        for call in calls:
            with suppress(InputError):
                call(junk)
        with suppress(InputError):
            ana.forget(message_id=junk)
        with suppress(InputError):
            ana.forget(message_id="m1", session="s" if junk is None else junk)
        if not isinstance(junk, str) or junk != "m1":
            assert list(export_lines(ana)) == before


# --- what is just within the limits ---------------------------------------------------------------

PHRASES = ("yesterday", "last May", "two weeks ago", "next year", "in 50 years", "since 1900")
ENDS = [datetime(1000, 1, 1, tzinfo=UTC), datetime(3000, 12, 31, 23, 59, 59, 999_999, UTC)]
ZONES = [UTC, timezone(timedelta(hours=14)), timezone(-timedelta(hours=12))]


@pytest.mark.parametrize("end", ENDS, ids=["1000", "3000"])
def test_the_ends_of_time_are_remembered_and_asked_at(ana: ScopedMemory, end: datetime) -> None:
    ana.remember({"content": "I like figs", "said_at": end, "expires_at": ENDS[1]})
    for zone in ZONES:
        for phrase in PHRASES:
            found = ana.recall(f"What did I like {phrase}?", at=end.astimezone(zone))
            assert [hit.memory.said_at for hit in found] == [end]
    assert (
        ana.recall("figs", since=end, until=end + timedelta(days=1)).text.count("I like figs") == 1
    )


@pytest.mark.parametrize("end", [datetime.min, datetime.max], ids=["min", "max"])
@pytest.mark.parametrize("phrase", PHRASES)
def test_a_question_may_stand_at_the_ends_of_the_calendar(
    ana: ScopedMemory, end: datetime, phrase: str
) -> None:
    ana.remember("I like figs")
    at = end.replace(tzinfo=UTC)
    assert len(ana.recall(f"What did I like {phrase}?", at=at)) == 1
    assert len(ana.recall("figs", since=datetime.min.replace(tzinfo=UTC), until=at)) == (
        end == datetime.max
    )


def test_the_largest_metadata_is_taken(ana: ScopedMemory) -> None:
    deep: dict[str, Any] = {}
    for _ in range(99):
        deep = {"x": deep}
    large = {"x": "x" * (MAX_JSON - len('{"x": ""}'))}
    number = {"x": 2**4096 - 1}
    for metadata in (deep, large, number):
        [key] = ana.remember(
            {"content": f"I like {len(str(metadata))}", "metadata": metadata}
        ).memory_ids
        kept = ana.get(key)
        assert kept is not None
        assert kept.metadata == metadata


def test_the_most_tags_are_taken(ana: ScopedMemory) -> None:
    tags = [f"{number:0200}" for number in range(64)]
    ana.remember({"content": "I like figs", "tags": tags})
    assert ana.recall("figs", tags=tags)[0].memory.tags == tuple(tags)


# --- a file that can't be written to --------------------------------------------------------------


def refuse_to_write(folder: Path) -> None:
    """Be a user without rights, meet stores that may not be written, and print what happens."""
    # What is loaded late is loaded now: its files may be others' to read.
    with Memory(folder / "warm.db", embedder=FakeEmbedder(), settings=Settings()) as memory:
        memory.user("ana").remember("I like tea")
        memory.user("ana").recall("tea")
    with suppress(OSError):
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
    if os.geteuid() == 0 or not os.access(folder, os.R_OK | os.X_OK):
        print("null")
        return
    told: dict[str, str] = {}

    def tell(what: str, call: Callable[[], object]) -> None:
        try:
            call()
            told[what] = "done"
        except MnemicError as error:
            told[what] = f"{error.code}: {error}"

    for name in ("file", "folder", "both", "none", "unreadable"):
        place = folder / name / "memory.db"
        with (
            suppress(MnemicError),
            Memory(place, embedder=FakeEmbedder(), settings=Settings()) as m,
        ):
            tell(f"{name}: recall", lambda m=m: m.user("ana").recall("tea")[0])  # type: ignore[misc]
            tell(f"{name}: remember", lambda m=m: m.user("ana").remember("figs"))  # type: ignore[misc]
            tell(f"{name}: forget", lambda m=m: m.user("ana").forget_everything())  # type: ignore[misc]
        tell(name, lambda place=place: Memory(place, embedder=FakeEmbedder(), settings=Settings()))  # type: ignore[misc]
    print(json.dumps(told))


@pytest.mark.skipif(not hasattr(os, "setuid"), reason="rights of files are POSIX's")
def test_what_may_not_be_written_is_refused_and_stays_as_it_is() -> None:
    modes = {
        "file": (0o777, 0o444),
        "folder": (0o555, 0o666),
        "both": (0o555, 0o444),
        "none": (0o555, None),
        "unreadable": (0o777, 0o000),
    }
    with new_folder() as folder:
        folder.chmod(0o755)
        for name, (outer, inner) in modes.items():
            (folder / name).mkdir()
            db = folder / name / "memory.db"
            if inner is not None:
                with open_memory(db) as memory:
                    memory.user("ana").remember("I like tea")
                db.chmod(inner)
            (folder / name).chmod(outer)
        told = json.loads(in_a_process("refuse_to_write", folder))
        for name in modes:
            (folder / name).chmod(0o755)
        if told is None:
            pytest.skip("no user without rights can be played here")
        refused = {what: says.partition(":")[0] for what, says in told.items()}
        assert refused == {
            "file: recall": "done",
            "file: remember": "store_read_only",
            "file: forget": "store_read_only",
            "file": "done",
            "folder": "store_read_only",
            "both": "store_read_only",
            "none": "store_read_only",
            "unreadable": "store",
        }
        assert all("writ" in says for says in told.values() if says != "done")
        assert not list((folder / "none").iterdir())
        for name in ("file", "folder", "both", "unreadable"):
            (folder / name / "memory.db").chmod(0o644)
            with open_memory(folder / name / "memory.db") as memory:
                assert texts(memory) == ["I like tea"]
                assert memory.user("ana").remember("I like figs").state == "indexed"


# --- a disk that is full --------------------------------------------------------------------------


class Filling(FakeEmbedder):
    """An embedder during whose work something happens."""

    def __init__(self, happens: Callable[[], None]) -> None:
        super().__init__()
        self.happens = happens

    def embed(self, texts: Sequence[str]) -> Any:
        self.happens()
        return super().embed(texts)


def texts(memory: Memory) -> list[str]:
    return [record.text for record in memory.user("ana").iter_memories()]


def opened(path: Path, embedder: FakeEmbedder | None = None) -> Memory:
    return Memory(path, embedder=embedder or FakeEmbedder(), settings=Settings())


def fill_up(db: Path, fill: Callable[[int], None], empty: Callable[[], None]) -> None:
    """Use a store while its disk fills up; `fill` leaves that many bytes."""
    memory = open_memory(db)
    ana = memory.user("ana")
    ana.remember("I like tea")
    acknowledged = ["I like tea"]
    fill(60_000)
    with suppress(StoreFull):
        for number in range(1000):
            text = " ".join(f"word{number}" for _ in range(60))
            ana.remember(text)
            acknowledged.append(text)
    assert len(acknowledged) < 1000
    assert texts(memory) == acknowledged
    before = memory.operator.stats()
    with pytest.raises(StoreFull, match="make room"):
        ana.remember([f"{number} " * 300 for number in range(300)])
    assert memory.operator.stats() == before
    assert texts(memory) == acknowledged
    assert ana.recall("tea", limit=1)[0].memory.text == "I like tea"
    assert memory.operator.check()[0].ok
    empty()
    assert ana.remember("There is room again").state == "indexed"
    acknowledged.append("There is room again")
    assert texts(memory) == acknowledged
    memory.close()
    open_when_full(db, fill, empty)
    with opened(db) as memory:
        assert texts(memory) == acknowledged
        assert memory.operator.check()[0].ok
    fill_at_vectors(db.with_name("vectors.db"), fill, empty)


def open_when_full(db: Path, fill: Callable[[int], None], empty: Callable[[], None]) -> None:
    new = db.with_name("new.db")
    for room in (0, 4096, 40_000):
        fill(room)
        with pytest.raises(StoreFull):
            opened(new)
        empty()
    fill(0)
    with pytest.raises(StoreFull):
        opened(db)
    empty()
    with opened(new) as memory:
        assert memory.user("ana").remember("I like tea").state == "indexed"


def fill_at_vectors(db: Path, fill: Callable[[int], None], empty: Callable[[], None]) -> None:
    embedder = Filling(lambda: None)
    with opened(db, embedder) as memory:
        ana = memory.user("ana")
        ana.remember("I like tea")
        embedder.happens = lambda: fill(0)
        receipt = ana.remember("I like figs")
        assert receipt.state == "committed"
        assert receipt.error is not None
        assert receipt.error.startswith("no room to write")
        assert ana.recall("figs", limit=1)[0].memory.text == "I like figs"
        embedder.happens = lambda: None
        empty()
        assert ana.remember("I like plums").state == "indexed"
    with opened(db) as memory:
        assert texts(memory) == ["I like tea", "I like figs", "I like plums"]
        assert memory.operator.stats().scopes[0].without_vector == 1
        memory.operator.repair()
        assert memory.operator.stats().scopes[0].without_vector == 0


def fill_a_disk(folder: Path) -> None:
    """Play it on a disk of 3 MB, mounted here alone."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)], check=True)
    filler = folder / "filler"

    def fill(room: int) -> None:
        with suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)
        os.truncate(filler, max(filler.stat().st_size - room, 0))

    fill_up(folder / "memory.db", fill, filler.unlink)


def fill_a_quota(folder: Path) -> None:
    """Play it where no file may grow beyond a size: the system refuses the write as it does at a quota."""
    import resource
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    most = resource.getrlimit(resource.RLIMIT_FSIZE)[1]

    def fill(room: int) -> None:
        # With much room a file may still grow; else nothing may be written beyond so many bytes of it.
        sizes = [file.stat().st_size for file in folder.iterdir()] if room > 50_000 else [0]
        resource.setrlimit(resource.RLIMIT_FSIZE, (max(sizes) + room, most))

    fill_up(
        folder / "memory.db",
        fill,
        lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most)),
    )


def test_a_disk_that_fills_up_takes_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    alone = ["unshare", "--map-root-user", "--mount"]
    if shutil.which("unshare") is None or shutil.which("mount") is None:
        pytest.skip("this system can't mount a disk for a process alone")
    mount = [*alone, "mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a disk for a process alone isn't allowed here")
    in_a_process("fill_a_disk", tmp_path, *alone)


@pytest.mark.skipif(os.name == "nt", reason="limits of a file's size are POSIX's")
def test_a_quota_that_is_used_up_takes_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    in_a_process("fill_a_quota", tmp_path)


def in_a_process(function: str, folder: Path, *before: str) -> str:
    """Run a function of this module in a process of its own; returns what it prints."""
    code = (
        "import sys; from pathlib import Path; from tests.core import test_bad_input;"
        f" test_bad_input.{function}(Path(sys.argv[1]))"
    )
    command = [*before, sys.executable, "-c", code, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment())
    assert done.returncode == 0, done.stderr
    return done.stdout
