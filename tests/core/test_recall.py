"""What `recall` answers: everything committed before, within what was asked for, with reasons."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemic.errors import InputError
from mnemic.memory import Memory, ScopedMemory
from mnemic.models.tokens import count_tokens
from mnemic.records import Kind, Recall
from mnemic.retrieval.features import FEATURES
from mnemic.stores import schema
from tests.fakes import environment, new_memory, open_memory

MAY = datetime(2023, 5, 8, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def texts(found: Recall) -> list[str]:
    return [hit.memory.text for hit in found]


@pytest.fixture
def diary(ana: ScopedMemory) -> ScopedMemory:
    """Ten days, a message a day, in two sessions."""
    things = "tea coffee bread rice soup plums figs pears milk salt".split()
    ana.remember(
        [
            {
                "content": f"I bought {thing} today",
                "said_at": MAY + DAY * number,
                "session": "first" if number < 5 else "second",
                "tags": ["shop", "even"] if number % 2 == 0 else ["shop"],
                "metadata": {"number": number, "shop": {"name": "corner"}},
            }
            for number, thing in enumerate(things)
        ]
    )
    return ana


# --- reading one's own writes ---------------------------------------------------------------------


def test_a_write_is_seen_by_the_next_question(memory: Memory, ana: ScopedMemory) -> None:
    for number in range(20):
        ana.remember(f"The code of door {number} is {number * 37 + 1000}.")
        hit = ana.recall(f"code of door {number}", limit=1)[0]
        assert hit.memory.text == f"The code of door {number} is {number * 37 + 1000}."
        assert memory.user("ana").recall(f"code of door {number}", limit=1)[0] == hit


def test_a_write_is_seen_by_another_memory_on_the_file(memory: Memory, db: Path) -> None:
    with open_memory(db) as other:
        assert len(other.user("ana").recall("Where do I live?")) == 0
        memory.user("ana").remember("I live in Lisbon.")
        assert texts(other.user("ana").recall("Where do I live?")) == ["I live in Lisbon."]
        [record] = other.user("ana").iter_memories()
        other.user("ana").forget(record.id)
        assert len(memory.user("ana").recall("Where do I live?")) == 0


OTHER_PROCESS = """
import sys
from pathlib import Path
from tests.fakes import open_memory
with open_memory(Path(sys.argv[1])) as memory:
    ana = memory.user("ana")
    print("ready", flush=True)
    for line in sys.stdin:
        word, _, rest = line.strip().partition(" ")
        if word == "remember":
            ana.remember(rest)
            print("done", flush=True)
        else:
            print("|".join(hit.memory.text for hit in ana.recall(rest)), flush=True)
