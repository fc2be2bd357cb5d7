"""Export and import: nothing is lost on the way, nothing comes twice, others' files are understood."""

from __future__ import annotations

import gzip
import io
import json
import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mnemic.errors import InputError
from mnemic.memory import Memory, ScopedMemory
from mnemic.records import MemoryRecord
from mnemic.transfer import files, importing
from mnemic.transfer.exporting import export_lines, export_openai
from mnemic.transfer.files import iter_json
from mnemic.transfer.importing import ImportReport, import_file
from tests.fakes import MeasuringEmbedder, new_folder, open_memory

MAY = datetime(2023, 5, 8, 12, tzinfo=UTC)

TEXT = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=60
)
NAME = TEXT.filter(lambda text: text.strip() != "")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e9, 1e9) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
WORDY = st.lists(
    st.sampled_from(["Tea is hot.", "tea is hot", "I moved!", "Where to?", "漢字。", "ok\n"]),
    min_size=1,
    max_size=9,
).map(" ".join)
CONTENT = st.one_of(
    WORDY,
    NAME,
    st.tuples(WORDY, st.dictionaries(TEXT, JSON, max_size=2)).map(
        lambda pair: [{"type": "text", "text": pair[0]}, {**pair[1], "type": "image_url"}]
    ),
)
MESSAGE = st.fixed_dictionaries(
    {"content": CONTENT},
    optional={
        "role": st.sampled_from(["user", "assistant", "system", "tool"]),
        "name": NAME,
        "session": st.sampled_from(["s1", "s2", "漢 字"]),
        "said_at": st.datetimes(
            datetime(1000, 1, 2), datetime(3000, 12, 30), timezones=st.just(UTC)
        ),
        "expires_at": st.datetimes(
            datetime(1000, 1, 2), datetime(3000, 12, 30), timezones=st.just(UTC)
        ),
        "tags": st.lists(NAME, max_size=2),
        "metadata": st.dictionaries(TEXT, JSON, max_size=2),
        "tool_calls": st.lists(st.dictionaries(TEXT, JSON, max_size=2), max_size=2),
        "tool_call_id": TEXT,
    },
)
BARE_CALL = st.just({"role": "assistant", "content": None, "tool_calls": [{"id": "c1"}]})


def write(path: Path, lines: Iterable[Any]) -> Path:
    text = "".join((x if isinstance(x, str) else json.dumps(x)) + "\n" for x in lines)
    path.write_text(text, "utf-8")
    return path


def texts(handle: ScopedMemory) -> list[str]:
    return [record.text for record in handle.iter_memories()]


def contents(handle: ScopedMemory) -> list[str]:
    return [item.message.content for item in handle._message_page(0, 10_000)]


def said_at(handle: ScopedMemory) -> list[datetime]:
    return [item.message.said_at for item in handle._message_page(0, 10_000)]


# --- there and back -------------------------------------------------------------------------------


