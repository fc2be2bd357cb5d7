"""What the model may do to memory by itself: for one user, a few times a turn, by ids it was shown."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mnemic import Memory, ModelError
from mnemic.agent import MemoryAgent
from mnemic.agent.dialogue import MOST_ROUNDS
from mnemic.agent.tools import MOST, MOST_NOTE
from mnemic.testing import FailingEmbedder, ScriptedServer, ToolCall
from mnemic.testing import Reply as Scripted
from mnemic.testing.wire import Json
from tests.agent.conftest import Make
from tests.fakes import open_memory


def results(server: ScriptedServer) -> list[str]:
    """What the tools of the last turn told the model."""
    body = server.requests[-1].body
    assert body is not None
    messages: list[Json] = body["messages"]
    return [message["content"] for message in messages if message["role"] == "tool"]


def test_the_tools_take_one_text_each_and_name_no_user(agent_of: Make) -> None:
    with ScriptedServer(["Yes."]) as server:
        agent_of(server).respond("ana", "Well?")
    body = server.requests[0].body
    assert body is not None
    functions = {tool["function"]["name"]: tool["function"] for tool in body["tools"]}
    assert list(functions) == ["remember", "recall", "forget"]
    fields = [list(function["parameters"]["properties"]) for function in functions.values()]
    assert fields == [["text"], ["question"], ["id"]]
    assert all(function["description"] for function in functions.values())


@pytest.mark.parametrize(
    ("tools", "names"),
    [(False, None), ([], None), (["recall"], ["recall"]), ("recall", ["recall"])],
)
def test_an_agent_has_the_tools_it_is_given(agent_of: Make, tools: Any, names: Any) -> None:
    with ScriptedServer([ToolCall("forget", {"id": "m1"}), "Yes."]) as server:
        reply = agent_of(server, tools=tools).respond("ana", "Well?")
    body = server.requests[0].body
    assert body is not None
    assert (names and [tool["function"]["name"] for tool in body["tools"]]) == names
    if names is None:
        assert "tools" not in body
        assert reply.text == ""  # a call of a tool that it hasn't is no answer, and nothing is done
    else:
        assert results(server) == ["There is no tool 'forget'; there is recall."]
    assert reply.tools == ()


def test_a_note_is_the_assistants_and_stands_on_what_the_user_said(
    memory: Memory, agent_of: Make
) -> None:
    ana = memory.user("ana")
    script: list[Any] = [ToolCall("remember", {"text": "Ana is afraid of dogs."}), "Noted."]
    with ScriptedServer(script) as server:
        message = {"content": "Dogs? No, thank you!", "id": "m1"}
        reply = agent_of(server).respond("ana", message, session="s1")
    [use] = reply.tools
    assert (use.name, use.given, use.refused) == ("remember", "Ana is afraid of dogs.", None)
    note = ana.get(use.memory_ids[0])
    assert note is not None
    assert (note.kind, note.source, note.message_ids) == ("semantic", "assistant", ("m1",))
    assert note.confidence < 1
    assert note.tags == ("noted",)
    assert ana.recall("Who is afraid of dogs?")[0].memory.id == note.id
    ana.forget(message_id="m1")
    assert ana.get(note.id) is None


@pytest.mark.parametrize("text", ["I live in Lisbon.", " i live  in LISBON ", "Where do I live?"])
def test_what_memory_told_or_the_user_said_is_not_noted_again(
    memory: Memory, agent_of: Make, text: str
) -> None:
    ana = memory.user("ana")
    ana.remember("I live in Lisbon.", session="older")
    with ScriptedServer([ToolCall("remember", {"text": text}), "Lisbon."]) as server:
        reply = agent_of(server).respond("ana", "Where do I live?", session="s1")
        assert results(server) == ["Not done: that is remembered already."]
    assert reply.tools[0].refused == "that is remembered already"
    assert len(list(ana.iter_memories())) == 3


def test_what_recall_told_is_not_noted_either(memory: Memory, agent_of: Make) -> None:
    ana = memory.user("ana")
    filler = [f"I like food number {number} very much." for number in range(60)]
    ana.remember(["The boiler code is 4711.", *filler], session="older")
    script: list[Any] = [
        ToolCall("recall", {"question": "boiler code"}),
        ToolCall("remember", {"text": "The boiler code is 4711."}),
        "Done.",
    ]
    with ScriptedServer(script) as server:
        reply = agent_of(server, budget=200).respond("ana", "What food do I like?", session="s1")
    assert "boiler" not in reply.context.text
    assert [use.refused for use in reply.tools] == [None, "that is remembered already"]


def test_recall_answers_for_this_user_alone(memory: Memory, agent_of: Make) -> None:
    memory.user("ben").remember("My boiler code is 4711.")
    memory.agent("assistant").remember("The boiler code of the office is 9999.")
    with ScriptedServer([ToolCall("recall", {"question": "boiler code"}), "No."]) as server:
        agent_of(server).respond("ana", "Hello.", session="s1")
        assert results(server) == ["Nothing is remembered of that."]


def test_recall_does_not_answer_with_the_question_itself(memory: Memory, agent_of: Make) -> None:
    memory.user("ana").remember("The boiler code is 4711.", session="older")
    with ScriptedServer([ToolCall("recall", {"question": "boiler code"}), "4711."]) as server:
        agent_of(server).respond("ana", "What is the boiler code?", session="s1")
        [told] = results(server)
    assert "4711" in told
    assert "What is the boiler code?" not in told


def test_forget_takes_an_id_that_recall_gave_in_this_turn(memory: Memory, agent_of: Make) -> None:
    ana = memory.user("ana")
    ana.remember(["The boiler code is 4711.", "I like tea."], session="older")
    script: list[Any] = [
        ToolCall("recall", {"question": "boiler code"}),
        ToolCall("forget", {"id": "m1"}),
        "Gone.",
        ToolCall("forget", {"id": "m1"}),
        "It is gone.",
    ]
    with ScriptedServer(script) as server:
        agent = agent_of(server)
        reply = agent.respond("ana", "Forget the boiler.", session="s1")
        recalled, forgot = reply.tools
        assert forgot.memory_ids[0] in recalled.memory_ids
        assert ana.get(forgot.memory_ids[0]) is None
        again = agent.respond("ana", "Is it gone?", session="s1")
        assert results(server) == ["Not done: recall didn't give this id in this turn."]
    assert again.tools[0].refused
    assert len(list(ana.iter_memories())) == 5


@pytest.mark.parametrize("named", ["real", "m1", "m9", "", "*", "1"])
def test_forget_refuses_what_it_was_not_shown(memory: Memory, agent_of: Make, named: str) -> None:
    ana = memory.user("ana")
    [id] = ana.remember("The boiler code is 4711.", session="older").memory_ids
    [other] = memory.user("ben").remember("My boiler code is 1234.").memory_ids
    calls = [id, other] if named == "real" else [named]
    script: list[Any] = [
        Scripted("", tuple(ToolCall("forget", {"id": call}) for call in calls)),
        "No.",
    ]
    with ScriptedServer(script) as server:
        agent_of(server).respond("ana", "Hello.", session="s1")
        assert all(told.startswith(("Not done", "forget takes")) for told in results(server))
    assert ana.get(id) is not None
    assert memory.user("ben").get(other) is not None


@pytest.mark.parametrize("name", ["remember", "recall", "forget"])
def test_each_tool_may_be_used_a_few_times_a_turn(
    memory: Memory, agent_of: Make, name: str
) -> None:
    field = {"remember": "text", "recall": "question", "forget": "id"}[name]
    calls = tuple(ToolCall(name, {field: f"The code {n} is {n}."}) for n in range(MOST[name] + 3))
    with ScriptedServer([Scripted("", calls), "Done."]) as server:
        reply = agent_of(server).respond("ana", "Hello.", session="s1")
        told = results(server)
    assert ["enough" in text for text in told] == [False] * MOST[name] + [True] * 3
    assert len(reply.tools) == len(calls)
    if name == "remember":
        assert len(list(memory.user("ana").facts.iter_facts())) == MOST[name]


@pytest.mark.parametrize(
    "arguments",
    ["", "{", "[]", "null", "3", "{}", '{"text": 3}', '{"text": " "}', "[" * 10_000, {"txt": "a"}],
)
def test_broken_arguments_are_told_and_change_nothing(
    memory: Memory, agent_of: Make, arguments: Any
) -> None:
    with ScriptedServer([ToolCall("remember", arguments), "Sorry."]) as server:
        reply = agent_of(server).respond("ana", "Hello.", session="s1")
        assert results(server) == ["remember takes a JSON object with text, a text."]
    assert reply.text == "Sorry."
    assert len(list(memory.user("ana").iter_memories())) == 2


@pytest.mark.parametrize("text", ["a\0b", "x" * (MOST_NOTE + 1)])
def test_a_note_that_cannot_be_kept_is_refused(memory: Memory, agent_of: Make, text: str) -> None:
    with ScriptedServer([ToolCall("remember", {"text": text}), "Sorry."]) as server:
        reply = agent_of(server).respond("ana", "Hello.", session="s1")
    assert reply.tools[0].refused
    assert list(memory.user("ana").facts.iter_facts()) == []


def test_a_model_that_only_calls_its_tools_is_stopped(memory: Memory, agent_of: Make) -> None:
    def script(_messages: list[Json]) -> ToolCall:
        return ToolCall("recall", {"question": "more"})

    with ScriptedServer(script) as server, pytest.raises(ModelError, match="over and over"):
        agent_of(server).respond("ana", "Hello.", session="s1")
    assert len(server.requests) == MOST_ROUNDS + 1
    last = server.requests[-1].body
    assert last is not None
    assert last["tool_choice"] == "none"


def test_a_tool_of_no_name_is_told(agent_of: Make) -> None:
    with ScriptedServer([ToolCall("recall_user", {"user": "ben"}), "No."]) as server:
        assert agent_of(server).respond("ana", "Hello.").text == "No."
        assert results(server)[0].startswith("There is no tool 'recall_user'")


def test_an_embedder_that_is_away_does_not_end_the_turn(tmp_path: Any) -> None:
    embedder = FailingEmbedder()
    script: list[Any] = [ToolCall("recall", {"question": "the boiler code"}), "4711."]
    with open_memory(tmp_path / "away.db", embedder) as memory, ScriptedServer(script) as server:
        memory.user("ana").remember("The boiler code is 4711.", session="older")
        embedder.failing = True
        agent = MemoryAgent(memory, "any", base_url=server.url)
        reply = agent.respond("ana", "What is the boiler code?", session="s1")
        assert "4711" in results(server)[0]
        assert (reply.text, reply.said.state) == ("4711.", "committed")
        agent.close()


def test_words_before_and_after_a_tool_are_set_apart(memory: Memory, agent_of: Make) -> None:
    script: list[Any] = [
        Scripted("Let me look.", (ToolCall("recall", {"question": "tea"}),)),
        "You like tea.",
    ]
    with ScriptedServer(script * 2) as server:
        agent = agent_of(server)
        reply = agent.respond("ana", "What do I like?", session="s1")
        with agent.stream("ana", "Once more?", session="s1") as stream:
            streamed = "".join(stream)
    assert reply.text == streamed == "Let me look.\n\nYou like tea."
    assert reply.usage.requests == stream.reply.usage.requests == 2
    assert [use.name for use in stream.reply.tools] == ["recall"]


def test_what_the_tools_told_is_in_no_later_prompt(memory: Memory, agent_of: Make) -> None:
    memory.user("ana").remember("The boiler code is 4711.", session="older")
    script: list[Any] = [ToolCall("recall", {"question": "boiler code"}), "I know it.", "Fine."]
    with ScriptedServer(script) as server:
        agent = agent_of(server)
        agent.respond("ana", "Do you know the boiler code?", session="s1")
        agent.respond("ana", "Good evening.", session="s1")
        body = server.requests[-1].body
    assert body is not None
    assert [message["role"] for message in body["messages"]].count("tool") == 0
    assert json.dumps(body["messages"]).count("4711") <= 1
