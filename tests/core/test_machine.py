"""A life of memories, step by step, against a model in plain Python; three parties act on one file.

Two memories in this process and one in another remember, forget, pin, import, move, back up and restore
in any order; after each step a party that didn't act is asked what there is.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, event, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from mnemic.errors import IdConflict, MnemicError
from mnemic.memory import Memory, ScopedMemory
from mnemic.records import Scope
from mnemic.retrieval.cache import ResidentIndexes
from mnemic.stores import erasing
from mnemic.transfer.exporting import export_lines
from mnemic.transfer.importing import import_file
from tests.fakes import FailingEmbedder, FakeEmbedder, open_memory

Json = dict[str, Any]

# What counts as the same words: case, spaces and final stops apart.
TEXTS = {
    "i like tea": ("I like tea.", "i like TEA", "I  like tea!!"),
    "i like tea?": ("I like tea?", "i LIKE tea?"),
    "ana moved to lisbon": ("Ana moved to Lisbon.", "ana moved to Lisbon"),
    "the code is 4711": ("The code is 4711.", "the code is 4711"),
    "the code is 4712": ("The code is 4712.",),
    "漢字 is hard": ("漢字 is hard.", "漢字 is hard"),
}
SAME_AS = {text: same for same, texts in TEXTS.items() for text in texts}
SCOPES = ("user:ana", "user:ben", "agent:ana", "acme/user:ana")
PAST, FUTURE = "2001-01-01T00:00:00+00:00", "2990-01-01T00:00:00+00:00"

MESSAGES = st.fixed_dictionaries(
    {"content": st.sampled_from(sorted(SAME_AS)), "role": st.sampled_from(["user", "assistant"])},
    optional={
        "name": st.sampled_from(["Ana", "Ben"]),
        "session": st.sampled_from(["s1", "s2"]),
        "tags": st.just(["x"]),
        "metadata": st.just({"k": 1}),
        "expires_at": st.sampled_from([PAST, FUTURE]),
    },
)
PARTIES = st.sampled_from(["one", "two", "process"])
SCOPE = st.sampled_from(SCOPES)
PICK = st.integers(0, 1_000)


def handle_of(memory: Memory, scope: str) -> ScopedMemory:
    """The handle of a scope as it is written: `user:ana`, `acme/user:ana`."""
    tenant, _, rest = scope.rpartition("/")
    kind, _, name = rest.partition(":")
    within = memory.tenant(tenant or "default")
    return within.user(name) if kind == "user" else within.agent(name)


def perform(memory: Memory, do: str, scope: str, *args: Any) -> Any:
    """Do one thing; what comes back crosses a pipe. An error of ours comes back as its code."""
    handle = handle_of(memory, scope)
    try:
        if do == "look":
            return look(handle, *args)
        if do == "remember":
            receipt = handle.remember(args[0])
            return {"ids": list(receipt.message_ids), "state": receipt.state, "made": receipt.made}
        if do == "forget":
            erasure = handle.forget(args[0], message_id=args[1], session=args[2])
        elif do == "forget_session":
            erasure = handle.forget_session(args[0])
        elif do == "forget_everything":
            erasure = handle.forget_everything()
        else:
            return getattr(handle, do)(*args)
        return {"state": erasure.state, "messages": erasure.messages}
    except MnemicError as error:
        return {"error": error.code}


def look(handle: ScopedMemory, erased: list[str]) -> Json:
    """All that a scope says of itself, in every way there is to ask."""
    lines = map(json.loads, islice(export_lines(handle), 1, None))
    fields = ("id", "session", "role", "name", "content", "tags", "metadata", "expires_at")
    memories = {}
    for record in handle.iter_memories():
        assert handle.get(record.id) == record
        memories[record.id] = {
            "text": record.text,
            "identity": [
                record.source,
                record.speaker,
                SAME_AS[record.text],
                list(record.tags),
                dict(record.metadata),
                None if record.expires_at is None else record.expires_at.isoformat(),
            ],
            "pinned": record.pinned,
            "said_by": list(record.message_ids),
            "history": [change.action for change in handle.history(record.id)],
        }
    recalled = handle.recall("what is the code, and who likes tea?", limit=10_000)
    return {
        "messages": [{name: line[name] for name in fields} for line in lines],
        "memories": memories,
        "recalled": sorted(hit.memory.id for hit in recalled),
        "risen": [id for id in erased if handle.get(id) is not None],
        "ends": [handle.history(id)[-1].action for id in erased],
    }


def serve(pipe: Connection) -> None:
    """The other process: opens what it is told to, and does what it is told."""
    memory: Memory | None = None
    while True:
        command, *args = pipe.recv()
        if memory is not None and command in ("open", "close", "quit"):
            memory.close()
            memory = None
        if command == "quit":
            return
        if command == "open":
            memory = Memory(args[0], embedder=FakeEmbedder(args[1]))
        pipe.send(perform(memory, *args) if command == "do" and memory is not None else None)


@pytest.fixture(scope="module", autouse=True)
def other_process() -> Iterator[None]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs,))
    process.start()
    Life.pipe = ours
    yield
    ours.send(("quit",))
    process.join(30)
    ours.close()
    theirs.close()


@dataclass
class Plain:
    """What one scope must hold, by plain lists."""

    messages: list[Json] = field(default_factory=list)
    ids: dict[str, str] = field(default_factory=dict)  # of memories, by identity
    pinned: set[str] = field(default_factory=set)
    erased: list[str] = field(default_factory=list)

    def groups(self) -> dict[str, list[Json]]:
        """The messages that say the same, in order: each is one memory."""
        found: dict[str, list[Json]] = {}
        for message in self.messages:
            found.setdefault(identity(message), []).append(message)
        return found

    def remove(self, gone: Callable[[Json], bool]) -> int:
        """Forget messages, and the memories that nobody says any more."""
        before = len(self.messages)
        self.messages = [message for message in self.messages if not gone(message)]
        alive = self.groups()
        for key in [key for key in self.ids if key not in alive]:
            self.erased.append(self.ids.pop(key))
            self.pinned.discard(key)
        return before - len(self.messages)


def identity(message: Json) -> str:
    """What makes two messages say one memory."""
    same = SAME_AS[message["content"]]
    parts = [message["role"], message["name"], same, message["tags"], message["metadata"]]
    return json.dumps([*parts, message["expires_at"]])


class Life(RuleBasedStateMachine):
    """The parties, the file, and the model."""

    pipe: ClassVar[Connection]

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.db = self.folder / "memory.db"
        self.embedder = "fake"
        self.model: dict[str, Plain] = {scope: Plain() for scope in SCOPES}
        self.saved: tuple[Path, dict[str, Plain], str] | None = None
        self.number = 0
        self.memories: dict[str, Memory] = {}

    @initialize()
    def begin(self) -> None:
        self._open()

    def teardown(self) -> None:
        self._close()
        shutil.rmtree(self.folder)

    def _open(self) -> None:
        self.failing = FailingEmbedder(self.embedder)
        self.memories = {
            "one": open_memory(self.db, self.failing),
            "two": open_memory(self.db, FakeEmbedder(self.embedder)),
        }
        self._tell("open", str(self.db), self.embedder)

    def _close(self) -> None:
        for memory in self.memories.values():
            memory.close()
        self.memories = {}
        self._tell("close")

    def _tell(self, *command: Any) -> Any:
        self.pipe.send(command)
        assert self.pipe.poll(60), "the other process doesn't answer"
        return self.pipe.recv()

    def _do(self, party: str, do: str, scope: str, *args: Any) -> Any:
        event(f"{do} by {party}")
        if party == "process":
            return self._tell("do", do, scope, *args)
        return perform(self.memories[party], do, scope, *args)

    def _check(self, actor: str, scope: str) -> None:
        """Ask a party that didn't act; the actor itself too."""
        others = [party for party in ("one", "two", "process") if party != actor]
        for party in (actor, others[self.number % 2]):
            self._compare(self._do(party, "look", scope, self.model[scope].erased[-20:]), scope)

    def _compare(self, seen: Json, scope: str) -> None:
        plain, groups = self.model[scope], self.model[scope].groups()
        assert seen["messages"] == plain.messages
        by_identity = {json.dumps(m["identity"]): id for id, m in seen["memories"].items()}
        assert by_identity.keys() == groups.keys()
        assert len(by_identity) == len(seen["memories"])
        for key, said in groups.items():
            id = by_identity[key]
            assert plain.ids.setdefault(key, id) == id
            memory = seen["memories"][id]
            assert memory["text"] == said[0]["content"].strip()
            assert memory["said_by"] == list(dict.fromkeys(message["id"] for message in said))
            assert memory["pinned"] == (key in plain.pinned)
            assert memory["history"][0] == "remembered"
        fresh = [key for key, said in groups.items() if said[0]["expires_at"] != PAST]
        assert seen["recalled"] == sorted(by_identity[key] for key in fresh)
        assert seen["risen"] == []
        assert set(seen["ends"]) <= {"forgotten"}

    # --- what happens ----------------------------------------------------------------------------

    @rule(party=PARTIES, scope=SCOPE, given=st.lists(MESSAGES, min_size=1, max_size=4))
    def remember(self, party: str, scope: str, given: list[Json]) -> None:
        said = []
        for message in given:
            self.number += 1
            said.append({"id": f"m{self.number}", **message})
        done = self._do(party, "remember", scope, said)
        assert done["ids"] == [message["id"] for message in said]
        before = self.model[scope].groups()
        plain = self.model[scope].messages
        blank: Json = {
            "session": None,
            "name": None,
            "tags": [],
            "metadata": {},
            "expires_at": None,
        }
        plain += [{**blank, **message} for message in said]
        assert done["made"] == len(self.model[scope].groups().keys() - before.keys())
        self._check(party, scope)

    @rule(party=PARTIES, scope=SCOPE, pick=PICK, content=st.sampled_from(sorted(SAME_AS)))
    def say_an_id_again(self, party: str, scope: str, pick: int, content: str) -> None:
        if not self.model[scope].messages:
            return
        known = self.model[scope].messages[pick % len(self.model[scope].messages)]
        again = {key: value for key, value in known.items() if value is not None}
        done = self._do(party, "remember", scope, [{**again, "content": content}])
        if content == known["content"]:
            assert done["state"] == "unchanged"
        else:
            assert done == {"error": IdConflict.code}
        self._check(party, scope)

    @rule(party=PARTIES, scope=SCOPE, pick=PICK)
    def forget_a_memory(self, party: str, scope: str, pick: int) -> None:
        plain = self.model[scope]
        if not plain.ids:
            return
        key = sorted(plain.ids)[pick % len(plain.ids)]
        done = self._do(party, "forget", scope, plain.ids[key], None, None)
        gone = plain.remove(lambda message: identity(message) == key)
        assert (done["messages"], done["state"] != "absent") == (gone, True)
        self._check(party, scope)

    @rule(party=PARTIES, scope=SCOPE, pick=PICK)
    def forget_a_message(self, party: str, scope: str, pick: int) -> None:
        plain = self.model[scope]
        if not plain.messages:
            return
        known = plain.messages[pick % len(plain.messages)]
        done = self._do(party, "forget", scope, None, known["id"], known["session"])
        assert done["messages"] == plain.remove(lambda m: m["id"] == known["id"]) == 1
        self._check(party, scope)

    @rule(party=PARTIES, scope=SCOPE, session=st.sampled_from(["s1", "s2", "s3"]))
    def forget_a_session(self, party: str, scope: str, session: str) -> None:
        done = self._do(party, "forget_session", scope, session)
        assert done["messages"] == self.model[scope].remove(lambda m: m["session"] == session)
        self._check(party, scope)

    @rule(party=PARTIES, scope=SCOPE, really=st.integers(0, 3))
    def forget_all_of_it(self, party: str, scope: str, really: int) -> None:
        if really:
            return
        done = self._do(party, "forget_everything", scope)
        assert done["messages"] == self.model[scope].remove(lambda _: True)
        self._check(party, scope)

    @rule(party=PARTIES, scope=SCOPE, pick=PICK, do=st.sampled_from(["pin", "unpin"]))
    def pin(self, party: str, scope: str, pick: int, do: str) -> None:
        plain = self.model[scope]
        known = sorted(plain.ids)
        if not known:
            return
        key = known[pick % len(known)]
        assert self._do(party, do, scope, plain.ids[key]) is True
        (plain.pinned.add if do == "pin" else plain.pinned.discard)(key)
        self._check(party, scope)

    @rule(scope=SCOPE)
    def export_and_import(self, scope: str) -> None:
        """Into a new scope it comes as it was; into its own it changes nothing."""
        self.number += 1
        copy, file = f"user:copy {self.number}", self.folder / "export.jsonl"
        one, two = self.memories["one"], self.memories["two"]
        file.write_text("\n".join(export_lines(handle_of(one, scope))), "utf-8")
        report = import_file(two, file, into=handle_of(two, copy))
        assert report.messages == len(self.model[scope].messages)
        self.model[copy] = deepcopy(self.model[scope])
        self.model[copy].erased = []
        self._check("two", copy)
        report = import_file(one, file, into=handle_of(one, scope))
        assert (report.messages, report.memories) == (0, 0)
        self._check("one", scope)

    @rule()
    def reopen(self) -> None:
        self._close()
        self._open()

    @rule(failing=st.booleans())
    def let_the_model_fail_or_come_back(self, failing: bool) -> None:
        self.failing.failing = failing
        if not failing:
            stats = self.memories["one"].operator.upkeep()
            assert all(scope.without_vector == 0 for scope in stats.scopes)
            assert stats.jobs == {}

    @rule()
    def move_to_another_embedder(self) -> None:
        self._close()
        self.embedder = "other" if self.embedder == "fake" else "fake"
        with open_memory(self.db, FakeEmbedder(self.embedder)) as memory:
            memory.operator.reembed()
        self._open()

    @rule()
    def back_up(self) -> None:
        file = self.folder / "backup.db"
        self.memories["two"].operator.backup(file, replace=True)
        self.saved = file, deepcopy(self.model), self.embedder

    @precondition(lambda self: self.saved is not None and self.saved[2] == self.embedder)
    @rule()
    def restore(self) -> None:
        assert self.saved is not None
        Memory.restore(self.saved[0], self.db, replace=True)
        before, self.model = self.model, deepcopy(self.saved[1])
        for scope in before.keys() - self.model.keys():
            self.model[scope] = Plain()
        for scope in self.model:
            self._check("one", scope)

    @rule()
    def look_the_store_over(self) -> None:
        findings = self.memories["two"].operator.check()
        assert [finding.check for finding in findings if not finding.ok] in ([], ["vectors"])
        stats = self.memories["one"].operator.stats()
        counted = {str(scope.scope): (scope.messages, scope.memories) for scope in stats.scopes}
        model = {
            scope: (len(plain.messages), len(plain.groups())) for scope, plain in self.model.items()
        }
        held = {scope: counts for scope, counts in counted.items() if counts != (0, 0)}
        assert held == {scope: counts for scope, counts in model.items() if counts != (0, 0)}