@given(
    st.lists(MESSAGE | BARE_CALL, min_size=1, max_size=8),
    st.lists(st.tuples(st.sampled_from(["pin", "forget", "forget first"]), st.integers(0, 9))),
)
def test_an_export_imported_elsewhere_exports_the_same(
    said: list[dict[str, Any]], then: list[tuple[str, int]]
) -> None:
    with new_folder() as folder:
        with open_memory(folder / "one.db", MeasuringEmbedder(6)) as memory:
            ana = memory.user("ana")
            ana.remember(said)
            for what, number in then:
                records = list(ana.iter_memories())
                messages = ana._message_page(0, 100)
                if what == "pin" and records:
                    ana.pin(records[number % len(records)].id)
                elif what == "forget" and records:
                    ana.forget(records[number % len(records)].id)
                elif what == "forget first" and messages:
                    ana.forget(message_id=messages[0].message.id)
            lines = list(export_lines(ana))
            kept: list[MemoryRecord] = list(ana.iter_memories())
            found = ana.recall("Where is the tea?", limit=100)
        path = write(folder / "export.jsonl", lines)
        with open_memory(folder / "two.db", MeasuringEmbedder(6)) as memory:
            report = import_file(memory, path, user="ana")
            ana = memory.user("ana")
            assert list(export_lines(ana)) == lines
            assert list(ana.iter_memories()) == kept
            again = ana.recall("Where is the tea?", limit=100)
            assert {h.memory.id: pytest.approx(h.score, abs=2e-4) for h in found} == {
                h.memory.id: h.score for h in again
            }
            assert (report.messages, report.memories) == (len(lines) - 1, len(kept))
            assert (report.there_already, report.users) == (0, ["ana"] if len(lines) > 1 else [])
            before = memory.operator.stats().scopes
            report = import_file(memory, path, user="ana")
            assert (report.messages, report.memories) == (0, 0)
            assert report.there_already == len(lines) - 1
            assert memory.operator.stats().scopes == before
            assert list(export_lines(ana)) == lines


FACT = st.fixed_dictionaries(
    {"text": st.sampled_from(["Ana drinks tea.", "ana drinks tea", "Ana moved.", "漢字。"]) | NAME},
    optional={
        "confidence": st.floats(0, 1),
        "importance": st.floats(0, 1),
        "pinned": st.booleans(),
        "source": st.sampled_from(["user", "assistant", "document"]),
        "tags": st.lists(NAME, max_size=2),
        "metadata": st.dictionaries(TEXT, JSON, max_size=2),
        "said_at": st.datetimes(
            datetime(1000, 1, 2), datetime(3000, 12, 30), timezones=st.just(UTC)
        ),
        "valid_from": st.datetimes(datetime(1990, 1, 1), MAY.replace(tzinfo=None)).map(
            lambda moment: moment.replace(tzinfo=UTC)
        ),
        "valid_to": st.just(MAY + timedelta(days=1)),
        "expires_at": st.just(MAY),
        "support": st.lists(st.integers(0, 5), max_size=3),
    },
)
RULE = st.tuples(
    st.sampled_from(["tone", "tools", "漢字"]),
    st.sampled_from(["remember", "revise", "disable", "learn", "learn and approve", "forget"]),
    st.sampled_from(["Be brief.", "Be kind.\n\nAlways.", "Ask first."]),
)


@given(st.lists(FACT, min_size=1, max_size=5), st.lists(RULE, max_size=6), st.data())
def test_facts_instructions_and_settings_come_back_as_they_were(
    facts: list[dict[str, Any]], rules: list[tuple[str, str, str]], data: st.DataObject
) -> None:
    with new_folder() as folder:
        with open_memory(folder / "one.db") as memory:
            ana = memory.user("ana")
            ana.remember([{"content": f"thing {n}", "id": f"m{n}"} for n in range(6)])
            for fact in facts:
                said_by = [f"m{number}" for number in fact.pop("support", ())]
                ana.facts.remember(**fact, message_ids=said_by)
            for rule in rules:
                with suppress(InputError):
                    instruct(ana, *rule)
            ana.set_timezone("Europe/Lisbon")
            records = list(ana.iter_memories())
            ana.pin(data.draw(st.sampled_from(records)).id)
            ana.forget(data.draw(st.sampled_from(records)).id)
            lines, kept = list(export_lines(ana)), list(ana.iter_memories())
            versions = {name: ana.procedures.history(name) for name, *_ in rules}
        path = write(folder / "export.jsonl", lines)
        with open_memory(folder / "two.db") as memory:
            report = import_file(memory, path, user="ana")
            ana = memory.user("ana")
            assert list(export_lines(ana)) == lines
            assert list(ana.iter_memories()) == kept
            assert report.memories == len(kept)
            assert {name: ana.procedures.history(name) for name, *_ in rules} == versions
            assert ana.timezone() == "Europe/Lisbon"
            before = memory.operator.stats().scopes
            again = import_file(memory, path, user="ana")
            assert (again.memories, again.there_already) == (0, len(lines) - 1)
            assert memory.operator.stats().scopes == before


