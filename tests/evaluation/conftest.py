"""A small labelled conversation, and a run over two of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mnemic.evaluation import run

TALK = {
    "user": "ana",
    "sessions": [
        {
            "id": f"s{day}",
            "messages": [
                {
                    "id": f"s{day}-{turn}",
                    "role": "user" if turn % 2 else "assistant",
                    "content": text,
                    "said_at": f"2024-03-{day:02d}T10:0{turn}:00+00:00",
                }
                for turn, text in enumerate(texts, 1)
            ],
        }
        for day, texts in enumerate(
            (
                ("I bought a red canoe from Otto for 450 dollars.", "A canoe needs a rack."),
                ("My sister Ines moved to Porto.", "Porto has steep streets."),
                ("The dentist is on Friday at nine.", "Note it in a calendar."),
            ),
            1,
        )
    ],
    "questions": [
        {"id": "q1", "question": "Where does Ines live?", "at": "2024-04-01T10:00:00+00:00",
         "answer": "Porto", "evidence": ["s2-1"], "category": "single-hop"},
        {"id": "q2", "question": "What did the canoe cost?", "at": "2024-04-01T10:00:00+00:00",
         "answer": "450 dollars", "evidence": ["s1-1"], "category": "single-hop"},
        {"id": "q3", "question": "How old is Otto?", "at": "2024-04-01T10:00:00+00:00",
         "answer": "never said", "evidence": [], "category": "unanswerable"},
    ],
}  # fmt: skip


@pytest.fixture
def plan(tmp_path: Path) -> run.Plan:
    path = tmp_path / "talks.jsonl"
    lines = [TALK, {**TALK, "user": "ben"}]
    path.write_text("\n".join(map(json.dumps, lines)), "utf-8")
    data = (run.data_of(f"jsonl={path}"),)
    return run.Plan(data, tmp_path / "out", tmp_path / "cache", workers=1)