LONG = os.environ.get("MNEMIC_TEST_PROFILE") == "long"
CHECKS = settings(
    max_examples=80 if LONG else 10,
    stateful_step_count=50 if LONG else 30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


def test_a_life_of_memories() -> None:
    run_state_machine_as_test(Life, settings=CHECKS)


# --- the machine is able to fail -------------------------------------------------------------------


@contextmanager
def rows_that_stay(patch: pytest.MonkeyPatch) -> Iterator[None]:
    patch.setattr(erasing, "drop_records", lambda *_: None)
    yield


@contextmanager
def a_cache_that_isnt_refreshed(patch: pytest.MonkeyPatch) -> Iterator[None]:
    refreshed = ResidentIndexes._refreshed

    def stale(self: Any, scope: Any, embedder: Any, old: Any) -> Any:
        return refreshed(self, scope, embedder, old) if old is None else old

    patch.setattr(ResidentIndexes, "_refreshed", stale)
    yield


@contextmanager
def scopes_that_mix(patch: pytest.MonkeyPatch) -> Iterator[None]:
    key = Scope.key.fget  # type: ignore[attr-defined]
    patch.setattr(Scope, "key", property(lambda self: key(Scope("default", "user", self.name))))
    yield


@contextmanager
def pins_that_are_lost(patch: pytest.MonkeyPatch) -> Iterator[None]:
    patch.setattr(ScopedMemory, "pin", lambda self, id: self.get(id) is not None)
    yield


BROKEN = [rows_that_stay, a_cache_that_isnt_refreshed, scopes_that_mix, pins_that_are_lost]


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: str(broken.__name__))
def test_the_machine_finds(broken: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = settings(CHECKS, max_examples=300, derandomize=True, phases=[Phase.generate])
    quick = settings(quick, report_multiple_bugs=False)
    with broken(monkeypatch), pytest.raises(AssertionError):
        run_state_machine_as_test(Life, settings=quick)