def instruct(ana: ScopedMemory, name: str, what: str, text: str) -> None:
    rules = ana.procedures
    if what == "remember":
        rules.remember(name, text, reason="so", examples=[("a?", "b.")])
    elif what == "revise":
        rules.revise(name, text, reason="better")
    elif what == "disable":
        rules.disable(name)
    elif what == "forget":
        rules.forget(name)
    else:
        rules.learn(text, name=name, approve=what != "learn")


def test_a_reply_that_broke_off_is_still_marked_so_after_an_import(
    memory: Memory, ana: ScopedMemory, tmp_path: Path
) -> None:
    buffer = ana.stream(iter(["Lisbon is ", "lovely"]), session="s1")
    next(iter(buffer))
    buffer.close()
    lines = list(export_lines(ana))
    assert json.loads(lines[1])["state"] == "interrupted"
    import_file(memory, write(tmp_path / "export.jsonl", lines), user="ben")
    ben = memory.user("ben")
    assert list(export_lines(ben))[1:] == lines[1:]
    assert [item.message.state for item in ben._message_page(0, 10)] == ["interrupted"]


def test_a_reply_that_is_being_said_is_exported_as_far_as_it_is_there(
    memory: Memory, ana: ScopedMemory, tmp_path: Path
) -> None:
    said = iter(ana.stream(iter(["Lisbon is ", "lovely"]), session="s1", every=0.05))
    next(said)
    until = time.monotonic() + 30
    while not ana._message_page(0, 10) and time.monotonic() < until:
        time.sleep(0.01)
    lines = list(export_lines(ana))
    import_file(memory, write(tmp_path / "export.jsonl", lines), user="ben")
    assert texts(memory.user("ben")) == ["Lisbon is"]
    assert list(said) == ["lovely"]


def test_an_import_leaves_instructions_and_a_time_zone_that_are_there(
    memory: Memory, ana: ScopedMemory, tmp_path: Path
) -> None:
    ana.procedures.remember("tone", "Be brief.")
    ana.set_timezone("Europe/Lisbon")
    path = write(tmp_path / "export.jsonl", export_lines(ana))
    ben = memory.user("ben")
    ben.procedures.remember("tone", "Be kind.")
    ben.set_timezone("Asia/Tokyo")
    report = import_file(memory, path, user="ben")
    assert (report.procedures, report.there_already) == (0, 1)
    assert [rule.text for rule in ben.procedures.active()] == ["Be kind."]
    assert ben.timezone() == "Asia/Tokyo"


def test_facts_are_imported_from_plain_lines(memory: Memory, tmp_path: Path) -> None:
    lines = [
        {"content": "I drink tea", "id": "m1", "session": "s1"},
        {"type": "fact", "text": "Ana drinks tea.", "confidence": 0.8, "message_ids": ["m1"]},
        {"type": "fact", "text": "Ana lives in Porto.", "valid_to": "2020-01-01T00:00:00Z"},
    ]
    report = import_file(memory, write(tmp_path / "lines.jsonl", lines), user="ana")
    assert (report.messages, report.memories, report.facts) == (1, 3, 2)
    tea, porto = memory.user("ana").facts.iter_facts()
    assert (tea.confidence, tea.message_ids) == (0.8, ("m1",))
    assert porto.valid_to == datetime(2020, 1, 1, tzinfo=UTC)


def test_a_fact_whose_id_is_taken_gets_another(
    memory: Memory, ana: ScopedMemory, tmp_path: Path
) -> None:
    fact = ana.facts.remember("Ana drinks tea.")
    [line] = [line for line in export_lines(ana) if '"type": "fact"' in line]
    other = json.dumps({**json.loads(line), "text": "Ana moved."})
    path = write(tmp_path / "export.jsonl", [other])
    assert import_file(memory, path, user="ana").facts == 1
    assert ana.get(fact.id) == fact
    assert texts(ana) == ["Ana drinks tea.", "Ana moved."]