"""


def test_a_write_is_seen_by_another_process(ana: ScopedMemory, db: Path) -> None:
    command = [sys.executable, "-c", OTHER_PROCESS, str(db)]
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes, env=environment()) as other:
        into: Any = other.stdin
        out: Any = other.stdout

        def ask(line: str) -> str:
            into.write(f"{line}\n")
            into.flush()
            return str(out.readline()).strip()

        assert out.readline().strip() == "ready"
        assert ask("recall Where do I live?") == ""
        ana.remember("I live in Lisbon.")
        assert ask("recall Where do I live?") == "I live in Lisbon."
        assert ask("remember My cat is Minka.") == "done"
        assert texts(ana.recall("Who is my cat?"))[0] == "My cat is Minka."
        ana.forget_everything()
        assert ask("recall Where do I live?") == ""
        into.close()
        assert other.wait(timeout=30) == 0


def test_an_unknown_user_recalls_nothing(memory: Memory, ana: ScopedMemory) -> None:
    assert list(ana.recall("anything")) == []
    ana.remember("I live in Lisbon.")
    found = memory.user("nobody").recall("Where do I live?")
    assert (len(found), found.text, found.tokens) == (0, "", 0)
    assert [str(scope) for scope in memory.operator.scopes()] == ["user:ana"]


# --- how much -------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 3, 10, 11])
def test_the_limit_bounds_the_hits(diary: ScopedMemory, limit: int) -> None:
    every = diary.recall("What did I buy?", limit=10_000)
    found = diary.recall("What did I buy?", limit=limit)
    assert len(every) == 10
    assert list(found) == list(every)[:limit]
    scores = [hit.score for hit in found]
    assert scores == sorted(scores, reverse=True)


ANY_TEXT = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=80
).filter(lambda text: text.strip() != "")


@pytest.mark.usefixtures("tokens_ready")
@given(st.lists(ANY_TEXT, min_size=1, max_size=8), st.integers(1, 120))
def test_the_budget_is_never_exceeded(said: list[str], budget: int) -> None:
    with new_memory() as memory:
        ana = memory.user("ana")
        ana.remember(said)
        found = ana.recall("What was said?", budget=budget, limit=50)
        every = ana.recall("What was said?", limit=50)
    assert found.tokens == count_tokens(found.text) <= budget
    left = [hit for hit in every if hit not in list(found)]
    assert list(found) == [hit for hit in every if hit not in left]
    for hit in left:
        longer = "\n".join([found.text, hit.memory.render()]) if found else hit.memory.render()
        assert count_tokens(longer) > budget - 2


@pytest.mark.usefixtures("tokens_ready")
def test_a_hit_too_long_for_the_budget_makes_way_for_a_shorter(ana: ScopedMemory) -> None:
    ana.remember(["cat " * 200, "My cat is Minka."])
    assert ana.recall("cat", limit=1)[0].memory.text.startswith("cat cat")
    assert texts(ana.recall("cat", budget=40)) == ["My cat is Minka."]


# --- filters --------------------------------------------------------------------------------------


def test_kinds_choose_among_episodic_semantic_and_procedural(
    memory: Memory, ana: ScopedMemory
) -> None:
    ids = ana.remember(["I like tea", "I like milk", "I like plums"]).memory_ids
    kinds: tuple[Kind, ...] = ("episodic", "semantic", "procedural")
    with memory._core.database.write() as connection:
        for number, kind in enumerate(kinds):
            key = bytes.fromhex(ids[number].replace("-", ""))
            row = schema.records.update().where(schema.records.c.id == key)
            connection.execute(row.values(kind=kind))
    for kind, text in zip(kinds, ["I like tea", "I like milk", "I like plums"], strict=True):
        assert texts(ana.recall("What do I like?", kinds=[kind])) == [text]
    assert len(ana.recall("What do I like?", kinds=["semantic", "procedural"])) == 2
    assert len(ana.recall("What do I like?", kinds=[])) == 0
    # Instructions are no evidence: they answer only where they are asked for.
    assert texts(ana.recall("What do I like?")).count("I like plums") == 0
    assert len(ana.recall("What do I like?")) == 2


def test_since_is_inclusive_and_until_exclusive(diary: ScopedMemory) -> None:
    def bought(**narrowed: Any) -> set[str]:
        return {text.split()[2] for text in texts(diary.recall("What did I buy?", **narrowed))}

    assert bought(since=MAY + DAY * 8) == {"milk", "salt"}
    assert bought(until=MAY + DAY * 2) == {"tea", "coffee"}
    assert bought(since=MAY + DAY * 3, until=MAY + DAY * 5) == {"rice", "soup"}
    assert bought(since="2023-05-16T14:00:00+02:00") == {"milk", "salt"}
    assert bought(since=MAY + DAY * 8 + timedelta(microseconds=1)) == {"salt"}
    assert bought(since=MAY, until=MAY) == set()


def test_a_repeat_said_in_the_window_counts(ana: ScopedMemory) -> None:
    ana.remember({"content": "I like tea", "said_at": MAY, "session": "s1"})
    ana.remember({"content": "I like milk", "said_at": MAY, "session": "s1"})
    ana.remember({"content": "i like TEA", "said_at": MAY + DAY * 30, "session": "s2"})
    window: dict[str, Any] = {"since": MAY + DAY * 29, "until": MAY + DAY * 31}
    assert texts(ana.recall("What do I like?", **window)) == ["I like tea"]
    assert texts(ana.recall("What do I like?", in_session="s2")) == ["I like tea"]
    assert len(ana.recall("What do I like?", in_session="s1")) == 2
    # Both must hold of one and the same time it was said.
    assert texts(ana.recall("What do I like?", in_session="s1", since=MAY + DAY)) == []


def test_in_session_finds_what_was_said_there(diary: ScopedMemory) -> None:
    found = diary.recall("What did I buy?", in_session="second")
    assert {hit.memory.session for hit in found} == {"second"}
    assert len(found) == 5
    assert len(diary.recall("What did I buy?", in_session="third")) == 0


def test_where_and_tags_find_what_carries_them(diary: ScopedMemory) -> None:
    def numbers(**narrowed: Any) -> set[int]:
        found = diary.recall("What did I buy?", limit=20, **narrowed)
        return {hit.memory.metadata["number"] for hit in found}

    assert numbers(where={"number": 3}) == {3}
    assert numbers(where={"number": [3, 5, 77]}) == {3, 5}
    assert numbers(where={"number": (3, 5)}) == {3, 5}
    assert numbers(where={"number": []}) == set()
    assert numbers(where={"shop": {"name": "corner"}, "number": [1, 2]}) == {1, 2}
    assert numbers(where={"shop": {"name": "other"}}) == set()
    assert numbers(where={"missing": None}) == set()
    assert numbers(tags=["even"]) == {0, 2, 4, 6, 8}
    assert numbers(tags=["shop", "even"], where={"number": [1, 2]}) == {2}
    assert numbers(tags=["shop", "odd"]) == set()


def test_filters_leave_the_scores_alone(diary: ScopedMemory) -> None:
    every = {hit.memory.id: hit.score for hit in diary.recall("Did I buy figs?", limit=20)}
    narrowed: list[dict[str, Any]] = [
        {"tags": ["even"]},
        {"in_session": "second"},
        {"since": MAY + DAY * 6},
        {"where": {"number": [6, 8]}},
        {"kinds": ["episodic"]},
    ]
    for filters in narrowed:
        found = diary.recall("Did I buy figs?", **filters)
        assert texts(found)[0] == "I bought figs today"
        assert all(hit.score == pytest.approx(every[hit.memory.id]) for hit in found)


def test_expired_memories_do_not_come_back(ana: ScopedMemory) -> None:
    now = datetime.now(UTC)
    ana.remember({"content": "The old code is 1234", "expires_at": now - timedelta(seconds=1)})
    ana.remember({"content": "The new code is 5678", "expires_at": now + timedelta(hours=1)})
    assert texts(ana.recall("What is the code?")) == ["The new code is 5678"]


def test_a_memory_expires_while_the_index_is_resident(
    ana: ScopedMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = datetime.now(UTC) + timedelta(hours=1)
    ana.remember(["I stay", {"content": "The code is 1234", "expires_at": later}])
    assert len(ana.recall("What is the code?")) == 2
    micros = int((later + timedelta(seconds=1)).timestamp() * 1e6)
    monkeypatch.setattr("mnemic.retrieval.recall.now_micros", lambda: micros)
    assert texts(ana.recall("What is the code?")) == ["I stay"]


def test_only_current_memories_answer(memory: Memory, ana: ScopedMemory) -> None:
    old, _ = ana.remember(["I live in Porto", "I live in Lisbon"]).memory_ids
    with memory._core.database.write() as connection:
        row = schema.records.update().where(
            schema.records.c.id == bytes.fromhex(old.replace("-", ""))
        )
        connection.execute(row.values(status="superseded"))
    assert texts(ana.recall("Where do I live?")) == ["I live in Lisbon"]


# --- diversity ------------------------------------------------------------------------------------


def test_diversity_prefers_hits_that_differ(ana: ScopedMemory) -> None:
    alike = [f"My cat Minka eats fish {n}" for n in ("one", "two", "three")]
    ana.remember([*alike, "My dog Rex eats bones", "The weather was fine"])
    question = "What does my cat Minka eat?"
    assert set(texts(ana.recall(question, limit=3))) == set(alike)
    diverse = ana.recall(question, limit=3, diversity=0.7)
    assert texts(diverse)[0] in alike
    assert not set(texts(diverse)) <= set(alike)
    assert set(texts(ana.recall(question, limit=20, diversity=1.0))) == set(
        texts(ana.recall(question, limit=20))
    )


# --- reasons --------------------------------------------------------------------------------------


CHANNELS = set(FEATURES.values())


def check_reasons(found: Recall) -> None:
    for hit in found:
        assert hit.channels.keys() <= CHANNELS
        assert 0 <= hit.relevance <= 1
        assert sum(hit.channels.values()) == pytest.approx(hit.score, abs=1e-4)


def test_the_channels_add_up_to_the_score(ana: ScopedMemory) -> None:
    ana.remember(
        [
            {"name": "Ana", "content": "I bought a red bicycle", "said_at": MAY},
            {"name": "Ben", "content": "I bought a blue boat", "said_at": MAY + DAY * 40},
            {"role": "assistant", "content": "A bicycle needs oil", "said_at": MAY + DAY * 80},
        ]
    )
    found = ana.recall("What did Ana buy in May 2023?", at=MAY + DAY * 100)
    check_reasons(found)
    assert found.time_phrases == ("in May 2023",)
    best = found[0]
    assert best.memory.text == "I bought a red bicycle"
    assert best.channels.keys() == CHANNELS
    assert best.channels["speaker"] > 0.5
    assert best.channels["time"] > 1
    assert "time +" in best.why
    assert set(found.timings_ms) == {"index", "read", "embed", "score", "tokens", "rank", "load"}


@given(
    st.lists(st.sampled_from("red blue cat dog boat plum may lisbon".split()), min_size=1),
    st.lists(
        st.lists(st.sampled_from("red blue cat dog boat plum".split()), min_size=1, max_size=4),
        min_size=1,
        max_size=12,
    ),
)
def test_the_channels_of_any_question_add_up(asked: list[str], said: list[list[str]]) -> None:
    with new_memory() as memory:
        ana = memory.user("ana")
        for number, words in enumerate(said):
            role = "assistant" if number % 3 == 2 else "user"
            session = f"s{number % 2}"
            ana.remember({"role": role, "content": " ".join(words), "name": "Ana"}, session=session)
        found = ana.recall(" ".join(asked), limit=100)
        assert {hit.memory.id for hit in found} == {record.id for record in ana.iter_memories()}
        check_reasons(found)


def test_a_speaker_named_in_the_question_is_preferred(ana: ScopedMemory) -> None:
    for name in ("Ana", "Ben", "Anabel"):
        ana.remember({"name": name, "content": "My favourite colour is green"})
    for name in ("Ana", "Ben", "Anabel"):
        best = ana.recall(f"What is {name.upper()}'s favourite colour?")[0]
        assert best.memory.speaker == name
        assert best.channels["speaker"] > 0
    found = ana.recall("What is your favourite colour?")
    assert all("speaker" not in hit.channels for hit in found)


def test_words_about_the_assistant_prefer_what_it_said(ana: ScopedMemory) -> None:
    ana.remember(
        [
            {"role": "user", "content": "the book was Middlemarch"},
            {"role": "assistant", "content": "a book is Middlemarch"},
        ]
    )
    shares = {
        question: {hit.memory.source: hit.channels["source"] for hit in ana.recall(question)}
        for question in ("Which book did you recommend?", "Which book is mine?")
    }
    asked, mine = shares.values()
    assert asked["assistant"] > asked["user"] == 0
    assert mine["assistant"] < mine["user"] == 0


def test_what_was_said_around_a_match_is_lifted(ana: ScopedMemory) -> None:
    ana.remember(["Which town is your sister in now?", "It is Porto"], session="s1")
    ana.remember(["Plain words of no use", "It is raining"], session="s2")
    found = {hit.memory.text: hit for hit in ana.recall("Which town is the sister in?")}
    lifted, other = found["It is Porto"], found["It is raining"]
    assert lifted.channels["around"] > other.channels["around"]
    assert lifted.score > other.score


# --- time -----------------------------------------------------------------------------------------


def test_time_words_lift_what_was_said_then(ana: ScopedMemory) -> None:
    for month in range(1, 13):
        moment = datetime(2023, month, 15, 12, tzinfo=UTC)
        ana.remember({"content": f"We went to the beach, day {month}", "said_at": moment})
    asked = datetime(2024, 1, 10, tzinfo=UTC)
    for month, name in ((3, "March"), (8, "August")):
        found = ana.recall(f"Where did we go in {name} 2023?", at=asked)
        assert found[0].memory.said_at.month == month
        assert found.time_phrases == (f"in {name} 2023",)
    plain = {hit.memory.id: hit for hit in ana.recall("Where did we go?", at=asked, limit=20)}
    assert plain[found[0].memory.id].channels["time"] < found[0].channels["time"] - 1


def test_a_repeat_at_the_named_time_is_lifted(ana: ScopedMemory) -> None:
    ana.remember([{"content": f"I like {thing}", "said_at": MAY} for thing in ("tea", "milk")])
    ana.remember({"content": "I like milk", "said_at": datetime(2024, 2, 10, tzinfo=UTC)})
    found = ana.recall("What did I like in February 2024?", at=datetime(2024, 6, 1, tzinfo=UTC))
    assert found[0].memory.text == "I like milk"
    assert found[0].channels["time"] > found[1].channels["time"] + 1


@pytest.mark.parametrize(
    "at",
    [
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(2000, 1, 1, tzinfo=UTC),
        "2023-05-10T00:00:00+09:00",
        0,
        datetime(2023, 5, 10, tzinfo=timezone(timedelta(hours=-11))),
        datetime.max.replace(tzinfo=UTC),
        None,
    ],
)
@pytest.mark.parametrize("words", ["", " two years ago", " next year", " yesterday", " last May"])
def test_the_time_of_asking_never_filters(diary: ScopedMemory, at: Any, words: str) -> None:
    found = diary.recall(f"What did I buy{words}?", at=at, limit=20)
    assert len(found) == 10
    check_reasons(found)


def test_the_zone_of_asking_says_what_yesterday_was(ana: ScopedMemory) -> None:
    late = datetime(2023, 5, 9, 2, tzinfo=UTC)  # still the 8th in New York
    ana.remember({"content": "I ate figs", "said_at": late})
    ana.remember({"content": "I ate plums", "said_at": late - DAY})
    at = datetime(2023, 5, 9, 12, tzinfo=timezone(timedelta(hours=-4)))
    found = ana.recall("What did I eat yesterday?", at=at)
    assert found[0].memory.text == "I ate figs"
    assert found[0].channels["time"] > found[1].channels["time"]


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize("question", ["", "  \n", None, 5, b"x", "a\x00b", "\ud800", "x" * 100_001])
def test_a_bad_question_is_refused(diary: ScopedMemory, question: Any) -> None:
    with pytest.raises(InputError):
        diary.recall(question)


BAD: list[dict[str, Any]] = [
    {"limit": 0},
    {"limit": -1},
    {"limit": 10_001},
    {"limit": 1.5},
    {"limit": True},
    {"limit": None},
    {"limit": "5"},
    {"budget": 0},
    {"budget": 10_000_001},
    {"budget": 2.5},
    {"at": datetime(2023, 5, 8)},
    {"at": "2023-05-08"},
    {"at": "yesterday"},
    {"at": float("nan")},
    {"at": MAY.date()},
    {"since": datetime(2023, 5, 8)},
    {"until": "soon"},
    {"until": []},
    {"kinds": ["dreams"]},
    {"kinds": "dreams"},
    {"kinds": 5},
    {"kinds": [["episodic"]]},
    {"in_session": ""},
    {"in_session": 5},
    {"where": "shop"},
    {"where": {"a": {1, 2}}},
    {"where": {"a": float("nan")}},
    {"tags": "shop"},
    {"tags": 5},
    {"tags": [5]},
    {"tags": [""]},
    {"diversity": -0.1},
    {"diversity": 1.1},
    {"diversity": float("nan")},
    {"diversity": True},
    {"diversity": "much"},
]


@pytest.mark.parametrize("bad", BAD, ids=repr)
def test_a_bad_argument_is_refused(diary: ScopedMemory, bad: dict[str, Any]) -> None:
    with pytest.raises(InputError) as refused:
        diary.recall("What did I buy?", **bad)
    assert next(iter(bad)).rstrip("s").split("_")[-1] in str(refused.value)


def test_a_bad_argument_is_refused_before_anything_is_there(ana: ScopedMemory) -> None:
    with pytest.raises(InputError):
        ana.recall("What did I buy?", limit=0)


def test_a_recall_is_a_sequence(diary: ScopedMemory) -> None:
    found = diary.recall("What did I buy?", limit=4)
    assert isinstance(found, Sequence)
    assert (len(found), found[-1], found[:2]) == (4, list(found)[3], tuple(found)[:2])
    assert found.text.splitlines() == [hit.memory.render() for hit in found]
    assert found.query == "What did I buy?"
    iterator: Iterator[Any] = iter(found)
    assert next(iterator) in found
