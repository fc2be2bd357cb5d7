"""Readers of labelled data: what they take over, and what they refuse."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from mnemic.errors import InputError
from mnemic.evaluation.datasets import read_data, shipped


def written(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), "utf-8")
    return path


def test_locomo_evidence_that_is_joined_or_not_there(tmp_path: Path) -> None:
    talk = {
        "session_1_date_time": "1:56 pm on 8 May, 2023",
        "session_1": [
            {"speaker": "A", "dia_id": "D1:1", "text": "one"},
            {"speaker": "B", "dia_id": "D1:2", "text": "two"},
        ],
    }
    qa = [
        {"question": "q", "answer": 3, "evidence": ["D1:1; D1:2", "D9:9"], "category": 1},
        {"question": "never", "evidence": ["D1:1"], "category": 5, "adversarial_answer": "x"},
    ]
    sample = {"sample_id": "s", "conversation": talk, "qa": qa}
    (read,) = read_data(written(tmp_path / "l.json", [sample]), "locomo")
    first, second = read.questions
    assert first.evidence == ("D1:1", "D1:2")
    assert first.counts
    assert not second.counts
    assert first.at is not None
    assert first.at > datetime(2023, 5, 8, tzinfo=UTC)


def test_longmemeval_hides_which_session_holds_evidence(tmp_path: Path) -> None:
    question = {
        "question_id": "q1_abs",
        "question_type": "multi-session",
        "question": "q",
        "question_date": "2023/05/30 (Tue) 23:40",
        "answer": "a",
        "answer_session_ids": ["answer_7"],
        "haystack_dates": ["2023/05/20 (Sat) 03:21"] * 2,
        "haystack_session_ids": ["plain", "answer_7"],
        "haystack_sessions": [
            [{"role": "user", "content": "x"}],
            [{"role": "user", "content": ""}, {"role": "user", "content": "y", "has_answer": True}],
        ],
    }
    (read,) = read_data(written(tmp_path / "l.jsonl", question), "longmemeval")
    (asked,) = read.questions
    assert asked.evidence == ("h002:2",)
    assert asked.sessions == ("h002",)
    assert not asked.counts
    assert not any("answer" in str(message["id"]) for message in read.messages)


def test_beam_loses_its_tails_and_keeps_both_sides(tmp_path: Path) -> None:
    chat = [
        {
            "batch_number": 1,
            "turns": [
                [
                    {"role": "user", "id": 0, "content": "It is due on May 1. ->-> 1,1",
                     "time_anchor": "March-15-2024"},
                    {"role": "assistant", "id": 1, "content": "Noted."},
                    {"role": "user", "id": 2, "content": "Now it is due on May 9. ->-> 1,2"},
                ]
            ],
        }
    ]  # fmt: skip
    sides = {"original_info": [0], "updated_info": [[2]]}
    asked = {
        "knowledge_update": [{"question": "Due?", "answer": "May 9", "source_chat_ids": sides}],
        "abstention": [{"question": "Who?", "ideal_response": "never told"}],
    }
    written(tmp_path / "1" / "chat.json", chat)
    written(tmp_path / "1" / "probing_questions" / "probing_questions.json", asked)
    (read,) = read_data(tmp_path, "beam")
    assert [m["content"] for m in read.messages][::2] == [
        "It is due on May 1.",
        "Now it is due on May 9.",
    ]
    assert read.messages[0]["said_at"].date().isoformat() == "2024-03-15"
    update, never = read.questions
    assert update.evidence == ("m0", "m2")
    assert update.superseded == ("m0",)
    assert not never.counts


def test_what_is_no_labelled_conversation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"element 1 is no labelled conversation"):
        list(read_data(written(tmp_path / "x.jsonl", {"user": "ana"}), "jsonl"))
    with pytest.raises(InputError, match="unknown format"):
        list(read_data(tmp_path, "csv"))
    with pytest.raises(InputError, match="there is no"):
        list(read_data(tmp_path / "nowhere.json", "locomo"))


def test_what_ships_is_labelled_soundly() -> None:
    talks = list(shipped())
    assert len({talk.name for talk in talks}) == len(talks)
    for talk in talks:
        ids = [str(message["id"]) for message in talk.messages]
        assert len(set(ids)) == len(ids)
        times = [datetime.fromisoformat(str(message["said_at"])) for message in talk.messages]
        assert times == sorted(times)
        said = dict(zip(ids, times, strict=True))
        for question in talk.questions:
            assert set(question.evidence) <= set(ids), question.id
            assert set(question.superseded) <= set(ids) - set(question.evidence), question.id
            assert question.answerable == (question.category != "unanswerable"), question.id
            assert question.answer, question.id
            assert question.at is not None
            assert all(said[one] <= question.at for one in question.evidence), question.id
            for span in question.spans:
                texts = (talk.text_of(one) for one in question.evidence)
                assert any(folded(span) in folded(text) for text in texts), (question.id, span)


def folded(text: str) -> str:
    plain = text.translate(str.maketrans("\u2019\u2018\u201c\u201d", "''\"\""))
    return " ".join(plain.casefold().split())