def test_an_export_can_go_to_a_user_who_has_its_memories_already(
    memory: Memory, ana: ScopedMemory, tmp_path: Path
) -> None:
    ana.remember([{"id": "m1", "content": "I like tea"}, {"id": "m2", "content": "I like milk"}])
    path = write(tmp_path / "export.jsonl", export_lines(ana))
    ana.forget(message_id="m1")
    ana.remember({"id": "m9", "content": "i like tea."})
    report = import_file(memory, path, user="ana")
    assert (report.messages, report.there_already, report.repeats) == (1, 1, 1)
    assert sorted(texts(ana)) == ["I like milk", "i like tea."]
    import_file(memory, path, user="ben")
    assert texts(memory.user("ben")) == ["I like tea", "I like milk"]
    assert contents(ana) == ["I like milk", "i like tea.", "I like tea"]


def test_an_export_names_its_format_and_holds_no_line_ends(ana: ScopedMemory) -> None:
    ana.remember({"content": "line one\nline two\u2028 and \u0085 three", "id": "m1"})
    first, second = export_lines(ana)
    assert json.loads(first) == {"type": "mnemic", "version": 1, "scope": "user:ana"}
    assert "\n" not in second
    assert json.loads(second)["content"] == "line one\nline two\u2028 and \u0085 three"


