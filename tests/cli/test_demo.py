"""`mnemic demo`: a year's conversation, twelve questions, and the evidence for their answers."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mnemic.demo import load_conversation
from mnemic.surfaces.cli import asking, demo, keeping, moving  # noqa: F401
from mnemic.surfaces.cli.app import app


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("MNEMIC_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def answered() -> Any:
    done = CliRunner().invoke(app, ["demo", "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_twelve_questions_are_answered(answered: Any) -> None:
    labelled = {q.question: q for q in load_conversation().questions if q.demo}
    assert len(labelled) == 12
    assert [answer["question"] for answer in answered["questions"]] == list(labelled)
    for answer in answered["questions"]:
        question = labelled[answer["question"]]
        assert answer["answer"] == question.answer
        assert tuple(answer["found_at"]) == question.evidence
        assert all(rank is None or 1 <= rank <= 10 for rank in answer["found_at"].values())
    assert answered["loaded"]["messages"] > 200


def share_found(answered: Any) -> float:
    ranks = [rank for answer in answered["questions"] for rank in answer["found_at"].values()]
    return sum(rank is not None for rank in ranks) / len(ranks)


def test_more_than_half_of_the_evidence_is_found(answered: Any) -> None:
    assert share_found(answered) > 0.5


def test_people_see_answers_evidence_and_dates(tmp_path: Path) -> None:
    file = tmp_path / "demo.db"
    done = CliRunner().invoke(app, ["demo", "--db", str(file)])
    assert done.exit_code == 0, done.output
    text = " ".join(done.stdout.split())
    for question in load_conversation().questions:
        if question.demo:
            assert question.question in text
            assert f"asked {question.at[:10]}" in text
            assert (question.answer if question.evidence else "never told") in text
    assert re.search(r"evidence \d+\. 2025-\d\d-\d\d (Maya|Daniel): ", text)
    assert re.search(r"\d+ of \d+ pieces here, \d+ of 154 over all 120", text)
    assert "mnemic remember" in text
    assert file.exists()
