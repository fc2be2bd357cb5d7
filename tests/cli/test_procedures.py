"""Instructions at the command: one life of an instruction, and how it is shown."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mnemic.surfaces.cli.app import main


@dataclass(frozen=True, slots=True)
class Done:
    """How a run of the command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Call = Callable[..., Done]


@pytest.fixture
def call(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Call:
    """Run `mnemic procedures` in this process, on a store of its own."""
    for name in [name for name in os.environ if name.startswith("MNEMIC_")]:
        monkeypatch.delenv(name)
    db = str(tmp_path / "life.db")

    def run(*args: str, json: bool = False) -> Done:
        argv = ["mnemic", "procedures", *args, "--db", db, *(["--json"] if json else [])]
        monkeypatch.setattr(sys, "argv", argv)
        code: Any = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
        said = capsys.readouterr()
        return Done(code, said.out, said.err)

    return run


def test_one_life_of_an_instruction(call: Call, tmp_path: Path) -> None:
    def rules(*args: str) -> Any:
        done = call(*args, "--scope", "agent:bot", json=True)
        assert (done.code, done.err) == (0, "")
        return done.json

    made = rules("remember", "tone", "Be brief.", "--reason", "people are busy")
    assert (made["version"], made["status"], made["mode"]) == (1, "current", "always")
    revised = rules("revise", "tone", "Be kind.", "--reason", "curt", "--expected", "1")
    assert (revised["version"], revised["reason"]) == (2, "curt")
    assert rules("roll-back", "tone", "--to", "1")["text"] == "Be brief."
    assert rules("disable", "tone")["status"] == "retired"
    assert rules("enable", "tone")["status"] == "current"

    file = tmp_path / "AGENTS.md"
    file.write_text("## tone\nBe brief.\n## refunds\nmode: relevant\n\nAsk for the order number.\n")
    loaded = rules("load", str(file))
    assert [len(loaded[kind]) for kind in ("made", "revised", "unchanged")] == [1, 0, 1]
    assert [each["name"] for each in rules("list")] == ["refunds", "tone"]
    asked = rules("list", "--for", "I want my order number refunded")
    assert [each["name"] for each in asked] == ["tone", "refunds"]

    proposal = rules("learn", "Never use emoji.", "--name", "tone")
    assert proposal["status"] == "proposed"
    assert rules("proposals") == [proposal]
    assert rules("reject", proposal["id"])["status"] == "rejected"
    rules("learn", "Never shout.", "--name", "tone")
    assert rules("approve", "tone")["text"] == "Be brief.\n\n- Never shout."
    learned = rules("learn", "Sign as Bot.", "--name", "tone", "--approve")
    assert learned["status"] == "current"

    shown = rules("show", "tone")
    assert shown["procedure"] == learned
    assert [each["version"] for each in shown["history"]] == [1, 2, 3, 4, 5, 6]
    assert rules("show", "tone", "--version", "2")["procedure"]["text"] == "Be kind."
    assert rules("forget", "tone")["memories"] == 6
    assert [each["name"] for each in rules("list")] == ["refunds"]


def test_instructions_are_shown_to_people(call: Call) -> None:
    assert call("remember", "tone", "Be brief.\nVery.").out.startswith("tone, version 1: in force")
    assert "tone │ 1       │ always │ in force │ Be brief. ..." in call("list").out
    assert "waits for approval" in call("learn", "No \x1b[31mred.", "--name", "tone").out
    listed = call("proposals").out
    assert "No \\x1b[31mred." in listed
    assert "\x1b" not in listed
    assert call("approve", "tone").out.startswith("tone, version 2: in force")
    shown = call("show", "tone").out
    assert "version 1  superseded  by user" in shown
    assert "Be brief.\nVery." in shown
    assert call("disable", "tone").out.startswith("tone, version 2: disabled")
    assert call("proposals").out == "Nothing waits for approval.\n"
    assert call("forget", "tone").out.startswith("clean: 0 messages and 2 memories are gone")
    assert call("list").out.startswith("No instructions.")


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("show", "tune"), "has no instruction 'tune'"),
        (("show", "tone", "--version", "7"), "has no version 7 of 'tone'"),
        (("remember", "tone", "Other."), "revise it, or choose another name"),
        (("revise", "tone", "Other.", "--reason", "r", "--expected", "9"), "and not 9 as expected"),
        (("roll-back", "tone", "--to", "3"), "has no version 3"),
        (("enable", "tune"), "has no instruction 'tune'"),
        (("load", "nowhere.md"), "is no file"),
        (("approve", "tone"), "has no proposal 'tone'"),
        (("learn", " "), "feedback is a text"),
        (("learn", "x", "--model", "big"), "big"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_an_exit_code(
    call: Call, args: tuple[str, ...], says: str
) -> None:
    assert call("remember", "tone", "Be brief.").code == 0
    done = call(*args)
    assert done.code == 1
    assert says in done.err
    assert done.err.count("\n") == 1
    failed = call(*args, json=True)
    assert says in failed.json["error"]["message"]