def test_a_long_export_is_read_a_page_at_a_time(
    memory: Memory, ana: ScopedMemory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mnemic.transfer.exporting._PAGE", 3)
    monkeypatch.setattr(importing, "BATCH", 4)
    ana.remember([f"I like thing {n % 7}" for n in range(20)])
    path = write(tmp_path / "export.jsonl", export_lines(ana))
    progress: list[int] = []
    report = import_file(
        memory, path, user="ben", progress=lambda report: progress.append(report.messages)
    )
    assert progress == [4, 8, 12, 16, 20]
    assert (report.memories, report.repeats) == (7, 13)
    assert list(export_lines(memory.user("ben")))[1:] == list(export_lines(ana))[1:]


def test_an_export_for_openai_comes_back_as_it_was(
    memory: Memory, ana: ScopedMemory, tmp_path: Path
) -> None:
    calls = [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    ana.remember(
        [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "name": "Ana", "content": "How warm is it?"},
            {"role": "assistant", "content": None, "tool_calls": calls},
            {"role": "tool", "content": "21", "tool_call_id": "c1"},
        ],
        session="s1",
    )
    ana.remember("later", session="s2")
    lines = list(export_openai(ana))
    assert [json.loads(line)["id"] for line in lines] == ["s1", "s2"]
    assert json.loads(lines[0])["messages"][1] == {
        "role": "user",
        "content": "How warm is it?",
        "name": "Ana",
    }
    report = import_file(memory, write(tmp_path / "o.jsonl", lines), "openai", user="ben")
    assert report.messages == 5
    assert list(export_openai(memory.user("ben"))) == lines


# --- what is broken -------------------------------------------------------------------------------

GOOD = [{"role": "user", "content": f"good {n}", "id": f"m{n}"} for n in range(3)]
BAD_LINES: dict[str, Any] = {
    "no JSON": "{nothing",
    "a number": 5,
    "a list": ["a"],
    "an unknown role": {"role": "robot", "content": "x"},
    "an unknown field": {"role": "user", "content": "x", "colour": "red"},
    "empty content": {"role": "user", "content": " "},
    "a surrogate": '{"content": "a\\ud800b"}',
    "an unknown type": {"type": "song", "content": "x"},
    "a newer version": {"type": "mnemic", "version": 2},
    "a user that is no name": {"content": "x", "user": 5},
    "a blank user": {"content": "x", "user": " "},
    "memories that are no list": {"content": "x", "memories": {}},
    "a memory that is no mapping": {"content": "x", "memories": ["a"]},
    "a memory without a place": {"content": "x", "memories": [{"id": "a"}]},
    "a memory without an id": {"content": "x", "memories": [{"start": 0, "stop": 1}]},
    "a memory with a bad id": {"content": "x", "memories": [{"start": 0, "stop": 1, "id": "a"}]},
    "a memory outside": {"content": "x", "memories": [{"repeats": "a", "start": 0, "stop": 2}]},
    "a memory turned round": {
        "content": "xy",
        "memories": [{"repeats": "a", "start": 1, "stop": 1}],
    },
    "a bad recorded_at": {"content": "x", "recorded_at": "soon"},
    "a state that is none": {"content": "x", "state": "streaming"},
    "settings that are none": {"type": "mnemic", "version": 1, "settings": {"colour": "red"}},
    "a time zone that is none": {"type": "mnemic", "version": 1, "settings": {"timezone": "Moon"}},
    "a fact without text": {"type": "fact"},
    "a fact of an unknown field": {"type": "fact", "text": "x", "colour": "red"},
    "a fact with too much confidence": {"type": "fact", "text": "x", "confidence": 2},
    "a fact that nobody said": {"type": "fact", "text": "x", "message_ids": ["m9"]},
    "a fact said in no list": {"type": "fact", "text": "x", "said_in": "m0"},
    "a fact said in no mapping": {"type": "fact", "text": "x", "said_in": ["m0"]},
    "a fact said in no message": {"type": "fact", "text": "x", "said_in": [{"session": "s1"}]},
    "a fact said elsewhere": {
        "type": "fact",
        "text": "x",
        "said_in": [{"id": "m0", "session": "s1"}],
    },
    "a fact with a bad id": {"type": "fact", "text": "x", "id": "a"},
    "a fact with a bad status": {"type": "fact", "text": "x", "status": ["current"]},
    "an instruction without versions": {"type": "procedure", "name": "tone"},
    "an instruction with a bad version": {"type": "procedure", "name": "tone", "versions": [3]},
    "an instruction without a name": {"type": "procedure", "versions": [{"text": "Be brief."}]},
    "an instruction out of order": {
        "type": "procedure",
        "name": "tone",
        "versions": [{"text": "a", "version": 2}, {"text": "b", "version": 1}],
    },
    "an instruction twice in force": {
        "type": "procedure",
        "name": "tone",
        "versions": [{"text": "a", "version": 1}, {"text": "b", "version": 2}],
    },
    "an instruction of no author": {
        "type": "procedure",
        "name": "tone",
        "versions": [{"text": "a", "author": "god"}],
    },
    "another id of the same content": {"role": "user", "content": "other", "id": "m0"},
}
MEMORY = {"start": 0, "stop": 1, "id": "01890a5d-ac96-774b-bcce-b302099a8057"}
for field, wrong in (
    ("status", "alive"),
    ("confidence", 2),
    ("importance", True),
    ("valid_from", "soon"),
    ("recorded_at", "2023-05-08"),
):
    BAD_LINES[f"a bad {field}"] = {"content": "x", "memories": [{**MEMORY, field: wrong}]}


@pytest.mark.parametrize("bad", BAD_LINES.values(), ids=BAD_LINES.keys())
def test_a_broken_line_is_named_and_what_came_before_is_kept(
    memory: Memory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: Any
) -> None:
    monkeypatch.setattr(importing, "BATCH", 1)
    path = write(tmp_path / "broken.jsonl", [GOOD[0], GOOD[1], bad, GOOD[2]])
    with pytest.raises(InputError, match=r"broken\.jsonl.*3"):
        import_file(memory, path, fallback_user="ana")
    assert contents(memory.user("ana")) == ["good 0", "good 1"]
    write(path, GOOD)
    report = import_file(memory, path, user="ana")
    assert (report.messages, report.there_already) == (1, 2)


def test_a_batch_is_all_or_nothing(memory: Memory, tmp_path: Path) -> None:
    path = write(tmp_path / "broken.jsonl", [*GOOD, {"role": "robot", "content": "x"}])
    with pytest.raises(InputError, match="element 4"):
        import_file(memory, path, user="ana")
    assert contents(memory.user("ana")) == []


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\xff\xfe\x00", "UTF-8"),
        (gzip.compress(b'{"content": "x"}\n' * 50, mtime=0)[:-20], "cut off"),
        (b"\x1f\x8b\x08garbage", "UTF-8"),
        (b'[{"role": "user", "content": "x"}', "cut off"),
        (b'[{"role": "user", "content": "x"},', "cut off"),
        (b'[{"role": "user", "content": "x"} {"role": "user", "content": "y"}]', "JSON"),
        (b'[{"role": "user", "content": "x"}] and more', "JSON"),
        (b"null", "mapping"),
        (b"[" * 100_000, "JSON"),
    ],
)
def test_a_broken_file_is_refused(
    memory: Memory, tmp_path: Path, content: bytes, says: str
) -> None:
    path = tmp_path / "broken.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=says) as refused:
        import_file(memory, path, user="ana")
    assert "broken.json" in str(refused.value)


