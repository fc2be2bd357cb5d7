"""A context, sessions and the time zone at the command."""

from __future__ import annotations

import io
import json
import sys
from typing import Any

import pytest

from mnemic import Memory, SummarizationMemory
from tests.cli.test_cli import Call, _no_settings, call, db
from tests.core.conftest import tokens_ready
from tests.layers.talk import counted

__all__ = ["_no_settings", "call", "db", "tokens_ready"]


def told(call: Call, db: str) -> list[str]:
    """Some memories of Ana's; what names them at the command."""
    who = ["--db", db, "--user", "ana"]
    call("remember", "I love hiking in Sintra.", "--session", "s1", *who)
    call("remember", "My dog is called\x1b[31m Rex.", "--session", "s2", "--name", "Ana", *who)
    call("facts", "remember", "Ana is allergic to nuts.", *who)
    call(
        "procedures",
        "remember",
        "tone",
        "Answer in two sentences.",
        "--scope",
        "agent:help",
        "--db",
        db,
    )
    return who


def test_a_context_is_printed_as_a_prompt(call: Call, db: str, tokens_ready: None) -> None:
    done = call("context", "plan a hike", "--agent", "help", *told(call, db))
    assert done.code == 0
    for words in ("Answer in two sentences.", "allergic to nuts", "hiking in Sintra"):
        assert words in done.out
    assert done.out.rstrip().endswith("plan a hike")
    assert "\x1b" not in done.out
    assert "of 1500 tokens: 1 instruction, 1 fact, 2 recalled memories" in done.err


def test_a_context_is_printed_as_json_for_an_api(call: Call, db: str, tokens_ready: None) -> None:
    who = told(call, db)

    def printed(form: str, *more: str) -> Any:
        done = call("context", "plan a hike", "--format", form, *more, *who)
        assert done.code == 0
        return json.loads(done.out)

    messages = printed("openai", "--prompt", "You are Rex.", "--session", "s2")
    assert [message["role"] for message in messages] == ["system", "user", "user"]
    assert messages[0]["content"].startswith("You are Rex.")
    assert messages[1]["content"].startswith("My dog is called")
    small = printed("openai", "--budget", "40")
    assert counted(small) <= 40
    assert set(printed("anthropic")) == {"system", "messages"}
    whole = call("context", "plan a hike", "--json", *who).json
    assert whole["tokens"] <= whole["budget"] == 1500
    assert {hit["memory"]["text"] for hit in whole["hits"]} >= {"I love hiking in Sintra."}
    assert whole["messages"] == printed("openai")


def test_a_query_may_come_from_standard_input(
    call: Call, db: str, tokens_ready: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    who = told(call, db)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"plan a hike\n")))
    assert call("context", "-", *who).out.rstrip().endswith("plan a hike")


def test_a_budget_that_is_too_small_says_what_is_needed(
    call: Call, db: str, tokens_ready: None
) -> None:
    refused = call("context", "plan a hike", "--budget", "3", *told(call, db))
    assert (refused.code, refused.out) == (1, "")
    assert "budget_too_small" in refused.err
    assert "give a budget of" in refused.err


def test_what_is_said_beside_a_context_is_so(call: Call, db: str, tokens_ready: None) -> None:
    who = told(call, db)
    small = call("context", "plan a hike", "--budget", "12", *who).err
    assert "of 12 tokens: nothing remembered" in small
    assert "left out: " in small
    assert "known" not in small
    nobody = call("context", "plan a hike", "--db", db, "--user", "nobody").err
    assert nobody.endswith("of 1500 tokens: nothing remembered\n")
    with Memory(db) as memory:
        ana = memory.user("ana")
        for number in range(12):
            ana.remember(f"Stage {number} of the trail is steep.", session="s3")
        SummarizationMemory(ana, "s3", keep=2).messages()
    assert "a summary" in call("context", "plan a hike", "--session", "s3", *who).err


def test_sessions_are_listed_and_their_ends_shown(call: Call, db: str) -> None:
    who = told(call, db)
    call("remember", "No session.", *who)
    found = call("sessions", "--json", *who).json
    assert [each["name"] for each in found] == ["", "s2", "s1"]
    shown = call("sessions", *who)
    assert "(without a name)" in shown.out
    assert [each["name"] for each in call("sessions", "-n", "1", "--json", *who).json] == [""]
    end = call("sessions", "s2", *who)
    assert "Ana: My dog is called" in end.out
    assert "\x1b" not in end.out
    assert "mnemic sessions" in call("sessions", "s9", *who).out
    assert "--session s1" in call("sessions", "--db", db, "--user", "nobody").out


def test_the_time_zone_is_shown_and_set(call: Call, db: str) -> None:
    who = told(call, db)
    assert call("timezone", *who).out == "UTC\n"
    assert call("timezone", "Europe/Lisbon", *who).out == "Europe/Lisbon\n"
    assert call("timezone", "--json", *who).json == {"timezone": "Europe/Lisbon"}
    refused = call("timezone", "Mars", *who)
    assert (refused.code, "Europe/Lisbon or UTC" in refused.err) == (1, True)
    assert call("timezone", "UTC", *who).out == "UTC\n"
