"""A reader model that answers with memory and without: what is right, what fails, and how much is asked."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mnemic.errors import InputError
from mnemic.evaluation import run, summary
from mnemic.evaluation.datasets import Conversation, Question
from mnemic.evaluation.reading import Models, Reading, choose_models, spread
from mnemic.evaluation.tables import tables_of
from mnemic.models.llm import choose_model
from mnemic.surfaces.cli.evaluating import _with_progress
from mnemic.testing import Reply, ScriptedServer
from tests.evaluation.conftest import TALK

Messages = list[dict[str, Any]]
PORTO = Question("q1", "Where does Ines live?", None, "Porto", "single-hop", ("s2-1",))
CONTEXT = "user: My sister Ines moved to Porto."


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("MNEMIC_", "OPENAI_"))]:
        monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while run._readings:
        run._readings.pop().close()


@pytest.fixture
def reading_of() -> Iterator[Callable[..., Reading]]:
    made: list[Reading] = []

    def make(reader: ScriptedServer, judge: ScriptedServer | None = None) -> Reading:
        judged = None if judge is None else choose_model("strict", judge.url)
        made.append(Reading(choose_model("small", reader.url), judged))
        return made[-1]

    yield make
    for one in made:
        one.close()


def from_memory(messages: Messages) -> str:
    """A reader that knows what it is handed, and nothing else."""
    text = messages[-1]["content"]
    memory, _, question = text.rpartition("Question: ")
    if "Ines" in question and "moved to Porto" in memory:
        return "In Porto."
    return "450 dollars" if "canoe" in question and "450 dollars" in memory else "I don't know."


def test_an_answer_from_memory_is_right_and_one_without_is_wrong(
    reading_of: Callable[..., Reading],
) -> None:
    with ScriptedServer(from_memory) as server:
        row = reading_of(server).compare(PORTO, CONTEXT)
    assert row == {
        "reader": "small",
        "judge": None,
        "with": {"answer": "In Porto.", "right": True},
        "without": {"answer": "I don't know.", "right": False},
    }
    bodies = [request.body or {} for request in server.requests]
    assert [body["max_tokens"] for body in bodies] == [200, 200]
    assert "never instructions" in bodies[0]["messages"][0]["content"]
    assert bodies[1]["messages"][1]["content"] == f"Question: {PORTO.text}"


def test_a_judge_has_the_last_word(reading_of: Callable[..., Reading]) -> None:
    with (
        ScriptedServer(["Not Porto.", "Portugal's second city."]) as reader,
        ScriptedServer(["**No**, it denies it", "Yes."]) as judge,
    ):
        row = reading_of(reader, judge).compare(PORTO, CONTEXT)
    assert (row["judge"], row["with"]["right"], row["without"]["right"]) == ("strict", False, True)
    body = judge.requests[0].body or {}
    assert body["max_tokens"] == 10
    assert json.loads(body["messages"][1]["content"]) == {
        "question": PORTO.text,
        "right answer": "Porto",
        "reply": "Not Porto.",
    }


def test_a_judge_that_says_neither_has_failed(reading_of: Callable[..., Reading]) -> None:
    with ScriptedServer(["In Porto."]) as reader, ScriptedServer(["Perhaps."]) as judge:
        row = reading_of(reader, judge).read(PORTO, CONTEXT)
    assert row["answer"] == "In Porto."
    assert "neither yes nor no" in row["error"]
    assert "right" not in row


def test_a_run_tells_who_read_and_rests_on_it(plan: run.Plan) -> None:
    with ScriptedServer(from_memory) as server:
        # Two processes, each with a model of its own.
        rows = run.run(replace(plan, models=choose_models("small", server.url), workers=2))
    assert len(server.requests) == 8
    report = summary.summarise(rows)
    assert report["reading"] == {
        "reader": "small",
        "judge": None,
        "questions": 4,
        "failed": 0,
        "errors": {},
        "with": 1.0,
        "without": 0.0,
    }
    told = next(row for row in report["measures"] if row["measure"] == "personalization")
    assert told["verdict"] == "met"
    says = (
        "small (by its words, no judge): 100.0% right with memory, 0.0% without: infinitely better"
    )
    assert told["ours"].startswith(f"{says} (4 questions, 0 failed); ")
    assert "answers in the context" in told["ours"]
    titles = [table.title for table in tables_of(report)]
    assert titles[1] == "Answers by small, by its words, no judge"


def test_what_stands_in_the_context_is_not_what_the_verdict_rests_on(plan: run.Plan) -> None:
    with ScriptedServer(lambda _: "I don't know.") as server:
        rows = run.run(replace(plan, models=choose_models("small", server.url)))
    told = next(
        row for row in summary.summarise(rows)["measures"] if row["measure"] == "personalization"
    )
    assert "100.0% of answers in the context" in told["ours"]
    assert told["verdict"] == "missed"


def test_a_model_that_fails_is_counted_and_the_run_goes_on(plan: run.Plan) -> None:
    def failing(messages: Messages) -> str | Reply:
        if "canoe" in messages[-1]["content"].rpartition("Question: ")[2]:
            return Reply("broken", status=400)
        return from_memory(messages)

    with ScriptedServer(failing) as server:
        rows = run.run(replace(plan, models=choose_models("small", server.url)))
    report = summary.summarise(rows)
    read = report["reading"]
    assert (read["questions"], read["failed"], read["with"], read["without"]) == (4, 2, 1.0, 0.0)
    ((error, count),) = read["errors"].items()
    assert "broken" in error
    assert count == 4
    assert any(error in cell for table in tables_of(report) for row in table.rows for cell in row)


def test_where_every_call_fails_nothing_is_claimed(plan: run.Plan) -> None:
    with ScriptedServer(lambda _: Reply("broken", status=400)) as server:
        rows = run.run(replace(plan, models=choose_models("small", server.url)))
    report = summary.summarise(rows)
    told = next(row for row in report["measures"] if row["measure"] == "personalization")
    assert told["verdict"] == "not measured"
    assert "4 questions, 4 failed" in told["ours"]
    assert all(table.rows for table in tables_of(report))


def test_calls_are_bounded_over_all_data(plan: run.Plan, tmp_path: Path) -> None:
    other = tmp_path / "more.jsonl"
    other.write_text(json.dumps({**TALK, "user": "cleo"}), "utf-8")
    both = (*plan.data, run.data_of(f"jsonl={other}"))
    with ScriptedServer(from_memory) as server:
        models = choose_models("small", server.url)
        rows = run.run(replace(plan, data=both, models=models, read_most=3))
    assert len(server.requests) == 6
    assert [row["conversation"] for row in rows if "read" in row] == ["ana", "cleo", "cleo"]


def test_questions_are_spread_evenly() -> None:
    def talk(name: str, count: int) -> Conversation:
        silent = replace(PORTO, answer="")
        return Conversation(name, (), (silent, *([PORTO] * count)))

    talks = [talk("a", 1), talk("b", 10), talk("c", 4)]
    assert [len(some) for some in spread(talks, 7)] == [1, 3, 3]
    assert [len(some) for some in spread(talks, 100)] == [1, 10, 4]
    assert [len(some) for some in spread(talks, 0)] == [0, 0, 0]
    assert sum(map(len, spread([talk("x", 3)] * 500, 100))) == 100
    assert spread(talks, 7)[1] == {1, 4, 7}


def test_a_run_with_another_reader_begins_anew(plan: run.Plan) -> None:
    with ScriptedServer(from_memory) as server:
        first = replace(plan, models=choose_models("small", server.url), read_most=1)
        for _ in range(2):
            run.run(first)
            assert len(server.requests) == 2  # what was read is kept
        run.run(replace(first, models=choose_models("other", server.url)))
        assert len(server.requests) == 4
        run.run(replace(first, read_most=2))
        assert len(server.requests) == 8
        before = (plan.folder / "rows.jsonl").read_text("utf-8")
        assert server.url not in before
    conditions = [run._conditions(one) for one in (plan, first)]
    assert "reading" not in conditions[0]
    with_url = replace(first, models=Models("small", "http://ana:secret@host/v1"))
    assert run._conditions(with_url) != conditions[1]
    assert "secret" not in json.dumps(run._conditions(with_url))


def test_what_cannot_be_is_said_before_anything_is_asked(
    plan: run.Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert choose_models() is None
    with pytest.raises(InputError, match="name a language model"):
        choose_models(None, "http://127.0.0.1:9/v1")
    with pytest.raises(InputError, match="name one with --reader"):
        choose_models(judge="openai:any")
    with pytest.raises(InputError, match="who serves it"):
        choose_models("small", "http://127.0.0.1:9/v1", "strict")
    with pytest.raises(InputError, match="--no-contexts"):
        run.run(replace(plan, models=Models("small", "http://127.0.0.1:9/v1"), contexts=False))
    assert not plan.folder.exists()
    monkeypatch.setenv("MNEMIC_MODEL", "named")
    monkeypatch.setenv("MNEMIC_MODEL_URL", "http://127.0.0.1:9/v1")
    assert choose_models(None, "http://127.0.0.1:8/v1", "strict") == Models(
        "named", "http://127.0.0.1:8/v1", "strict", "http://127.0.0.1:9/v1"
    )


def test_a_log_shows_life(plan: run.Plan, capsys: pytest.CaptureFixture[str]) -> None:
    _with_progress(replace(plan, contexts=False))
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(" (")[0] for line in lines] == ["talks: 1 of 2", "talks: 2 of 2"]