def test_what_is_no_file_or_no_format_is_refused(memory: Memory, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="can't read"):
        import_file(memory, tmp_path / "nowhere.jsonl", user="ana")
    with pytest.raises(InputError, match="can't read"):
        import_file(memory, tmp_path, user="ana")
    with pytest.raises(InputError, match="unknown format"):
        import_file(memory, write(tmp_path / "a.jsonl", GOOD), "csv", user="ana")
    with pytest.raises(InputError, match=r"element 1 .*whose memory"):
        import_file(memory, write(tmp_path / "a.jsonl", GOOD))
    assert memory.operator.stats().messages == 0


# --- others' files --------------------------------------------------------------------------------


@pytest.mark.parametrize("zipped", [False, True])
def test_plain_lines_are_imported(memory: Memory, tmp_path: Path, zipped: bool) -> None:
    lines = [
        {"role": "user", "content": "I like tea", "said_at": "2023-05-08T12:00:00Z"},
        {"content": "I like milk", "user": "ben", "tags": ["drink"], "at": 1683547200},
        {"role": "assistant", "content": "Noted.", "user": "ben", "session": "s1"},
    ]
    path = write(tmp_path / "lines.jsonl", lines)
    if zipped:
        path.write_bytes(gzip.compress(path.read_bytes()))
    report = import_file(memory, path, fallback_user="ana")
    assert report == ImportReport(3, 3, 0, 0, ["ana", "ben"])
    assert contents(memory.user("ana")) == ["I like tea"]
    assert contents(memory.user("ben")) == ["I like milk", "Noted."]
    assert said_at(memory.user("ana")) == said_at(memory.user("ben"))[:1] == [MAY]
    import_file(memory, path, user="cleo")
    assert len(contents(memory.user("cleo"))) == 3


def test_a_file_of_windows_is_read(memory: Memory, tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    text = "\r\n".join(json.dumps(line) for line in GOOD)
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert import_file(memory, path, user="ana").messages == 3


def test_an_empty_file_brings_nothing(memory: Memory, tmp_path: Path) -> None:
    for text in ("", " \n\n", "[]", " [ ] "):
        path = tmp_path / "empty.json"
        path.write_text(text)
        assert import_file(memory, path, user="ana") == ImportReport()


def test_openai_messages_are_imported(memory: Memory, tmp_path: Path) -> None:
    bare = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": [{"type": "text", "text": "I like tea"}]},
    ]
    path = tmp_path / "chat.json"
    for number, value in enumerate([bare, {"id": "talk", "messages": bare}]):
        path.write_text(json.dumps(value))
        for times in range(2):
            report = import_file(memory, path, "openai", user=f"u{number}")
            assert (report.messages, report.there_already) == ((2, 0), (0, 2))[times]
        assert contents(memory.user(f"u{number}")) == ["Be kind.", "I like tea"]
    first = memory.user("u1")._message_page(0, 10)[0].message
    assert (first.id, first.session) == ("talk:1", "talk")


