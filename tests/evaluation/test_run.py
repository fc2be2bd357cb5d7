"""A whole run on a small conversation: what it finds, that it goes on where it broke off, its page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mnemic.evaluation import asking, freshness, run, summary
from mnemic.evaluation.report import write_report
from mnemic.evaluation.tables import tables_of
from mnemic.surfaces.cli.app import app, load_commands


def test_a_run_finds_what_was_said_and_says_so(plan: run.Plan, tmp_path: Path) -> None:
    rows = run.run(plan)
    report = summary.summarise(rows, {"p99_ms": 12.0, "backlog": 3})
    figures = report["data"]["talks"]
    assert (figures["conversations"], figures["messages"], figures["with_evidence"]) == (2, 12, 4)
    assert figures["ranking"]["mnemic"]["recall@10"][0] == 1
    assert figures["coverage"]["mnemic"]["250"][0] == 1
    assert figures["cut"]["strangers"] == 4
    verdicts = {row["measure"]: row["verdict"] for row in report["measures"]}
    assert len(verdicts) == 6
    assert verdicts["freshness"] == "met"
    assert all(table.rows for table in tables_of(report))
    paths = write_report(report, tmp_path / "page")
    text = paths[0].read_text("utf-8")
    assert "Where relevance ends" in text or "where relevance ends" in text
    assert text.count("data:image/png;base64,") == 4
    assert "http" not in text.replace("http-equiv", "")
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths[1:])


def test_a_run_that_broke_off_goes_on(
    plan: run.Plan, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    asked: list[str] = []
    real = asking.ask

    def ask(work: Any, embedder: Any) -> Any:
        asked.append(work.talk.name)
        if asked == ["ana", "ben"]:
            raise KeyboardInterrupt
        return real(work, embedder)

    monkeypatch.setattr(asking, "ask", ask)
    with pytest.raises(KeyboardInterrupt):
        run.run(plan)
    book = plan.folder / "rows.jsonl"
    book.write_text(book.read_text("utf-8") + '{"key": "half', "utf-8")
    rows = run.run(plan)
    assert asked == ["ana", "ben", "ben"]
    assert {row["conversation"] for row in rows} == {"ana", "ben"}
    # Other conditions begin anew.
    run.run(run.Plan(plan.data, plan.folder, plan.cache, workers=1, contexts=False))
    assert asked == ["ana", "ben", "ben", "ana", "ben"]


def test_kept_vectors_are_the_same_to_the_bit(plan: run.Plan) -> None:
    texts = ["one", "two", "one"]
    run._begin(plan.cache, 1)
    first = run._embedders[0].embed(texts)
    assert run._embedders[0].made == 2
    run._begin(plan.cache, 1)
    assert (run._embedders[0].embed(texts) == first).all()
    assert run._embedders[0].made == 0


def test_another_process_recalls_what_was_just_said() -> None:
    measured = freshness.measure(messages=5, backlog=20)
    assert measured["most_ms"] < freshness.PATIENCE * 1000


def test_the_command_says_what_to_do(tmp_path: Path) -> None:
    load_commands()
    runner = CliRunner()
    result = runner.invoke(app, ["eval", "--data", "csv=x"])
    assert "format=path" in str(result.exception)
    result = runner.invoke(app, ["eval", "--all", str(tmp_path)])
    assert "there is no data" in str(result.exception)
    result = runner.invoke(app, ["eval", "report", str(tmp_path / "report.json")])
    assert "`mnemic eval` writes it" in str(result.exception)
