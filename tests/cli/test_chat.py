"""`mnemic chat` as people and scripts use it: with a model, without one, piped and in a terminal."""

from __future__ import annotations

import io
import os
import re
import select
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from mnemic.memory import Memory
from mnemic.surfaces.cli import showing
from mnemic.surfaces.cli.app import main
from mnemic.testing import Reply, ScriptedServer, ToolCall
from tests.fakes import environment


@dataclass(frozen=True, slots=True)
class Done:
    """How a run of the command ended."""

    code: int
    out: str
    err: str


Chat = Callable[..., Done]


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("MNEMIC_", "OPENAI_"))]:
        monkeypatch.delenv(name)


@pytest.fixture
def db(tmp_path: Path) -> str:
    return str(tmp_path / "life.db")


@pytest.fixture
def chat(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], db: str) -> Chat:
    """Type lines into the command, in this process."""

    def run(*lines: str, args: tuple[str, ...] = ()) -> Done:
        monkeypatch.setattr(sys, "argv", ["mnemic", "chat", "--db", db, "--user", "ana", *args])
        monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
        monkeypatch.setenv("COLUMNS", "200")
        code: Any = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
        said = capsys.readouterr()
        return Done(code, said.out, said.err)

    return run


def model(server: ScriptedServer, *args: str) -> tuple[str, ...]:
    return ("--model", "any", "--url", server.url, *args)


def texts(db: str) -> list[str]:
    with Memory(db) as memory:
        return [record.text for record in memory.user("ana").iter_memories()]


def test_without_a_model_it_is_a_shell_of_memory(chat: Chat, db: str) -> None:
    said = ["My cat is called Tofu.", "It rains in Porto.", "What is my cat called?"]
    done = chat(*said, "/why", "/context")
    assert (done.code, done.err) == (0, "")
    assert "no model is configured" in done.out
    assert "MNEMIC_MODEL" in done.out
    answer = done.out.partition("What is my cat called?")[2]
    assert re.search(r"1\. \d{4}-\d\d-\d\d user: My cat is called Tofu\.", answer)
    assert "meaning +" in answer or "words +" in answer
    assert "Nothing is sent anywhere" in answer
    assert texts(db) == said


def test_a_question_is_no_evidence_for_itself(chat: Chat) -> None:
    done = chat("What is my cat called?", "What is my cat called?", "what is my cat called?")
    assert done.out.count("Nothing is remembered of that.") == 3


def test_with_a_model_it_answers_and_says_what_from(chat: Chat, db: str) -> None:
    chat("My cat is called Tofu.")
    with ScriptedServer(["It is Tofu, \x1b[31mof course."]) as server:
        done = chat("What is my cat called?", "/why", "/context", args=model(server))
        body = server.requests[0].body
    assert (done.code, done.err) == (0, "")
    assert "with any" in done.out
    assert "It is Tofu, \\x1b[31mof course." in done.out
    assert "\x1b" not in done.out
    assert "1 memory recalled" in done.out
    assert "1. " in done.out
    assert "user: My cat is called Tofu." in done.out
    assert "<memories" in done.out
    assert re.search(r"\d+ of 4000 tokens; 1 recalled memories, 0 turns, 0 facts", done.out)
    assert body is not None
    assert body["messages"][0]["role"] == "system"
    assert "My cat is called Tofu." in body["messages"][-1]["content"]
    assert len(texts(db)) == 3


def test_a_session_goes_on_where_it_is_named(chat: Chat) -> None:
    with ScriptedServer(["One.", "Two.", "Three."]) as server:
        chat("First.", args=model(server, "--session", "s1"))
        chat("Second.", args=model(server, "--session", "s1"))
        chat("Third.", args=model(server))
        bodies = [request.body for request in server.requests]
    counts = [len(body["messages"]) for body in bodies if body is not None]
    assert counts == [2, 4, 2]


def test_the_budget_and_the_agent_are_the_options(chat: Chat, db: str) -> None:
    with Memory(db) as memory:
        memory.agent("support").procedures.remember("tone", "Answer in verse.")
    with ScriptedServer(["Yes."]) as server:
        args = model(server, "--agent", "support", "--budget", "300")
        done = chat("Hello?", "/context", args=args)
    assert "of 300 tokens" in done.out
    assert "Answer in verse." in done.out


def test_a_memory_is_forgotten_by_its_number_or_its_id(chat: Chat, db: str) -> None:
    with Memory(db) as memory:
        ana = memory.user("ana")
        ana.remember(["The boiler code is 4711.", "My sister paints boats."], session="older")
        [boats] = [record.id for record in ana.iter_memories() if "boats" in record.text]
    done = chat("What is the boiler code?", "/forget 1", f"/forget {boats}", "/forget 1", "/forget")
    assert "forgotten: [" in done.out
    assert "The boiler code is 4711." in done.out
    assert done.out.count("clean: 1 messages and 1 memories are gone") == 2
    assert done.err.count("error (input)") == 2
    assert texts(db) == ["What is the boiler code?"]


def test_the_commands_that_need_no_model(chat: Chat, db: str) -> None:
    with Memory(db) as memory:
        memory.user("ana").facts.remember("Ana lives in Lisbon.", confidence=0.8)
    done = chat(
        "/facts", "/remember I like tea.", "/help", "/nonsense", "//slash", "", "/quit", "no"
    )
    assert "- Ana lives in Lisbon." in done.out
    assert "80% sure" in done.out
    assert "/forget" in done.out
    assert "There is no /nonsense" in done.out
    assert texts(db) == ["Ana lives in Lisbon.", "I like tea.", "/slash"]