LOCOMO = {
    "sample_id": "conv-1",
    "qa": [{"question": "Where?", "answer": "Lisbon"}],
    "conversation": {
        "speaker_a": "Ana",
        "speaker_b": "Ben",
        "session_10_date_time": "12:05 am on 1 June, 2023",
        "session_10": [{"speaker": "Ana", "dia_id": "D10:1", "text": "Late again."}],
        "session_2_date_time": "1:56 pm on 8 May, 2023",
        "session_2": [
            {"speaker": "Ana", "dia_id": "D2:1", "text": "I moved to Lisbon."},
            {
                "speaker": "Ben",
                "dia_id": "D2:2",
                "text": "Look!",
                "blip_caption": "a boat on a river",
                "img_url": ["https://example.org/a.png"],
            },
            {"speaker": "Ben", "dia_id": "D2:3", "text": "", "blip_caption": "a cat"},
            {"speaker": "Ben", "dia_id": "D2:4", "text": " "},
        ],
        "session_3_date_time": "9:00 am on 9 May, 2023",
    },
}


def test_locomo_is_imported(memory: Memory, tmp_path: Path) -> None:
    path = tmp_path / "locomo.json"
    path.write_text(json.dumps([LOCOMO, {**LOCOMO, "sample_id": "conv-2"}]))
    report = import_file(memory, path, "locomo")
    assert report.users == ["conv-1", "conv-2"]
    assert report.messages == 8
    one = memory.user("conv-1")
    assert contents(one) == [
        "I moved to Lisbon.",
        "Look! [photo: a boat on a river]",
        "[photo: a cat]",
        "Late again.",
    ]
    first = one._message_page(0, 10)[0].message
    assert (first.id, first.session, first.name, first.role) == ("D2:1", "session_2", "Ana", "user")
    assert said_at(one)[0] == datetime(2023, 5, 8, 13, 56, tzinfo=UTC)
    assert said_at(one)[-1] == datetime(2023, 6, 1, 0, 5, tzinfo=UTC)
    assert one.recall("What did Ana move to?")[0].memory.text == "I moved to Lisbon."
    assert import_file(memory, path, "locomo").there_already == 8


LONGMEMEVAL = {
    "question_id": "q1",
    "question": "Where does she live?",
    "haystack_session_ids": ["a", "b", "a"],
    "haystack_dates": [
        "2023/05/08 (Mon) 13:56",
        "2023/05/09 (Tue) 01:02",
        "2023/05/10 (Wed) 00:00",
    ],
    "haystack_sessions": [
        [
            {"role": "user", "content": "I moved to Lisbon.", "has_answer": True},
            {"role": "assistant", "content": "Lovely."},
        ],
        [{"role": "user", "content": ""}, {"role": "assistant", "content": "Hello?"}],
        [{"role": "user", "content": "I moved to Lisbon."}, {"role": "user", "content": "Bye."}],
    ],
}


def test_longmemeval_is_imported(memory: Memory, tmp_path: Path) -> None:
    path = tmp_path / "lme.json"
    path.write_text(json.dumps([LONGMEMEVAL]))
    report = import_file(memory, path, "longmemeval")
    assert (report.users, report.messages, report.repeats) == (["q1"], 5, 1)
    handle = memory.user("q1")
    places = [(i.message.session, i.message.id) for i in handle._message_page(0, 10)]
    assert places == [("a", "a:1"), ("a", "a:2"), ("b", "b:2"), ("a#2", "a#2:1"), ("a#2", "a#2:2")]
    assert said_at(handle)[2] == datetime(2023, 5, 9, 1, 2, tzinfo=UTC)
    assert said_at(handle)[0] + timedelta(days=1) < said_at(handle)[3]
    assert import_file(memory, path, "longmemeval").there_already == 5


