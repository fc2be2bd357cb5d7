"""The agent and the chat, against a real llama.cpp server with a real, very small model.

What it says is poor, and not what is tested: that requests, streams and memory fit together is.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mnemic import MemoryAgent
from mnemic.memory import Memory
from mnemic.models.llm import HostedModel, choose_model
from mnemic.settings import Settings
from tests.fakes import environment
from tests.server.conftest import MODEL

pytestmark = [pytest.mark.server, pytest.mark.long]

# The server's window holds 2048 tokens, tools and answer included.
BUDGET = 700
TOLD = "My name is Ana, and my cat is called Tofu."
ASKED = "What is my cat called?"


def test_a_prompt_is_answered(chat_server: str) -> None:
    model = choose_model(MODEL, chat_server)
    assert model.complete("Be brief.", "Where is Lisbon?", max_tokens=20).strip()
    assert isinstance(model, HostedModel)
    model.close()


def test_a_second_session_holds_what_the_first_was_told(chat_server: str, tmp_path: Path) -> None:
    with Memory(tmp_path / "life.db", settings=Settings()) as memory:
        ana = memory.user("ana")
        agent = MemoryAgent(memory, MODEL, base_url=chat_server, budget=BUDGET, tools=False)
        first = agent.respond("ana", TOLD, session="monday")
        assert first.text.strip()
        assert first.usage.output_tokens > 0
        with agent.stream("ana", ASKED, session="tuesday") as stream:
            pieces = list(stream)
        assert len(pieces) > 1
        assert TOLD in stream.context.messages[-1]["content"]
        assert stream.context.tokens <= BUDGET
        reply = stream.reply
        assert reply.text == "".join(pieces)
        assert reply.stats is not None
        assert (reply.stats.state, reply.stats.chunks) == ("complete", len(pieces))
        kept = {(record.session, record.source) for record in ana.iter_memories()}
        sessions = ("monday", "tuesday")
        assert kept == {(name, source) for name in sessions for source in ("user", "assistant")}
        agent.close()


def test_tools_are_offered_and_the_answer_comes(chat_server: str, tmp_path: Path) -> None:
    with Memory(tmp_path / "life.db", settings=Settings()) as memory:
        agent = MemoryAgent(memory, MODEL, base_url=chat_server, budget=BUDGET)
        assert agent.respond("ana", "Hello, I am Ana.", session="s1").receipt is not None
        agent.close()


def test_an_answer_that_is_left_is_kept_as_interrupted(chat_server: str, tmp_path: Path) -> None:
    with Memory(tmp_path / "life.db", settings=Settings()) as memory:
        ana = memory.user("ana")
        agent = MemoryAgent(memory, MODEL, base_url=chat_server, budget=BUDGET, tools=False)
        with agent.stream("ana", "Tell me a long story about ships.", session="s1") as stream:
            for _ in stream:
                break
        last = ana._core.session_rows.tail(ana.scope, "s1", 1)[0].message
        assert (last.content, last.state) == (stream.text, "interrupted")
        agent.close()


def test_the_chat_remembers_from_one_run_to_the_next(chat_server: str, tmp_path: Path) -> None:
    def chat(*lines: str) -> str:
        args = ("--db", str(tmp_path / "life.db"), "--user", "ana", "--budget", str(BUDGET))
        done = subprocess.run(
            [sys.executable, "-m", "mnemic", "chat", *args, "--model", MODEL, "--url", chat_server],
            input="".join(f"{line}\n" for line in lines).encode(),
            capture_output=True,
            env={**environment(), "PYTHONIOENCODING": "utf-8"},
            timeout=300,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, b"")
        return done.stdout.decode()

    chat(TOLD)
    second = chat(ASKED, "/why", "/context", "/quit")
    assert second.count(f"user: {TOLD}") == 2
    assert "memories recalled" in second
