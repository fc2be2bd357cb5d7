"""Scopes: no call returns, changes or counts what belongs to another, whatever it is called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemic.errors import IdConflict
from mnemic.memory import Memory, ScopedMemory, Tenant
from mnemic.records import Scope, ScopeKind
from tests.fakes import new_memory

TENANTS = ("default", "acme")
PLACES: tuple[tuple[ScopeKind, str], ...] = (
    ("user", "ana"),
    ("user", "ben"),
    ("agent", "ana"),
    ("shared", "ana"),
)
KEYS = [(tenant, kind, name) for tenant in TENANTS for kind, name in PLACES]
# The same texts, ids and sessions everywhere.
TEXTS = ["red cat", "blue boat", "green plum", "old town", "new song"]
IDS = ["m1", "m2", "m3"]
SESSIONS = ["s1", "s2", None]

Key = tuple[str, ScopeKind, str]
Said = dict[tuple[str | None, str], str]

STEP = st.tuples(
    st.sampled_from(KEYS),
    st.one_of(
        st.tuples(
            st.just("remember"),
            st.sampled_from(TEXTS),
            st.sampled_from(IDS),
            st.sampled_from(SESSIONS),
        ),
        st.tuples(
            st.just("forget message"),
            st.none(),
            st.sampled_from(IDS),
            st.sampled_from(SESSIONS[:2]),
        ),
        st.tuples(st.just("forget memory"), st.sampled_from(TEXTS), st.none(), st.none()),
        st.tuples(st.just("remember fact"), st.sampled_from(TEXTS), st.none(), st.none()),
        st.tuples(st.just("forget fact"), st.sampled_from(TEXTS), st.none(), st.none()),
        st.tuples(st.just("forget session"), st.none(), st.none(), st.sampled_from(SESSIONS[:2])),
        st.tuples(st.just("forget everything"), st.none(), st.none(), st.none()),
        st.tuples(st.just("pin"), st.sampled_from(TEXTS), st.none(), st.none()),
        st.tuples(st.just("use others' ids"), st.none(), st.none(), st.none()),
    ),
)


def handle_of(memory: Memory, key: Key) -> ScopedMemory:
    tenant, kind, name = key
    within: Memory | Tenant = memory if tenant == "default" else memory.tenant(tenant)
    openers: dict[ScopeKind, Callable[[str], ScopedMemory]] = {
        "user": within.user,
        "agent": within.agent,
        "shared": within.shared,
    }
    return openers[kind](name)


class World:
    """A memory, and beside it what plain dicts say that it should hold."""

    def __init__(self, memory: Memory) -> None:
        self.handles = {key: handle_of(memory, key) for key in KEYS}
        self.said: dict[Key, Said] = {key: {} for key in KEYS}
        self.facts: dict[Key, dict[str, str]] = {key: {} for key in KEYS}  # ids by text
        self.pinned: dict[Key, set[str]] = {key: set() for key in KEYS}

    def take(self, key: Key, step: tuple[Any, ...]) -> None:
        what, text, id, session = step
        handle, said = self.handles[key], self.said[key]
        if what == "remember":
            self._remember(handle, said, (session, id), text)
        elif what == "forget message":
            erasure = handle.forget(message_id=id, session=session)
            assert erasure.messages == ((session, id) in said)
            said.pop((session, id), None)
        elif what == "forget memory":
            ids = [r.id for r in handle.iter_memories() if r.text == text and r.kind == "episodic"]
            gone = [place for place, content in said.items() if content == text]
            assert [handle.forget(one).messages for one in ids] == ([len(gone)] if gone else [])
            self.said[key] = {p: content for p, content in said.items() if content != text}
        elif what == "remember fact":
            id = handle.facts.remember(text).id
            assert self.facts[key].setdefault(text, id) == id
        elif what == "forget fact":
            known = self.facts[key].pop(text, None)
            assert known is None or handle.forget(known).memories == 1
        elif what == "forget session":
            rest = {p: content for p, content in said.items() if p[0] != session}
            assert handle.forget_session(session).messages == len(said) - len(rest)
            self.said[key] = rest
        elif what == "forget everything":
            assert handle.forget_everything().messages == len(said)
            said.clear()
            self.facts[key].clear()
        elif what == "pin":
            self._pin(key, text)
        else:
            self._use_ids_of_others(key)

    def _remember(
        self, handle: ScopedMemory, said: Said, place: tuple[str | None, str], text: str
    ) -> None:
        message = {"id": place[1], "content": text, "session": place[0]}
        if said.get(place, text) == text:
            assert (handle.remember(message).state == "unchanged") == (place in said)
            said[place] = text
        else:
            with pytest.raises(IdConflict):
                handle.remember(message)

    def _pin(self, key: Key, text: str) -> None:
        for record in self.handles[key].iter_memories():
            if record.text == text:
                assert self.handles[key].pin(record.id)
                self.pinned[key].add(record.id)

    def _use_ids_of_others(self, key: Key) -> None:
        handle = self.handles[key]
        for other in KEYS:
            for record in self.handles[other].iter_memories() if other != key else ():
                assert handle.get(record.id) is None
                assert handle.history(record.id) == []
                assert not handle.pin(record.id)
                assert not handle.unpin(record.id)
                assert handle.forget(record.id).state == "absent"
                assert handle.facts.get(record.id) is None
                assert handle.facts.forget(record.id).state == "absent"

    def check(self, memory: Memory) -> None:
        counted = {
            (s.scope.tenant, s.scope.kind, s.scope.name): (s.messages, s.memories, s.without_vector)
            for s in memory.operator.stats().scopes
        }
        for key, handle in self.handles.items():
            said = self.said[key]
            facts = self.facts[key]
            memories = len(set(said.values())) + len(facts)
            assert counted.get(key, (0, 0, 0)) == (len(said), memories, 0)
            assert {fact.text: fact.id for fact in handle.facts.iter_facts()} == facts
            assert {fact.id for fact in handle.facts.profile()} == set(facts.values())
            messages = [item.message for item in handle._message_page(0, 100)]
            assert {(m.session, m.id): m.content for m in messages} == said
            assert len(messages) == len(said)
            records = {record.id: record for record in handle.iter_memories()}
            assert sorted(r.text for r in records.values()) == sorted([*set(said.values()), *facts])
            for record in records.values():
                ids = {place[1] for place, content in said.items() if content == record.text}
                if record.kind == "semantic":
                    ids = set()
                assert set(record.message_ids) == ids
                assert record.pinned == (record.id in self.pinned[key])
            found = handle.recall("red blue green old new", limit=100)
            assert {hit.memory.id: hit.memory for hit in found} == records
            for session in ("s1", "s2"):
                there = {text for place, text in said.items() if place[0] == session}
                found = handle.recall("red cat", limit=100, in_session=session)
                assert {hit.memory.text for hit in found} == there


@given(st.lists(STEP, max_size=25))
def test_no_scope_sees_or_changes_another(steps: list[tuple[Key, tuple[Any, ...]]]) -> None:
    with new_memory() as memory:
        world = World(memory)
        for number, (key, step) in enumerate(steps):
            world.take(key, step)
            if number % 8 == 7:
                world.check(memory)
        world.check(memory)


def test_ids_of_another_scope_do_nothing(memory: Memory) -> None:
    ana, ben = memory.user("ana"), memory.user("ben")
    [id] = ana.remember({"id": "m1", "content": "My PIN is 4711"}, session="s1").memory_ids
    before = memory.operator.stats().scopes
    assert ben.get(id) is None
    assert ben.history(id) == []
    assert ben.pin(id) is ben.unpin(id) is False
    assert ben.forget(id).state == "absent"
    assert ben.forget(message_id="m1").state == "absent"
    assert ben.forget(message_id="m1", session="s1").state == "absent"
    assert ben.forget_session("s1").state == "absent"
    assert ben.forget_everything().state == "absent"
    assert list(ben.recall("PIN")) == []
    assert list(ben.iter_memories()) == []
    assert memory.operator.stats().scopes == before
    assert ana.get(id) is not None


NAMES = [
    "a/b",
    "a",
    "b",
    "/",
    "user:x",
    "x",
    "acme/user:x",
    ":x",
    "user",
    "User:x",
    "X",
    "x ",
    " x",
    "x\n",
    "%",
    "_",
    "x%",
    "a'b",
    'a"; DROP TABLE messages; --',
    "é",
    "e\u0301",
    "\uff41",  # a fullwidth "a"
    "\u0430na",  # a Cyrillic "a"
    "ana",
    "ana\u200b",
    "👩‍👩‍👧",
    "|",
    "1|32|fake",
    "\\",
    "n" * 512,
    "n" * 511,
]


def test_odd_names_never_collide(memory: Memory) -> None:
    handles = [
        handle
        for name in NAMES
        for handle in (memory.user(name), memory.agent(name), memory.tenant(name).user("x"))
    ]
    assert len({handle.scope.key for handle in handles}) == len(handles)
    for number, handle in enumerate(handles):
        handle.remember({"id": "m", "content": f"word{number}"}, session="s")
    for number, handle in enumerate(handles):
        assert [hit.memory.text for hit in handle.recall("word")] == [f"word{number}"]
    assert sorted(map(str, memory.operator.scopes())) == sorted(str(h.scope) for h in handles)
    for number, handle in enumerate(handles):
        if number % 2:
            assert handle.forget_everything().messages == 1
    for number, handle in enumerate(handles):
        assert len(list(handle.iter_memories())) == (number + 1) % 2


PART = st.text("abc:/|\u00e9 ", min_size=1, max_size=4)


@given(
    st.tuples(PART, st.sampled_from(["user", "agent", "shared"]), PART),
    st.tuples(PART, st.sampled_from(["user", "agent", "shared"]), PART),
)
def test_two_scopes_share_a_key_only_if_they_are_one(one: Key, other: Key) -> None:
    assert (Scope(*one).key == Scope(*other).key) == (one == other)


def test_odd_sessions_and_message_ids_never_collide(ana: ScopedMemory) -> None:
    for session in NAMES:
        ana.remember([{"id": id, "content": f"{session} {id}"} for id in NAMES], session=session)
    assert len(list(ana._message_page(0, 10_000))) == len(NAMES) ** 2
    for session in NAMES[::5]:
        for id in NAMES[::3]:
            assert ana.forget(message_id=id, session=session).messages == 1
        rest = len(NAMES) - len(NAMES[::3])
        found = ana.recall("anything", in_session=session, limit=100)
        assert sum(len(hit.memory.message_ids) > 0 for hit in found) <= rest
        assert ana.forget_session(session).messages == rest


@pytest.mark.parametrize("name", ["default", "Default"])
def test_the_default_tenant_is_a_tenant_like_others(memory: Memory, name: str) -> None:
    memory.user("ana").remember("red cat")
    seen = [record.text for record in memory.tenant(name).user("ana").iter_memories()]
    assert seen == (["red cat"] if name == "default" else [])
