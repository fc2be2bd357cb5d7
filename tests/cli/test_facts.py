"""Facts at the command: one life of a fact, and how it is shown."""

from __future__ import annotations

from typing import Any

from tests.cli.test_cli import Call, _no_settings, call, db

__all__ = ["_no_settings", "call", "db"]


def test_one_life_of_a_fact(call: Call, db: str) -> None:
    def facts(*args: str) -> Any:
        done = call("facts", *args, "--db", db, "--user", "ana", "--json")
        assert (done.code, done.err) == (0, "")
        return done.json

    call("remember", "I moved to Lisbon.", "--id", "m1", "--db", db, "--user", "ana")
    words = ("Ana lives in Lisbon.", "--confidence", "0.9", "--valid-from", "2023-05-08T00:00Z")
    fact = facts("remember", *words, "--message-id", "m1", "--tag", "home")
    assert (fact["text"], fact["confidence"], fact["message_ids"]) == (words[0], 0.9, ["m1"])
    assert facts("remember", *words, "--tag", "home")["id"] == fact["id"]
    porto = facts("remember", "Ana lives in Porto.", "--valid-to", "2023-05-08T00:00Z", "--pin")
    assert [each["id"] for each in facts("list")] == [fact["id"], porto["id"]]
    assert [each["id"] for each in facts("profile")] == [fact["id"]]
    assert facts("recall", "who lives in Lisbon?")[0]["memory"]["kind"] == "semantic"
    assert facts("forget", fact["id"], "--keep-messages")["messages"] == 0
    assert facts("forget", porto["id"])["memories"] == 1
    assert facts("forget", porto["id"])["state"] == "absent"
    assert facts("list") == []


def test_facts_are_shown_as_tables(call: Call, db: str) -> None:
    def facts(*args: str) -> str:
        done = call("facts", *args, "--db", db)
        assert done.code == 0
        return done.out

    id = facts("remember", "Ana lives\x1b[31m in Porto.", "--valid-to", "2023-05-08T00:00Z").strip()
    facts("remember", "Ana drinks tea.", "--pin", "--confidence", "0.5")
    assert id in facts("list")
    assert "until 2023-05-08" in facts("list")
    assert "\x1b" not in facts("list")
    assert "* Ana drinks tea." in facts("profile")
    assert "0.50" in facts("profile")
    assert "Ana drinks tea." in facts("recall", "tea")
    assert "1 memories are gone" in facts("forget", id)


def test_where_there_are_none_the_command_says_how_to_make_one(call: Call, db: str) -> None:
    call("remember", "I like tea.", "--db", db)
    for args in (["list"], ["profile"], ["recall", "tea"]):
        assert "mnemic facts remember" in call("facts", *args, "--db", db).out


def test_a_bad_fact_ends_with_an_error(call: Call, db: str) -> None:
    refused = call("facts", "remember", "x", "--confidence", "2", "--db", db)
    assert (refused.code, refused.out) == (1, "")
    assert "confidence is a number from 0 to 1" in refused.err
    refused = call("facts", "forget", "nothing", "--db", db)
    assert (refused.code, "not a memory id" in refused.err) == (1, True)