def test_a_model_that_fails_ends_no_chat(chat: Chat, db: str) -> None:
    script: list[Any] = [Reply("no such key", status=401), "Here I am."]
    with ScriptedServer(script) as server:
        done = chat("Hello.", "Hello again.", args=model(server))
    assert done.code == 0
    assert "error (model_refused)" in done.err
    assert "no such key" in done.err
    assert "Here I am." in done.out
    assert texts(db) == ["Hello.", "Hello again.", "Here I am."]


def test_what_the_model_does_to_memory_is_shown(chat: Chat) -> None:
    script: list[Any] = [ToolCall("remember", {"text": "Ana likes tea."}), "Noted.", ""]
    with ScriptedServer(script) as server:
        done = chat("Tea, please.", "/why", "And now?", args=model(server))
    assert "noted: Ana likes tea." in done.out
    assert "(the model said nothing)" in done.out


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (("--model", "gpt"), "input"),
        (("--url", "http://127.0.0.1:9/v1"), "input"),
        (("--model", "x", "--url", "ftp://x"), "input"),
        (("--model", "x", "--url", "http://x", "--budget", "0"), "input"),
        (("--model", "x", "--url", "http://x", "--session", " "), "input"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(
    chat: Chat, args: tuple[str, ...], code: str
) -> None:
    done = chat("Hello.", args=args)
    assert f"error ({code})" in done.err


def test_a_model_talks_with_users_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], db: str
) -> None:
    command = ["mnemic", "chat", "--db", db, "--scope", "agent:support", "--model", "openai:x"]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit):
        main()
    assert "a model talks with a user" in capsys.readouterr().err


def test_piped_lines_are_answered_in_a_process_of_its_own(db: str) -> None:
    with ScriptedServer(["Good day.", "Indeed."]) as server:
        done = subprocess.run(
            [sys.executable, "-m", "mnemic", "chat", "--db", db, *model(server)],
            input=b"Hello.\nCaf\xe9 \x00?\n\xf0\x9f\x98\x80\n/quit\n",
            capture_output=True,
            env={**environment(), "PYTHONIOENCODING": "utf-8"},
            timeout=60,
            check=False,
        )
    assert done.returncode == 0
    assert b"error (input): the message holds a NUL" in done.stderr.replace(
        b"content", b"the message"
    )
    lines = [line for line in done.stdout.decode().splitlines() if "tokens" not in line]
    assert lines[-6:] == [
        "you> Hello.",
        "Good day.",
        "you> Caf\ufffd \\x00?",
        "you> \U0001f600",
        "Indeed.",
        "you> /quit",
    ]


def test_an_answer_is_broken_between_words_and_shown_though_it_has_no_spaces(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = showing._Lines(20)
    for piece in ("One two th", "ree four five six\nse", "ven", "\x1b[2J"):
        lines.put(piece)
    lines.end()
    assert capsys.readouterr().out == "One two three four \nfive six\nseven\\x1b[2J\n"
    lines = showing._Lines(80)
    lines.put("\u65e5\u672c\u8a9e" * 9)
    assert len(capsys.readouterr().out) == 24
    lines.end()


class Terminal:
    """The command in a terminal of its own."""

    def __init__(self, *args: str) -> None:
        import pty

        self._end, end = pty.openpty()
        self.text = ""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mnemic", "chat", *args],
            stdin=end,
            stdout=end,
            stderr=end,
            env={**environment(), "TERM": "xterm", "COLUMNS": "60"},
            start_new_session=True,
            preexec_fn=_own_terminal,
        )
        os.close(end)

    def wait_for(self, text: str, seconds: float = 60.0) -> bool:
        """Read until some text has come that wasn't read before; False where it doesn't."""
        until = monotonic() + seconds
        while text not in self.text:
            left = max(0.0, until - monotonic())
            if not select.select([self._end], [], [], left)[0]:
                return False
            try:
                self.text += os.read(self._end, 65536).decode(errors="replace")
            except OSError:  # the other end is closed
                return False
        self.text = self.text.partition(text)[2]
        return True

    def press(self, key: str, until: str) -> bool:
        """Press a key until it shows: one that comes just before a program waits isn't noticed yet."""
        for _ in range(20):
            self.type(key)
            if self.wait_for(until, 3.0):
                return True
        return False

    def type(self, text: str) -> None:
        os.write(self._end, text.encode())

    def close(self) -> None:
        os.close(self._end)


def _own_terminal() -> None:
    """Make the standard input this process's terminal, so that Ctrl-C reaches it."""
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_ctrl_c_stops_the_answer_and_ctrl_d_the_chat(db: str) -> None:
    asked = threading.Event()

    def script(messages: list[dict[str, Any]]) -> Reply | str:
        if "story" not in messages[-1]["content"]:
            return "Still here."
        asked.set()
        return Reply("late", delay=60)

    with ScriptedServer(script) as server:
        terminal = Terminal("--db", db, "--user", "ana", *model(server))
        assert terminal.wait_for("you> ")
        terminal.type("A story!\n")
        assert asked.wait(60)
        assert terminal.press("\x03", "stopped"), terminal.text
        assert terminal.wait_for("you> ")
        assert terminal.press("half a line\x03", "Ctrl-D ends"), terminal.text
        terminal.type("Are you there?\n")
        assert terminal.wait_for("Still here."), terminal.text
        assert terminal.wait_for("you> ")
        while terminal.process.poll() is None:
            terminal.type("\x04")
            with suppress(subprocess.TimeoutExpired):
                terminal.process.wait(1)
        assert terminal.process.returncode == 0
        terminal.close()
    assert texts(db) == ["A story!", "Are you there?", "Still here."]