NOON = "12:00 pm on 8 May, 2023"


@pytest.mark.parametrize(
    ("form", "value"),
    [
        ("locomo", [5]),
        ("locomo", [{"sample_id": "c"}]),
        ("locomo", [{"conversation": {"session_1": []}}]),
        ("locomo", [{"conversation": {"session_1": 5, "session_1_date_time": NOON}}]),
        ("locomo", [{"conversation": {"session_1": ["x"], "session_1_date_time": NOON}}]),
        ("longmemeval", [{"haystack_sessions": []}]),
        ("longmemeval", [{**LONGMEMEVAL, "haystack_dates": []}]),
        ("longmemeval", [{**LONGMEMEVAL, "haystack_dates": ["x", "y", "z"]}]),
        ("longmemeval", [{**LONGMEMEVAL, "haystack_sessions": [["x"], [], []]}]),
        ("longmemeval", [{**LONGMEMEVAL, "haystack_sessions": [[{"content": "x"}], [], []]}]),
        ("openai", [{"messages": 5}]),
        ("openai", [{"messages": [5]}]),
        ("openai", [5]),
    ],
)  # fmt: skip
def test_another_shape_than_the_format_has_is_refused(
    memory: Memory, tmp_path: Path, form: str, value: Any
) -> None:
    path = tmp_path / "other.json"
    path.write_text(json.dumps(value))
    with pytest.raises(InputError, match=r"other\.json, element 1"):
        import_file(memory, path, form, user="ana")
    assert contents(memory.user("ana")) == []


# --- streams --------------------------------------------------------------------------------------

SPACE = st.text(" \n\t\r", max_size=3)


@given(st.lists(JSON, max_size=6), st.integers(1, 9), SPACE, st.booleans())
@example([1.5, -2e-7, 12], 1, "", False)
@settings(max_examples=60)
def test_an_array_is_read_as_a_whole_would_be(
    values: list[Any], chunk: int, space: str, ascii: bool
) -> None:
    text = space + json.dumps(values, ensure_ascii=ascii, separators=(f"{space},", f":{space}"))
    text += space
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "_CHUNK", chunk)
        read = list(iter_json(io.StringIO(text), "f"))
    assert [value for _, value in read] == json.loads(text)
    assert [number for number, _ in read] == list(range(1, len(values) + 1))


@given(st.lists(st.dictionaries(TEXT, JSON, max_size=3), max_size=6), st.integers(1, 9))
def test_lines_are_read_one_by_one(values: list[Any], chunk: int) -> None:
    text = "\n\n".join(json.dumps(value, ensure_ascii=False) for value in values)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "_CHUNK", chunk)
        assert [value for _, value in iter_json(io.StringIO(text), "f")] == values


@given(st.lists(JSON, min_size=1, max_size=4), st.data())
def test_a_file_cut_off_anywhere_is_refused(values: list[Any], data: st.DataObject) -> None:
    text = json.dumps(values)
    cut = data.draw(st.integers(1, len(text) - 1))
    with pytest.raises(InputError, match="f: element"):
        list(iter_json(io.StringIO(text[:cut]), "f"))


def test_elements_come_before_the_rest_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_CHUNK", 64)
    handle = io.StringIO(json.dumps([{"n": n} for n in range(10_000)]))
    reading = iter_json(handle, "f")
    assert next(reading) == (1, {"n": 0})
    assert handle.tell() <= 256
    for _ in range(5000):
        next(reading)
    assert handle.tell() < len(handle.getvalue()) * 0.6
