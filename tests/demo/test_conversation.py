"""The demo conversation is well formed and its labels hold together."""

import json
import re
from collections import Counter
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

Doc = dict[str, Any]
Messages = list[dict[str, Any]]
Times = dict[str, datetime]

DEMO = Path(__file__).resolve().parents[2] / "src" / "mnemic" / "demo"


@pytest.fixture(scope="module")
def doc() -> Doc:
    read: Doc = json.loads((DEMO / "conversation.json").read_text(encoding="utf-8"))
    return read


@pytest.fixture(scope="module")
def messages(doc: Doc) -> Messages:
    return [message for session in doc["sessions"] for message in session["messages"]]


@pytest.fixture(scope="module")
def said_at(messages: Messages) -> Times:
    return {message["id"]: datetime.fromisoformat(message["said_at"]) for message in messages}


def test_top_level_fields(doc: Doc) -> None:
    assert set(doc) == {"title", "license", "user", "timezone", "sessions", "questions"}
    assert doc["title"]
    assert doc["license"] == "CC-BY-4.0"
    assert doc["user"] == "maya"
    assert doc["timezone"] == "Europe/London"


def test_sessions_and_messages_are_many_enough(doc: Doc, messages: Messages) -> None:
    assert len(doc["sessions"]) >= 10
    assert len(messages) >= 180
    for session in doc["sessions"]:
        assert 14 <= len(session["messages"]) <= 24, session["id"]


def test_message_fields(doc: Doc, messages: Messages) -> None:
    for message in messages:
        assert set(message) == {"id", "role", "name", "content", "said_at"}
        assert message["role"] == "user"
        assert message["content"].strip()
    for session in doc["sessions"]:
        assert {message["name"] for message in session["messages"]} == {"Maya", "Daniel"}


def test_ids_are_unique_and_in_order(doc: Doc, messages: Messages) -> None:
    sessions = [session["id"] for session in doc["sessions"]]
    assert sessions == [f"s{n:02d}" for n in range(1, len(sessions) + 1)]
    for session in doc["sessions"]:
        ids = [message["id"] for message in session["messages"]]
        assert ids == [f"{session['id']}-{n:02d}" for n in range(1, len(ids) + 1)]
    assert len({message["id"] for message in messages}) == len(messages)
    questions = [question["id"] for question in doc["questions"]]
    assert questions == [f"q{n:02d}" for n in range(1, len(questions) + 1)]


def test_times_have_the_right_offset_and_rise(messages: Messages, said_at: Times) -> None:
    times = [said_at[message["id"]] for message in messages]
    assert all(earlier < later for earlier, later in pairwise(times))
    # In 2025 British Summer Time ran from 30 March to 26 October.
    summer_begins = datetime.fromisoformat("2025-03-30T01:00:00+00:00")
    summer_ends = datetime.fromisoformat("2025-10-26T01:00:00+00:00")
    for time in times:
        assert time.tzinfo is not None
        hours = 1 if summer_begins <= time < summer_ends else 0
        assert time.utcoffset() == timedelta(hours=hours), time


def test_sessions_span_a_year(doc: Doc, said_at: Times) -> None:
    first = said_at[doc["sessions"][0]["messages"][0]["id"]]
    last = said_at[doc["sessions"][-1]["messages"][-1]["id"]]
    assert last - first > timedelta(days=330)


def test_a_session_is_one_sitting(doc: Doc, said_at: Times) -> None:
    for session in doc["sessions"]:
        times = [said_at[message["id"]] for message in session["messages"]]
        assert times[-1] - times[0] < timedelta(hours=2), session["id"]


def test_category_counts(doc: Doc) -> None:
    counts = Counter(question["category"] for question in doc["questions"])
    assert set(counts) == {"single-hop", "multi-hop", "temporal", "update", "unanswerable"}
    assert len(doc["questions"]) >= 60
    assert counts["single-hop"] >= 25
    assert counts["multi-hop"] >= 12
    assert counts["temporal"] >= 12
    assert counts["update"] >= 8
    assert counts["unanswerable"] >= 5


def test_question_fields(doc: Doc) -> None:
    required = {"id", "question", "at", "answer", "evidence", "category", "demo"}
    for question in doc["questions"]:
        extra = {"superseded"} if question["category"] == "update" else set()
        assert set(question) == required | extra, question["id"]
        assert question["question"].endswith("?")
        assert question["answer"].strip()
        assert isinstance(question["demo"], bool)
        assert datetime.fromisoformat(question["at"]).tzinfo is not None
    texts = [question["question"] for question in doc["questions"]]
    assert len(set(texts)) == len(texts)


def test_evidence_exists_and_was_said_before_the_question(doc: Doc, said_at: Times) -> None:
    for question in doc["questions"]:
        evidence = question["evidence"]
        assert len(set(evidence)) == len(evidence), question["id"]
        for message_id in evidence:
            assert message_id in said_at, (question["id"], message_id)
            assert said_at[message_id] < datetime.fromisoformat(question["at"]), question["id"]


def test_evidence_fits_the_category(doc: Doc) -> None:
    for question in doc["questions"]:
        found = len(question["evidence"])
        if question["category"] == "unanswerable":
            assert found == 0, question["id"]
        elif question["category"] == "single-hop":
            assert found == 1, question["id"]
        elif question["category"] == "multi-hop":
            assert found >= 2, question["id"]
        else:
            assert found >= 1, question["id"]


def test_superseded_statements_are_older_than_the_evidence(doc: Doc, said_at: Times) -> None:
    for question in doc["questions"]:
        if question["category"] != "update":
            continue
        assert question["superseded"], question["id"]
        for old in question["superseded"]:
            assert old in said_at, (question["id"], old)
            assert all(said_at[old] < said_at[new] for new in question["evidence"]), question["id"]


def test_demo_dozen(doc: Doc) -> None:
    demo = [question for question in doc["questions"] if question["demo"]]
    counts = Counter(question["category"] for question in demo)
    assert len(demo) == 12
    assert counts["unanswerable"] == 1
    assert counts["update"] == 2
    assert counts["temporal"] == 3
    assert counts["single-hop"] >= 1
    assert counts["multi-hop"] >= 1


def test_phone_numbers_are_fictitious(messages: Messages) -> None:
    text = "\n".join(message["content"] for message in messages)
    assert set(re.findall(r"\b\d{3}-\d{4}\b", text)) == {"555-0142", "555-0187"}
    assert not re.search(r"\b\d{5,}\b", text.replace("HB-40718", ""))


def test_data_card_states_the_counts() -> None:
    card = (DEMO / "README.md").read_text(encoding="utf-8")
    files = sorted(DEMO.glob("*.json"))
    messages = questions = 0
    for path in files:
        talk = json.loads(path.read_text(encoding="utf-8"))
        said = sum(len(session["messages"]) for session in talk["sessions"])
        counts = f"{len(talk['sessions'])} | {said} | {len(talk['questions'])} |"
        assert any(f"`{path.name}`" in line and counts in line for line in card.splitlines()), path
        messages, questions = messages + said, questions + len(talk["questions"])
    assert f"{messages:,} messages and {questions:,} questions in all" in card
