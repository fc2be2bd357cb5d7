"""The command as people and programs use it: one life of a memory, its files, its errors, its help.

One life runs in real processes. The rest calls `main` in this one, which saves a start each.
"""

from __future__ import annotations

import errno
import gzip
import io
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from mnemic.memory import Memory
from mnemic.surfaces.cli.app import app, load_commands, main
from tests.fakes import environment

load_commands()

LOCOMO = [
    {
        "sample_id": "conv-1",
        "conversation": {
            "speaker_a": "Caroline",
            "speaker_b": "Melanie",
            "session_1_date_time": "1:56 pm on 8 May, 2023",
            "session_1": [
                {"speaker": "Caroline", "dia_id": "D1:1", "text": "I adopted a greyhound."},
                {"speaker": "Melanie", "dia_id": "D1:2", "text": "Look!", "blip_caption": "a kiln"},
            ],
        },
    }
]


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


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("MNEMIC_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def db(tmp_path: Path) -> str:
    return str(tmp_path / "life.db")


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Run the command in this process, as its script does."""

    def run(*args: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["mnemic", *args])
        code: Any = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
        said = capsys.readouterr()
        return Done(code, said.out, said.err)

    return run


def process(*args: str, **changed: str) -> Done:
    """Run the command in a process of its own."""
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8", **changed}
    done = subprocess.run(
        [sys.executable, "-m", "mnemic", *args],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        env=environment,
        timeout=60,
        check=False,
    )
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())


def test_one_life(db: str, tmp_path: Path) -> None:
    def mnemic(*args: str) -> Any:
        done = process(*args, "--db", db, "--json")
        assert (done.code, done.err) == (0, "")
        return done.json

    ana = ("--user", "ana")
    said = ("I moved to Lisbon.", "--name", "Ana", "--session", "s1", "--id", "m1")
    receipt = mnemic("remember", *said, "--at", "2023-05-08T13:56:00Z", "--tag", "home", *ana)
    assert (receipt["state"], receipt["message_ids"]) == ("indexed", ["m1"])
    [id] = receipt["memory_ids"]
    mnemic("remember", "My sister paints boats.", "--name", "Ana", *ana)

    found = mnemic("recall", "Which city does Ana live in?", *ana)
    assert found["hits"][0]["memory"]["id"] == id
    assert set(found["hits"][0]) == {"score", "relevance", "channels", "memory"}
    listed = mnemic("list", *ana)
    assert [record["text"] for record in listed] == [said[0], "My sister paints boats."]
    shown = mnemic("show", id, *ana)
    assert shown == listed[0]
    assert (shown["said_at"], shown["tags"]) == ("2023-05-08T13:56:00+00:00", ["home"])

    file = tmp_path / "ana.jsonl"
    assert mnemic("export", str(file), *ana) == {"file": str(file), "lines": 3}
    report = mnemic("import", str(file), "--user", "eva")
    assert (report["messages"], report["memories"], report["users"]) == (2, 2, ["eva"])
    copy = process("export", "--db", db, "--user", "eva")
    assert copy.out.splitlines()[1:] == file.read_text("utf-8").splitlines()[1:]

    erasure = mnemic("forget", "--message-id", "m1", *ana)
    assert (erasure["state"], erasure["messages"], erasure["memories"]) == ("clean", 1, 1)
    changes = mnemic("history", id, *ana)
    assert [change["action"] for change in changes] == ["remembered", "forgotten"]
    counted = mnemic("stats")
    assert {row["scope"]: row["memories"] for row in counted["scopes"]} == {
        "user:ana": 1,
        "user:eva": 2,
    }
    assert all(finding["ok"] for finding in mnemic("doctor"))


def test_what_people_see(call: Call, db: str) -> None:
    at = ("--db", db, "--user", "ana")
    assert "there is no memory at" in call("list", *at).err
    id = call("remember", "I moved to [bold]Lisbon[/].", "--name", "Ana", *at).out.split()[1]
    assert f"skipped: repeat of {id}" in call(
        "remember", "i moved to [bold]Lisbon[/]", "--name", "Ana", *at
    ).out.replace("\n", " ")
    elsewhere = call("recall", "where?", "--db", db, "--user", "nobody").out
    assert "Nothing here answers that" in elsewhere
    assert "Ana: I moved to [bold]Lisbon[/]." in call("recall", "Which city?", *at).out
    listed = call("list", *at).out
    assert id in listed
    assert "[bold]" in listed
    assert "I moved to [bold]Lisbon[/]." in call("show", id, *at).out
    assert "remembered" in call("history", id, *at).out
    assert "user:ana" in call("stats", "--db", db).out
    assert call("doctor", "--repair", "--db", db).out.count("ok ") == 5
    assert "clean: 2 messages and 1 memories are gone" in call("forget", id, *at).out
    assert call("forget", id, *at).out == "There was nothing to forget.\n"
    assert call("history", "01a20568-a576-75d8-b9aa-8cd268343553", *at).out.startswith("No hist")


# The tokenizer of budgets reads its data by a call that Python 3.11 and 3.12 warn of.
@pytest.mark.filterwarnings("ignore:open_binary:DeprecationWarning")
def test_recall_is_narrowed_by_each_option(call: Call, db: str) -> None:
    at = ("--db", db, "--scope", "acme/agent:support", "--json")
    for day, session, tag in (("08", "s1", "old"), ("09", "s2", "new")):
        said_at = f"2023-05-{day}T12:00:00Z"
        place = ("--session", session, "--tag", tag, "--at", said_at, "--id", day)
        call("remember", f"The kettle broke on the {day}th.", *place, *at)
    for narrowed in (
        ("--since", "2023-05-09T00:00:00Z"),
        ("--session", "s2"),
        ("--tag", "new"),
        ("--limit", "1", "--at", "2023-05-10T00:00:00Z", "--since", "2023-05-09T00:00:00Z"),
        ("--budget", "25", "--tag", "new"),
    ):
        hits = call("recall", "kettle", *narrowed, *at).json["hits"]
        assert [hit["memory"]["message_ids"] for hit in hits] == [["09"]], narrowed
    assert len(call("recall", "kettle", "--diversity", "0.5", *at).json["hits"]) == 2
    assert call("recall", "kettle", "--where", "a=b", *at).json["hits"] == []
    assert call("recall", "kettle", "--until", "2023-05-09T00:00:00Z", *at).json["hits"]


def test_remember_reads_standard_input(
    call: Call, db: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"Said\nthrough a pipe.")))
    assert call("remember", "-", "--db", db, "--json").json["state"] == "indexed"
    [record] = call("list", "--db", db, "--json").json
    assert record["text"] == "Said\nthrough a pipe."


def test_a_locomo_file_becomes_one_user_a_conversation(call: Call, db: str, tmp_path: Path) -> None:
    file = tmp_path / "locomo.json"
    file.write_text(json.dumps(LOCOMO), "utf-8")
    first = call("import", str(file), "--format", "locomo", "--db", db)
    assert first.out.split(":")[0] == "2 messages for conv-1"
    again = call("import", str(file), "--format", "locomo", "--db", db, "--json").json
    assert (again["messages"], again["there_already"]) == (0, 2)
    records = call("list", "--db", db, "--user", "conv-1", "--json").json
    assert [record["text"] for record in records] == [
        "I adopted a greyhound.",
        "Look! [photo: a kiln]",
    ]
    assert {record["said_at"] for record in records} == {"2023-05-08T13:56:00+00:00"}
    turns = call("export", "--format", "openai", "--db", db, "--user", "conv-1").out
    assert [turn["name"] for turn in json.loads(turns)["messages"]] == ["Caroline", "Melanie"]


@pytest.mark.parametrize("answer", ["n", "y"])
def test_forgetting_everything_asks_first(
    call: Call, db: str, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    call("remember", "I moved to Lisbon.", "--db", db)
    someone = io.StringIO(f"{answer}\n")
    monkeypatch.setattr(someone, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", someone)
    done = call("forget", "--everything", "--db", db)
    assert "Forget everything of user:me?" in done.out + done.err
    assert done.code == (1 if answer == "n" else 0)
    assert call("stats", "--db", db, "--json").json["messages"] == (1 if answer == "n" else 0)


UNKNOWN = "01a20568-a576-75d8-b9aa-8cd268343553"
ERRORS: dict[str, tuple[tuple[str, ...], str, str]] = {
    "no such file": (("import", "nowhere.jsonl"), "input", "nowhere.jsonl"),
    "not the format": (("import", "{file}", "-f", "locomo"), "input", "conversation"),
    "a bad time": (("recall", "where?", "--at", "yesterday"), "input", "ISO 8601"),
    "a bad time of saying": (("remember", "hi", "--at", "8 May"), "input", "ISO 8601"),
    "nobody to ask": (("forget", "--everything"), "input", "--yes"),
    "nobody to ask of a session": (("forget", "--session", "s1"), "input", "--yes"),
    "nothing named": (("forget",), "input", "--message-id"),
    "too much named": (
        ("forget", UNKNOWN, "--everything", "--yes"),
        "input",
        "one thing to forget",
    ),
    "no such memory": (("show", UNKNOWN), "input", UNKNOWN),
    "no id": (("history", "seven"), "input", "'seven'"),
    "an empty message": (("remember", " "), "input", "empty"),
    "an empty question": (("recall", " "), "input", "empty"),
    "an unknown role": (("remember", "hi", "--role", "boss"), "input", "assistant"),
    "an unknown scope": (("list", "--scope", "boss"), "input", "agent:support"),
    "two scopes": (("list", "--scope", "agent:a", "--user", "ana"), "input", "not both"),
    "no pair": (("recall", "where?", "--where", "home"), "input", "key=value"),
    "no file to write": (("export", "{folder}"), "input", "is a folder"),
    "no folder to write to": (("export", "{folder}/no/file"), "input", "can't write"),
    "an export that is there": (("export", "{file}"), "input", "--replace"),
    "a store to write over": (("export", "{folder}/life.db", "--replace"), "input", "database"),
    "no pair of JSON": (("recall", "where?", "--where", "page:=three"), "input", "no JSON"),
    "another id's content": (("remember", "Else.", "--id", "m1"), "id_conflict", "'m1'"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_an_error_is_one_clear_message(case: str, call: Call, db: str, tmp_path: Path) -> None:
    args, code, says = ERRORS[case]
    file = tmp_path / "plain.jsonl"
    file.write_text('{"role": "user", "content": "Hello."}\n', "utf-8")
    call("remember", "Something.", "--id", "m1", "--db", db)
    filled = [arg.format(file=file, folder=tmp_path) for arg in args]
    told = call(*filled, "--db", db)
    assert (told.code, told.out) == (1, "")
    message = " ".join(told.err.split())
    assert message.startswith(f"error ({code}): ")
    assert says in message
    parsed = call(*filled, "--db", db, "--json")
    assert (parsed.code, parsed.err) == (1, "")
    assert parsed.json["error"]["code"] == code
    assert says in parsed.json["error"]["message"]


@pytest.mark.parametrize("kind", ["text", "cut off", "another program's", "a folder", "elsewhere"])
def test_a_database_that_cant_be_opened(kind: str, call: Call, tmp_path: Path) -> None:
    file = tmp_path / "odd.db"
    if kind == "text":
        file.write_text("Dear diary, today I bought a kettle.\n" * 200, "utf-8")
    elif kind == "cut off":
        call("remember", "hi", "--db", str(file))
        file.write_bytes(file.read_bytes()[:20_000])
    elif kind == "another program's":
        connection = sqlite3.connect(file)
        connection.execute("CREATE TABLE kettles (id)")
        connection.close()
    elif kind == "a folder":
        file.mkdir()
    target = "postgresql://localhost/life" if kind == "elsewhere" else str(file)
    content = file.read_bytes() if file.is_file() else b""
    for command in ("stats", "doctor"):
        told = call(command, "--db", target)
        assert (told.code, told.out) == (1, "")
        assert told.err.startswith("error (")
    error = call("stats", "--db", target, "--json").json["error"]
    assert error["code"] in {"store_unreadable", "store", "input"}
    assert kind == "another program's" or not file.is_file() or file.read_bytes() == content


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("import", "x.json", "--format", "diary"), "'longmemeval'"),
        (("show",), "Missing argument"),
        (("recall", "where?", "--limit", "many"), "--limit"),
        (("remind", "me"), "No such command"),
        (("recall", "where?", "--limit", "0"), "--limit"),
    ],
)
def test_a_call_that_cant_be_understood(args: tuple[str, ...], says: str, call: Call) -> None:
    told = call(*args)
    assert told.code == 2
    assert told.out == ""
    assert says in told.err.splitlines()[-1]


def test_a_setting_that_cant_be_used(call: Call, db: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNEMIC_RESIDENT_MB", "much")
    told = call("stats", "--db", db)
    assert told.code == 1
    assert "MNEMIC_RESIDENT_MB" in told.err


def test_every_command_has_help_and_an_example() -> None:
    group: Any = typer.main.get_command(app)
    names = (
        "remember recall context sessions timezone list show history forget stats doctor reembed"
    )
    names += " backup restore import"
    assert set(group.commands) == {
        *names.split(),
        "export",
        "chat",
        "demo",
        "eval",
        "facts",
        "procedures",
    }
    within = {
        f"{outer} {name}": command
        for outer in ("facts", "procedures")
        for name, command in group.commands[outer].commands.items()
    }
    for name, command in {**group.commands, **within}.items():
        assert "Example: " in command.help, name
        assert f"mnemic {name}" in command.help.split("Example: ")[1], name
        for option in command.params:
            assert option.help, f"{name} {option.name}"
        shown = CliRunner().invoke(app, [*name.split(), "-h"])
        assert shown.exit_code == 0
        assert "Example: mnemic" in shown.output or name == "reembed"


def test_a_store_is_backed_up_and_restored(call: Call, db: str, tmp_path: Path) -> None:
    copy = str(tmp_path / "monday.db")
    assert call("remember", "I live in Lisbon.", "--db", db).code == 0
    made = call("backup", copy, "--db", db)
    assert made.code == 0
    assert "monday.db" in made.out
    assert call("backup", copy, "--db", db, "--json").json["error"]["code"] == "input"
    assert call("backup", copy, "--db", db, "--replace", "--json").json["path"] == copy
    assert call("forget", "--everything", "--yes", "--db", db).code == 0
    refused = call("restore", copy, "--db", db)
    assert refused.code == 1
    assert "there is a store at" in refused.err
    done = call("restore", copy, "--db", db, "--replace", "--json")
    assert done.json == {"path": db, "messages": 1, "memories": 1, "set_aside": None}
    assert "Lisbon" in call("recall", "where do I live?", "--db", db).out


def test_doctor_says_what_it_mended(call: Call, db: str) -> None:
    assert call("remember", "I live in Lisbon.", "--db", db).code == 0
    with closing(sqlite3.connect(db)) as connection, connection:
        connection.execute("UPDATE vectors SET vector = x'00'")
    told = call("doctor", "--db", db)
    assert told.code == 1
    assert "mnemic doctor --repair" in told.out
    told = call("doctor", "--repair", "--db", db)
    assert told.code == 0
    assert "mended: vectors made: 1" in told.out


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM to catch")
def test_sigterm_ends_a_command_tidily(db: str, tmp_path: Path) -> None:
    lines = [
        {"role": "user", "content": f"Kettle {n} is blue.", "id": f"m{n}"} for n in range(5000)
    ]
    file = tmp_path / "kettles.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)), "utf-8")
    command = [sys.executable, "-m", "mnemic", "import", str(file), "--db", db]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment())
    wal = Path(f"{db}-wal")
    for _ in range(2_000):
        if wal.exists() and wal.stat().st_size > 200_000:
            break
        time.sleep(0.01)
    process.terminate()
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + signal.SIGTERM
    assert "stopped; what was acknowledged is kept" in said
    assert not wal.exists()  # everything was closed
    done = subprocess.run(
        [*command, "--json"], capture_output=True, text=True, check=True, env=environment()
    )
    report = json.loads(done.stdout)
    assert report["there_already"] > 0
    assert report["messages"] + report["there_already"] == 5000


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database whose lists don't fit into the buffer of a pipe."""
    folder = tmp_path_factory.mktemp("large")
    lines = [{"role": "user", "content": f"Kettle {number} is blue."} for number in range(400)]
    (folder / "large.jsonl").write_text("\n".join(map(json.dumps, lines)), "utf-8")
    done = CliRunner().invoke(
        app, ["import", str(folder / "large.jsonl"), "--db", str(folder / "large.db")]
    )
    assert done.exit_code == 0, done.output
    return str(folder / "large.db")


def read_one_line(*args: str) -> Done:
    """Run the command into a pipe that is closed after the first line."""
    command = [sys.executable, "-m", "mnemic", *args]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        line = running.stdout.readline()
        running.stdout.close()
        complaint = running.stderr.read()
    return Done(running.returncode, line.decode(), complaint.decode())


@pytest.mark.parametrize("args", [("export",), ("list", "--limit", "400", "--json")])
def test_a_reader_that_goes_away_is_no_trouble(args: tuple[str, ...], large: str) -> None:
    done = read_one_line(*args, "--db", large)
    assert done.out in {'{"type": "mnemic", "version": 1, "scope": "user:me"}\n', "[\n"}
    assert done.err == ""


def test_an_error_is_one_line_in_a_log(tmp_path: Path) -> None:
    file = tmp_path / "diary.db"
    file.write_text("Dear diary, today I bought a kettle.\n" * 200, "utf-8")
    told = process("stats", "--db", str(file))
    assert told.code == 1
    assert len(told.err.splitlines()) == 1


def test_any_text_can_be_written_to_a_file_or_pipe(db: str) -> None:
    process("remember", "Ana mag Käse \N{EN DASH} 日本.", "--db", db)
    done = process("export", "--db", db, PYTHONIOENCODING="", PYTHONUTF8="0", LC_ALL="POSIX")
    narrow = process("list", "--db", db, PYTHONIOENCODING="cp1252")
    assert "Traceback" not in done.err + narrow.err
    assert (done.code, narrow.code) == (0, 0)


def test_another_programs_database_stays_as_it_is(call: Call, tmp_path: Path) -> None:
    file = tmp_path / "kettles.db"
    connection = sqlite3.connect(file)
    connection.execute("CREATE TABLE kettles (id)")
    connection.close()
    content = file.read_bytes()
    assert call("stats", "--db", str(file)).code == 1
    assert file.read_bytes() == content


def test_standard_input_that_isnt_text(db: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mnemic", "remember", "-", "--db", db],
        input=b"\xff\xfe caf\xe9",
        env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(b"error (input)")


def test_a_list_of_none_isnt_said_to_be_empty(call: Call, db: str) -> None:
    call("remember", "I moved to Lisbon.", "--db", db)
    assert "No memories yet" not in call("list", "--limit", "0", "--db", db).out


def test_a_program_can_parse_what_it_did_wrong(call: Call) -> None:
    assert call("import", "x.json", "--format", "diary", "--json").json["error"]["code"]


# --- what a terminal, a pipe or a name may do ------------------------------------------------------


def command(*args: str, **more: Any) -> subprocess.CompletedProcess[bytes]:
    line = [sys.executable, "-m", "mnemic", *args]
    return subprocess.run(line, capture_output=True, env=environment(), timeout=60, **more)


def test_the_version_and_help_without_a_command(call: Call) -> None:
    told = call("--version")
    assert (told.code, told.err) == (0, "")
    assert re.fullmatch(r"mnemic \d+\.\d+\.\d+\n", told.out)
    told = call()
    assert (told.code, told.err) == (2, "")
    assert "Usage: mnemic" in told.out


@pytest.mark.parametrize("name", ["[/x]", "[bold]z", ":smile:", "a\x1b[31mb"])
def test_names_and_texts_are_shown_as_they_are(name: str, call: Call, db: str) -> None:
    if "\x1b" not in name:  # which no name may hold
        call("remember", "hi", "--user", name, "--db", db)
        assert name.replace("/", "%2F") in call("stats", "--db", db).out
    call("remember", f"said {name} here", "--name", "Ana", "--db", db)
    seen = name.replace("\x1b", "\\x1b")
    for command in (("list",), ("recall", "what was said?")):
        assert f"said {seen} here" in call(*command, "--db", db).out


def test_names_with_slashes_are_told_apart_and_can_be_named(call: Call, db: str) -> None:
    with Memory(db) as memory:
        memory.user("a/user:b").remember("of the one")
        memory.tenant("user:a").user("b").remember("of the other")
        names = {str(scope): scope for scope in memory.operator.scopes()}
    assert len(names) == 2
    for name, said in zip(sorted(names), ("of the one", "of the other"), strict=True):
        assert said in call("list", "--scope", name, "--db", db).out


def test_import_reads_pipes_whole(tmp_path: Path) -> None:
    lines = b"".join(b'{"role": "user", "content": "Message %d."}\n' % n for n in range(3000))
    for number, file in enumerate(("-", "/dev/stdin") if os.path.exists("/dev/stdin") else ("-",)):
        for form, content in enumerate((lines, gzip.compress(lines))):
            db = str(tmp_path / f"{number}{form}.db")
            done = command("import", file, "--db", db, "--json", input=content)
            assert done.returncode == 0, done.stderr
            assert json.loads(done.stdout)["messages"] == 3000


def test_an_export_that_breaks_off_leaves_the_older_one(
    call: Call, db: str, tmp_path: Path
) -> None:
    file = tmp_path / "all.jsonl"
    call("remember", "Something.", "--db", db)
    call("export", str(file), "--db", db)
    before = file.read_bytes()
    call("remember", "Something else.", "--db", db)
    with pytest.MonkeyPatch.context() as patch:

        def full(_item: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        patch.setattr("mnemic.transfer.exporting._message", full)
        told = call("export", str(file), "--db", db, "--replace")
        assert (told.code, "No space left" in told.err) == (1, True)
    assert file.read_bytes() == before
    assert sorted(path.name for path in tmp_path.glob("all*")) == ["all.jsonl"]
    assert call("export", str(file), "--db", db, "--replace").code == 0
    assert len(file.read_bytes()) > len(before)
    assert call("export", "-", "--db", db).out == file.read_text("utf-8")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
def test_output_that_cant_be_written_is_a_clear_error(tmp_path: Path) -> None:
    db = str(tmp_path / "life.db")
    with open("/dev/full", "wb") as full:
        line = [sys.executable, "-m", "mnemic", "remember", "kept", "--db", db]
        done = subprocess.run(line, stdout=full, stderr=subprocess.PIPE, env=environment())
    assert done.returncode == 1
    assert done.stderr.startswith(b"error (output): can't write the output: ")
    assert done.stderr.count(b"\n") == 1
    assert b"kept" in command("list", "--db", db).stdout


@pytest.mark.skipif(os.name == "nt", reason="of the shell")
def test_without_standard_input(tmp_path: Path) -> None:
    for args in ("remember -", "import -"):
        line = f'"{sys.executable}" -m mnemic {args} --db "{tmp_path}/life.db" <&-'
        done = subprocess.run(["sh", "-c", line], capture_output=True, env=environment())
        assert (done.returncode, done.stdout) == (1, b"")
        assert done.stderr.startswith(b"error (input): standard input is closed")
