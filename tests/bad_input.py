"""Every bad input, and what comes of it: one table, that a test proves and docs/errors.md prints.

A case is played on real things (`tests/bad_ground.py`), in a folder of its own: a store, files, a
model, another program that stands in the way. `tests/core/test_bad_input.py` holds what happened
against what the case claims, and `section` writes it down. Nothing here depends on the machine; what needs
a certain one (a disk that is really full, a file that may not be written) is tested there.
"""

from __future__ import annotations

import gzip
import itertools
import json
import os
import re
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, timezone
from functools import partial
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any
from unittest.mock import patch
from uuid import UUID

import numpy as np
from sqlalchemy import event

from mnemic.errors import (
    AmbiguousMessage,
    BadVector,
    EmbedderMismatch,
    EmbedderUnavailable,
    IdConflict,
    InputError,
    MissingExtra,
    StoreBusy,
    StoreClosed,
    StoreError,
    StoreFull,
    StoreMoved,
    StoreReadOnly,
    StoreTooNew,
    StoreUnreadable,
)
from mnemic.memory import Memory
from mnemic.models.minilm import MiniLM
from mnemic.records import Message
from mnemic.settings import Settings, from_environment
from mnemic.stores import sqlite
from mnemic.transfer.importing import import_file
from tests.bad_ground import (
    BAD_TEXT,
    NOT_TEXT,
    Call,
    Case,
    Cases,
    Ground,
    Place,
    Places,
    Values,
    digits,
    each,
    every,
    fifty_mb,
    play,
    ten_kb,
)
from tests.bad_layers import layer_cases
from tests.fakes import FakeEmbedder

# --- text and messages ----------------------------------------------------------------------------


def _remember(ground: Ground, value: Any) -> Any:
    return ground.ana.remember(value)


def _field(name: str) -> Place:
    return lambda ground, value: ground.ana.remember({"content": "I like figs", name: value})


def _text_cases() -> Cases:
    places: Places = {
        "`remember()`": ("content", _remember),
        "`content`": ("content", _field("content")),
        "a part": (
            "content",
            lambda g, v: _remember(g, {"content": [{"type": "text", "text": v}]}),
        ),
    }
    yield from every("text", BAD_TEXT, places)
    yield from each(
        "text",
        {
            "an empty text, the first that a new store is given": lambda g: _remember(g, ""),
        },
        before=new_store,
        lasting=True,
    )


def new_store(ground: Ground) -> None:
    ground.path.unlink()
    ground.open(ground.path).close()
    assert ground.memory is not None


def _breaking_off() -> Iterator[str]:
    yield "I like figs"
    raise ConnectionError("the line is cut")


def _as_record(ground: Ground, fields: Mapping[str, Any]) -> Any:
    at = datetime(2023, 5, 8, tzinfo=UTC)
    given: dict[str, Any] = {"id": "m9", "session": None, "role": "user", "content": "figs"}
    return ground.ana.remember(Message(said_at=at, recorded_at=at, **(given | dict(fields))))


def _message_cases() -> Cases:
    group = "messages"
    wrong: Values = {
        "`None`": None,
        "a number": 5,
        "`True`": True,
        "bytes": b"I like figs",
        "a set": {"I like figs", "I like plums"},
        "an object": object(),
    }
    yield from every(group, wrong, {"": ("", _remember)})
    listed: Values = {
        "`None` in a list": ["I like plums", None],
        "a number in a list": ["I like plums", 5],
        "bytes in a list": ["I like plums", b"I like figs"],
        "a list in a list": ["I like plums", ["I like figs"]],
        "100,001 messages": lambda: ["I like figs"] * 100_001,
        "messages for ever": lambda: itertools.repeat("I like figs"),
        "no content": {"role": "user"},
        "a number for content": {"content": 5},
        "bytes for content": {"content": b"I like figs"},
        "a mapping for content": {"content": {"type": "text", "text": "I like figs"}},
        "no parts": {"content": []},
        "a part that is a number": {"content": [5]},
        "a part without a type": {"content": [{"text": "I like figs"}]},
        "a text part without text": {"content": [{"type": "text"}]},
        "an image of bytes": {"content": [{"type": "image", "image": b"png"}]},
        "an unknown field": {"content": "I like figs", "colour": "red"},
        "a hundred unknown fields": {f"field{number:03}": 1 for number in range(100)},
        "a field of 50 MB": lambda: {fifty_mb(): 1},
        "a number for a field": {5: 1},
        "a number of 5,000 digits for a field": lambda: {digits(): 1},
    }
    yield from every(group, listed, {"": ("", _remember)})
    yield from each(group, {"a generator that breaks off": _generator}, ConnectionError)
    roles: Values = {
        "a role that nobody knows": "robot",
        "`None` for a role": None,
        "a list for a role": ["user"],
        "an array for a role": np.array([1, 2]),
        "a role of 50 MB": fifty_mb,
        "a role of 5,000 digits": digits,
    }
    yield from every(group, roles, {"": ("", _field("role"))}, varies="(?<=function, not ).*")
    records: Values = {
        "a `Message` whose content is a number": {"content": 5},
        "a `Message` whose extra is `None`": {"extra": None},
        "a `Message` whose parts are text": {"extra": {"parts": "figs"}},
    }
    yield from every(group, records, {"": ("", _as_record)})
    yield from _conflicts(group)
    yield from each(group, {"an empty list": _nothing}, None, happens="the receipt is `unchanged`")


def _generator(ground: Ground) -> Any:
    return ground.ana.remember(_breaking_off())


def _nothing(ground: Ground) -> None:
    assert ground.ana.remember([]).state == "unchanged"


def _conflicts(group: str) -> Cases:
    long = "x" * 512
    twice: Values = {
        "an id in use for another content": {"id": "m1", "session": "s1", "content": "I like figs"},
        "an id for two contents": [{"id": "m9", "content": word} for word in ("figs", "nuts")],
    }
    yield from every(group, twice, {"": ("", _remember)}, IdConflict)
    yield from every(
        group,
        {"an id of 512 characters for two contents": {"id": long, "content": "nuts"}},
        {"": ("", _remember)},
        IdConflict,
        before=lambda g: g.ana.remember({"id": long, "content": "figs"}),
    )


# --- ids and names --------------------------------------------------------------------------------

REQUIRED: Places = {
    "`user()`": ("user", lambda g, v: g.memory.user(v)),
    "`agent()`": ("agent", lambda g, v: g.memory.agent(v)),
    "`shared()`": ("shared", lambda g, v: g.memory.shared(v)),
    "`tenant()`": ("tenant", lambda g, v: g.memory.tenant(v)),
    "`tenant().user()`": ("user", lambda g, v: g.memory.tenant("acme").user(v)),
    "`tenant().agent()`": ("agent", lambda g, v: g.memory.tenant("acme").agent(v)),
    "`tenant().shared()`": ("shared", lambda g, v: g.memory.tenant("acme").shared(v)),
    "`forget_session()`": ("session", lambda g, v: g.ana.forget_session(v)),
}
OPTIONAL: Places = {
    "`remember(session=)`": ("session", lambda g, v: g.ana.remember("I like figs", session=v)),
    "`session`": ("session", _field("session")),
    "`id`": ("id", _field("id")),
    "`name`": ("name", _field("name")),
    "`recall(in_session=)`": ("in_session", lambda g, v: g.ana.recall("tea", in_session=v)),
    "`forget(message_id=)`": ("message_id", lambda g, v: g.ana.forget(message_id=v)),
    "`forget(session=)`": ("session", lambda g, v: g.ana.forget(message_id="m1", session=v)),
}


def _name_cases() -> Cases:
    names = {**NOT_TEXT, **BAD_TEXT, "10 kB of text": ten_kb}
    yield from every("ids and names", names, {**REQUIRED, **OPTIONAL})
    yield from every("ids and names", {"`None`": None}, REQUIRED)


# --- times ----------------------------------------------------------------------------------------

BAD_TIMES: Values = {
    "a datetime without a zone": datetime(2023, 5, 8, 13, 56),
    "text without a zone": "2023-05-08T13:56:00",
    "text of a date": "2023-05-08",
    "a date": date(2023, 5, 8),
    "text that is no time": "yesterday",
    "empty text": "",
    "half a surrogate pair": "2023-05-08\ud80013:56:00Z",
    "50 MB of text": fifty_mb,
    "milliseconds since 1970": 1_683_547_200_000,
    "a number of 5,000 digits": digits,
    "infinity (`1e400`)": float("1e400"),
    "not a number": float("nan"),
    "`True`": True,
    "bytes": b"2023-05-08T13:56:00Z",
    "a list": [2023, 5, 8],
    "the end of 9999, in a zone": datetime.max.replace(tzinfo=timezone(-timedelta(hours=5))),
    "the beginning of year 1, in a zone": "0001-01-01T00:00:00+05:00",
}
FAR_TIMES: Values = {
    "the year 1, an empty time of other languages": datetime(1, 1, 1, tzinfo=UTC),
    "the year 999": "0999-12-31T23:59:59Z",
    "the year 3001": "3001-01-01T00:00:00Z",
    "the year 9999": datetime(9999, 12, 31, tzinfo=UTC),
}


def _asking(argument: str) -> Place:
    return lambda ground, value: ground.ana.recall("What do I like?", **{argument: value})


def _time_cases() -> Cases:
    stored: Places = {
        "`said_at`": ("said_at", _field("said_at")),
        "`at`": ("said_at", _field("at")),
        "`expires_at`": ("expires_at", _field("expires_at")),
    }
    yield from every("times of messages", {**BAD_TIMES, **FAR_TIMES}, stored)
    asked: Places = {f"`{name}`": (name, _asking(name)) for name in ("at", "since", "until")}
    yield from every("times of questions", BAD_TIMES, asked)


# --- metadata and tags ----------------------------------------------------------------------------


def _nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth):
        value = {"x": value}
    return value


def _itself() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value["x"] = value
    return value


def _many_times() -> dict[str, Any]:
    value: list[Any] = []
    for _ in range(40):
        value = [value, value]
    return {"x": value}


NOT_JSON: Values = {
    "a set": lambda: {"x": {1, 2}},
    "an object": lambda: {"x": object()},
    "bytes": lambda: {"x": b"png"},
    "a datetime": lambda: {"x": datetime(2023, 5, 8, tzinfo=UTC)},
    "a NumPy number": lambda: {"x": np.int64(5)},
    "not a number": lambda: {"x": float("nan")},
    "infinity": lambda: {"x": [float("inf")]},
    "a number of 5,000 digits": lambda: {"x": digits()},
}
BAD_JSON: Values = {
    "half a surrogate pair": lambda: {"x": "a\ud800b"},
    "half a surrogate pair in a key": lambda: {"a\ud800b": 1},
    "a number for a key": lambda: {1: "a", "1": "b"},
    "a pair for a key": lambda: {(1, 2): "a"},
    "10 MB of text": lambda: {"x": "x" * 10_000_000},
    "a key of 10 MB": lambda: {"x" * 10_000_000: 1},
    "10 MB of numbers": lambda: {"x": [1] * 5_000_000},
    "a list held 2^40 times": _many_times,
    "mappings 101 deep": lambda: _nested(100),
    "mappings 10,000 deep": lambda: _nested(10_000),
    "a mapping that holds itself": _itself,
}
NOT_A_MAPPING: Values = {"a list": ["a"], "text": "a", "a number": 5, "raw bytes": b"a"}
BAD_TAGS: Values = {
    "text": "home",
    "bytes": b"home",
    "a number": 5,
    "a mapping": {"home": 1},
    "a number in a list": [5],
    "empty text in a list": [""],
    "a NUL character in a list": ["a\x00b"],
    "half a surrogate pair in a list": ["a\ud800b"],
    "a tag of 201 characters": ["x" * 201],
    "a tag of 50 MB": lambda: [fifty_mb()],
    "65 tags": [str(number) for number in range(65)],
    "one tag for ever": lambda: itertools.repeat("home"),
}


def _label_cases() -> Cases:
    mappings: Places = {
        "`metadata`": ("metadata", _field("metadata")),
        "`recall(where=)`": ("where", _asking("where")),
    }
    calls = "what the message carries"
    carried: Places = {"`tool_calls`": (calls, lambda g, v: _field("tool_calls")(g, [v]))}
    anywhere = {**mappings, **carried}
    yield from every("metadata", NOT_JSON, anywhere, varies="(?<=can't hold )[^;]*")
    yield from every("metadata", BAD_JSON, anywhere)
    yield from every("metadata", NOT_A_MAPPING, mappings)
    tags: Places = {"`tags`": ("", _field("tags")), "`recall(tags=)`": ("", _asking("tags"))}
    yield from every("tags", BAD_TAGS, tags)


# --- questions ------------------------------------------------------------------------------------

BAD_COUNTS: Values = {
    "0": 0,
    "-1": -1,
    "1.5": 1.5,
    "`True`": True,
    "text": "5",
    "infinity": float("inf"),
    "a number of 5,000 digits": digits,
}
BAD_DIVERSITY: Values = {
    "-0.1": -0.1,
    "1.1": 1.1,
    "not a number": float("nan"),
    "`None`": None,
    "`True`": True,
    "text": "much",
    "a number of 5,000 digits": digits,
}
BAD_KINDS: Values = {
    "an unknown kind": ["dreams"],
    "text": "dreams",
    "a number": 5,
    "bytes": b"episodic",
    "a mapping": {"episodic": 1},
    "a list in a list": [["episodic"]],
    "an array in a list": [np.array([1, 2])],
    "a kind of 50 MB": lambda: [fifty_mb()],
    "numbers for ever": itertools.count,
}


def _question_cases() -> Cases:
    group = "questions"
    question: Places = {"`recall()`": ("the question", lambda g, v: g.ana.recall(v))}
    yield from every(group, {"`None`": None, **NOT_TEXT, **BAD_TEXT}, question)
    limit: Places = {"`limit`": ("limit", _asking("limit"))}
    budget: Places = {"`budget`": ("budget", _asking("budget"))}
    yield from every(group, {**BAD_COUNTS, "`None`": None, "10,001": 10_001}, limit)
    yield from every(group, {**BAD_COUNTS, "10,000,001": 10_000_001}, budget)
    shares = {f"`{name}`": ("", _asking(name)) for name in ("diversity", "min_relevance")}
    no_share = {says: value for says, value in BAD_DIVERSITY.items() if value is not None}
    yield from every(group, no_share, shares)
    yield from every(group, {"`None`": None}, {"`diversity`": shares["`diversity`"]})
    yield from every(group, BAD_KINDS, {"`kinds`": ("", _asking("kinds"))})


# --- facts ----------------------------------------------------------------------------------------


def _fact(**given: Any) -> Call:
    return lambda ground: ground.ana.facts.remember(**{"text": "Ana likes figs", **given})


def _of_fact(name: str) -> Place:
    return lambda ground, value: _fact(**{name: value})(ground)


def _fact_cases() -> Cases:
    group = "facts"
    words = {**BAD_TEXT, **NOT_TEXT, "2,001 characters": "x" * 2_001}
    yield from every(group, words, {"": ("", _of_fact("text"))})
    shares: Places = {
        "`confidence`": ("confidence", _of_fact("confidence")),
        "`importance`": ("importance", _of_fact("importance")),
    }
    yield from every(group, {**BAD_DIVERSITY, "`None`": None}, shares)
    later, sooner = "2024-01-01T00:00:00Z", "2023-01-01T00:00:00Z"
    calls = {
        "the end before the beginning": _fact(valid_from=later, valid_to=sooner),
        "the end at the beginning": _fact(valid_from=later, valid_to=later),
        "a time without a zone": _fact(valid_from="2024-01-01T00:00:00"),
        "an unknown source": _fact(source="rumour"),
        "a pin that is a number": _fact(pinned=1),
        "an unknown field": _fact(colour="red"),
        "one id as text": _fact(message_ids="m2"),
        "a message that isn't there": _fact(message_ids=["m2", "m9"]),
        "a message of another session": _fact(message_ids=["m1"], session="s9"),
        "1,001 messages": _fact(message_ids=[f"m{n}" for n in range(1_001)]),
        "a session, and no messages": _fact(session="s1"),
    }
    yield from each(group, calls)
    yield Case(
        group,
        "a message's id that several sessions use",
        _fact(message_ids=["m1"]),
        AmbiguousMessage,
    )
    bounds = {**BAD_COUNTS, "1,001": 1_001}
    profile: Places = {"`profile()`": ("", lambda g, v: g.ana.facts.profile(v))}
    yield from every(group, bounds, profile)


# --- memories' ids --------------------------------------------------------------------------------

NOBODYS = str(UUID(int=7))
BAD_IDS: Values = {
    **NOT_TEXT,
    "empty text": "",
    "text that is no id": "m1",
    "a NUL character": "a\x00b",
    "half a surrogate pair": "a\ud800b",
}
LONG_IDS: Values = {
    "10 kB of text": ten_kb,
    "50 MB of text": fifty_mb,
    "a number of 5,000 digits": digits,
}
BY_ID: Places = {
    "`history()`": ("", lambda g, v: g.ana.history(v)),
    "`pin()`": ("", lambda g, v: g.ana.pin(v)),
    "`unpin()`": ("", lambda g, v: g.ana.unpin(v)),
    "`forget()`": ("", lambda g, v: g.ana.forget(v)),
}


def _get(ground: Ground, value: Any) -> None:
    assert ground.ana.get(value) is None


def _absent(ground: Ground) -> None:
    assert ground.ana.get(NOBODYS) is None
    assert ground.ana.history(NOBODYS) == []
    assert ground.ana.pin(NOBODYS) is ground.ana.unpin(NOBODYS) is False
    assert ground.ana.forget(NOBODYS).state == "absent"
    assert ground.ana.forget(message_id="m99").state == "absent"
    assert ground.ana.forget_session("s99").state == "absent"


def _id_cases() -> Cases:
    group, id_word = "memories' ids", "^.*(?= is not a memory id)"
    yield from every(group, BAD_IDS, BY_ID, varies=id_word)
    one: Places = {to: place for to, place in BY_ID.items() if to != "`forget()`"}
    yield from every(group, {"`None`": None}, one, varies=id_word)
    yield from every(group, LONG_IDS, BY_ID, varies=id_word)
    get: Places = {"`get()`": ("", _get)}
    values = {**BAD_IDS, **LONG_IDS, "`None`": None}
    yield from every(group, values, get, None, happens="answers `None`")
    none = "answers `None`, an empty history, `False`, or an `Erasure` that is `absent`"
    yield from each(group, {"an id of nothing that is there": _absent}, None, happens=none)
    wrong: Mapping[str, Call] = {
        "no id": lambda g: g.ana.forget(),
        "two ids": lambda g: g.ana.forget(NOBODYS, message_id="m1"),
        "a memory's id and a session": lambda g: g.ana.forget(NOBODYS, session="s1"),
    }
    yield from each(group, wrong, to="`forget()`")
    two: Mapping[str, Call] = {
        "a message id of two sessions": lambda g: g.ana.forget(message_id="m1")
    }
    yield from each(group, two, AmbiguousMessage, to="`forget()`")
    long: Mapping[str, Call] = {
        "a message id of 512 characters, of two sessions": lambda g: g.ana.forget(
            message_id="x" * 512
        )
    }
    yield from each(
        group,
        long,
        AmbiguousMessage,
        before=lambda g: [
            g.ana.remember({"id": "x" * 512, "content": "figs"}, session=f"{'x' * 500}{number}")
            for number in range(2)
        ],
    )


# --- import files ---------------------------------------------------------------------------------

LINE = {"role": "user", "content": "I like figs"}
MEMORY = {"id": NOBODYS, "start": 0, "stop": 6}


def _import(content: bytes, form: Any = "jsonl", **given: Any) -> Call:
    def call(ground: Ground) -> None:
        file = ground.folder / "file.jsonl"
        file.write_bytes(content)
        try:
            import_file(ground.memory, file, form, **{"user": "ana", **given})
        finally:
            file.unlink()

    return call


def _path(make: Callable[[Path], Any]) -> Call:
    return lambda ground: import_file(ground.memory, make(ground.folder), user="ana")


def _line(**fields: Any) -> bytes:
    return json.dumps({**LINE, **fields}).encode()


def _second(**fields: Any) -> Call:
    """Import two lines, the first of which is good: nothing of either is kept."""
    return _import(_line(id="m8") + b"\n" + _line(**fields))


def _memory(**fields: Any) -> Call:
    return _second(memories=[{**MEMORY, **fields}])


def _file_cases() -> Cases:
    group = "import files"
    yield from each(
        group, {"no such file": _path(lambda f: f / "file.jsonl")}, varies="(?<=jsonl: ).*"
    )
    yield from each(group, {"a folder": _path(lambda f: f)}, varies="(?<=read ).*")
    broken: Mapping[str, Call] = {
        "bytes that aren't UTF-8": _import(b"\xff\xfe\x00"),
        "a gzip file that is cut off": _import(gzip.compress(_line() * 50, mtime=0)[:-20]),
        "a gzip file that isn't one": _import(b"\x1f\x8b\x08garbage"),
        "text that isn't JSON": _import(b"I like figs"),
        "an array that is cut off": _import(b"[" + _line() + b","),
        "a line that is cut off": _import(_line()[:-5]),
        "lists 100,000 deep": _import(b"[" * 100_000),
    }
    yield from each(group, broken, varies="(?<=cut off: ).*")
    wrong: Mapping[str, Call] = {
        "a line that is a number": _import(b"5"),
        "another format than `locomo`": _import(_line(), "locomo"),
        "another format than `longmemeval`": _import(_line(), "longmemeval"),
        "an unknown format": _import(_line(), "csv"),
        "a file of a newer Mnemic": _import(b'{"type": "mnemic", "version": 2}'),
        "a message of nobody": _import(_line(), user=None),
        "a user that is a number": _import(_line(user=5), user=None),
        "a user of 10 kB": _import(_line(user=ten_kb()), user=None),
        "an unknown role": _second(role="robot"),
        "a time in milliseconds": _second(said_at=1_683_547_200_000),
        "a time of `1e400`": _import(b'{"content": "figs", "said_at": 1e400}'),
        "metadata of `NaN`": _second(metadata={"a": float("nan")}),
        "metadata that is a list": _second(metadata=["a"]),
        "half a surrogate pair": _second(content="a\ud800b"),
        "memories that are no list": _second(memories="all"),
        "a memory without its place": _second(memories=[{"id": NOBODYS}]),
        "a memory outside its message": _memory(stop=99),
        "a memory whose id is none": _memory(id="m1"),
        "a memory with a confidence of 2": _memory(confidence=2),
        "a memory valid from the year 1": _memory(valid_from="0001-01-01T00:00:00Z"),
    }
    yield from each(group, wrong)
    yield from each(group, {"an id for two contents": _second(id="m8", content="nuts")}, IdConflict)
    yield from each(group, {"an empty file": _import(b"")}, None, happens="nothing is imported")
    yield from _odd_files(group)


def _odd_files(group: str) -> Cases:
    digits = b'{"content": "figs", "said_at": ' + b"1" * 5000 + b"}"
    odd: Mapping[str, Call] = {
        "a NUL in the path": _path(lambda f: f / "a\x00b"),
        "a number of 5,000 digits": _import(digits),
        "a list for a format": _import(_line(), ["jsonl"]),
        "a format of 10 kB": _import(_line(), ten_kb()),
        "a type of 10 kB": _second(type=ten_kb()),
        "an unknown type of line": _second(type="memo"),
        "an unknown status": _memory(status="gone"),
    }
    yield from each(group, odd)


# --- vectors and the model ------------------------------------------------------------------------

Giving = Callable[[Sequence[str]], Any]
KEPT = "kept, found by its words, and the receipt says"


class _Embedder(FakeEmbedder):
    """An embedder that gives what it is told to instead of vectors."""

    def __init__(self, give: Giving, dimensions: Any = 32) -> None:
        super().__init__()
        self.dimensions = dimensions
        self.give = give

    def embed(self, texts: Sequence[str]) -> Any:
        return self.give(texts)


def _full(value: float, wide: int = 32, more: int = 0) -> Giving:
    return lambda texts: np.full((len(texts) + more, wide), value, dtype=np.float32)


def _raising(error: BaseException) -> Giving:
    def give(texts: Sequence[str]) -> Any:
        raise error

    return give


BAD_VECTORS: Mapping[str, Giving] = {
    "not a number": _full(float("nan")),
    "infinity": _full(float("inf")),
    "31 numbers for 32": _full(1.0, 31),
    "no vector": _full(1.0, more=-1),
    "two vectors for one text": _full(1.0, more=1),
    "one row of numbers": lambda texts: np.ones(32, dtype=np.float32),
    "`None`": lambda texts: None,
    "rows of different length": lambda texts: [[1.0], [1.0, 2.0]],
    "an error of its own": _raising(RuntimeError("the model is gone")),
    "`MemoryError`": _raising(MemoryError("no room")),
    "`RecursionError`": _raising(RecursionError("too deep")),
    "`TimeoutError`": _raising(TimeoutError("too slow")),
}
# An embedder's error may repeat the text that it was given, and any length of it.
TALKATIVE: Mapping[str, Giving] = {
    "a list of strings": list,
    "an error of 50 MB": lambda texts: _raising(RuntimeError(fifty_mb()))(texts),
}


def _keep(embedder: Any, ground: Ground, file: str = "memory.db") -> str:
    """Remember and ask with an embedder that fails: the words are kept, and found."""
    ana = ground.open(ground.folder / file, embedder).user("ana")
    # Long enough that an embedder that can is asked to measure it.
    receipt = ana.remember("I like figs. " * 40)
    found = ana.recall("figs", limit=1)
    assert receipt.state == "committed"
    assert found[0].memory.text.startswith("I like figs.")
    assert (receipt.error[:20], found.error[:20]) == (found.error[:20], receipt.error[:20])
    return str(receipt.error)


def _vector_cases() -> Cases:
    kept = {given: partial(_keep, _Embedder(give)) for given, give in BAD_VECTORS.items()}
    yield from each("vectors", kept, None, happens=KEPT, varies="(?<=ValueError: ).*")
    long = {given: partial(_keep, _Embedder(give)) for given, give in TALKATIVE.items()}
    yield from each("vectors", long, None, happens=KEPT)
    undone = _full(1.0, 31), _raising(RuntimeError("the model is gone"))
    for give, error in zip(undone, (BadVector, EmbedderUnavailable), strict=True):
        embedder = _Embedder(give)
        given = "31 numbers for 32" if error is BadVector else "an error of its own"
        yield Case(
            "vectors",
            given,
            partial(_reembed, embedder),
            error,
            "`reembed()`",
            before=partial(_keep, embedder),
        )
    others: Mapping[str, Call] = {
        "another embedder than the store's": partial(_fill, FakeEmbedder("other")),
        "its name, with other dimensions": partial(_fill, FakeEmbedder("fake", 64)),
    }
    yield from each("vectors", others, EmbedderMismatch)
    yield from each(
        "vectors",
        {
            "dimensions of `None`, in a new store": partial(
                _fill, _Embedder(list, None), file="n.db"
            )
        },
        EmbedderUnavailable,
    )


def _reembed(embedder: Any, ground: Ground) -> Any:
    return ground.open(ground.path, embedder).operator.reembed()


def _fill(embedder: Any, ground: Ground, file: str = "memory.db") -> Any:
    return ground.open(ground.folder / file, embedder).user("ana").remember("I like figs")


WEIGHTS = ("model.onnx", "tokenizer.json", "manifest.json")


def _model(name: str, change: Callable[[Path], object]) -> Call:
    def call(ground: Ground) -> str:
        folder = ground.folder / "weights"
        folder.mkdir()
        with as_file(files("mnemic.models").joinpath("weights", "all-MiniLM-L6-v2")) as bundled:
            for each in WEIGHTS:
                shutil.copyfile(bundled / each, folder / each)
        change(folder / name)
        return _keep(MiniLM(folder=folder), ground, "new.db")

    return call


def _alter(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def _model_cases() -> Cases:
    calls: dict[str, Call] = {}
    for name in WEIGHTS:
        calls[f"`{name}` is missing"] = _model(name, Path.unlink)
    for name in WEIGHTS[:2]:
        calls[f"`{name}` was altered"] = _model(name, _alter)
    calls["`model.onnx` is empty"] = _model("model.onnx", lambda file: file.write_bytes(b""))
    others = '{"name": "other", "sha256": {}}'
    calls["the manifest isn't JSON"] = _model(WEIGHTS[2], lambda file: file.write_text("{"))
    calls["another model's manifest"] = _model(WEIGHTS[2], lambda file: file.write_text(others))
    yield from each("the model", calls, None, happens=KEPT, varies=r"(?<=\().*?(?=\)\. )")


# --- the database ---------------------------------------------------------------------------------

WRITES: Mapping[str, Call] = {
    "`remember()`": lambda g: g.ana.remember("I like figs"),
    "`forget()`": lambda g: g.ana.forget(message_id="m2"),
    "`forget_everything()`": lambda g: g.ana.forget_everything(),
    "`pin()`": lambda g: g.ana.pin(NOBODYS),
}
READS: Mapping[str, Call] = {
    "`recall()`": lambda g: g.ana.recall("tea"),
    "`get()`": lambda g: g.ana.get(NOBODYS),
    "`history()`": lambda g: g.ana.history(NOBODYS),
    "`iter_memories()`": lambda g: list(g.ana.iter_memories()),
    "`stats()`": lambda g: g.memory.operator.stats(),
    "`check()`": lambda g: g.memory.operator.check(),
    "`upkeep()`": lambda g: g.memory.operator.upkeep(),
}


NEW, SAID = "`Memory()`", "`remember()`"


def _wherever(given: str, calls: Mapping[str, Call], error: type[Exception], **more: Any) -> Cases:
    for to, call in calls.items():
        yield Case("the database", given, call, error, to, **more)


def _open(ground: Ground) -> Any:
    return ground.memory


def _cut(size: float) -> Call:
    def cut(ground: Ground) -> None:
        content = ground.path.read_bytes()
        ground.path.write_bytes(content[: int(size if size >= 1 else size * len(content))])

    return cut


def _sql(*statements: str, anew: bool = False) -> Call:
    def run(ground: Ground) -> None:
        if anew:
            ground.path.unlink()
        with closing(sqlite3.connect(ground.path)) as connection:
            for statement in statements:
                connection.execute(statement)
            connection.commit()

    return run


def _folder(ground: Ground) -> None:
    ground.path.unlink()
    ground.path.mkdir()


def _opening_cases() -> Cases:
    def cases(worlds: Mapping[str, Call], error: Any, **more: Any) -> Cases:
        for given, before in worlds.items():
            yield Case(
                "the database", given, _open, error, NEW, before=before, lasting=True, **more
            )

    text = "Dear diary, " * 500
    theirs = ("CREATE TABLE notes (text TEXT)", "INSERT INTO notes VALUES ('theirs')")
    version = "UPDATE alembic_version SET version_num = "
    unreadable: Mapping[str, Call] = {
        "a text file": lambda g: g.path.write_text(text),
        "another program's database": _sql(*theirs, anew=True),
    }
    yield from cases(unreadable, StoreUnreadable)
    cut = {"half a database": _cut(0.5), "50 bytes of a database": _cut(50)}
    yield from cases(cut, StoreUnreadable, varies=r"(?<=damaged \().*?(?=\);)")
    yield from cases({"a folder": _folder}, InputError)
    yield from cases({"a newer Mnemic's database": _sql(f"{version} '9999'")}, StoreTooNew)
    yield from cases(
        {"a database of a version that never was": _sql(f"{version} '0000'")},
        StoreUnreadable,
    )
    gone = _sql("DELETE FROM alembic_version")
    yield from cases({"a database whose version is gone": gone}, StoreUnreadable)
    lock = "a database that another program keeps to itself"
    yield Case("the database", lock, _open, StoreBusy, NEW, before=_lock_all, after=_let_go)
    room = "no room to make a new store"
    yield Case("the database", room, _open, StoreFull, NEW, before=_cramp, after=_uncramp)


def _impatient(ground: Ground) -> None:
    """Have the connections that are made from now on wait for a lock only shortly."""
    others = [pragma for pragma in sqlite._PRAGMAS if "busy_timeout" not in pragma]
    wanted = ("PRAGMA busy_timeout=20", *others)
    ground.stack.enter_context(patch.object(sqlite, "_PRAGMAS", wanted))


def _lock(ground: Ground, *, all: bool = False) -> None:
    _impatient(ground)
    if not all:
        assert ground.memory is not None
    other = ground.stack.enter_context(closing(sqlite3.connect(ground.path, timeout=0)))
    other.isolation_level = None
    if all:
        other.execute("PRAGMA locking_mode=EXCLUSIVE").close()
    other.execute("BEGIN EXCLUSIVE").close()
    ground.held.append(other)


def _lock_all(ground: Ground) -> None:
    _lock(ground, all=True)


def _let_go(ground: Ground) -> None:
    ground.held.pop().close()


def _cramp(ground: Ground) -> None:
    ground.path.write_bytes(b"")
    few = patch.object(sqlite, "_PRAGMAS", (*sqlite._PRAGMAS, "PRAGMA max_page_count=8"))
    few.start()
    ground.held.append(few)


def _uncramp(ground: Ground) -> None:
    ground.held.pop().stop()
    ground.ana.remember("I like tea")


def _pragma(memory: Memory, pragma: Callable[[Any], str]) -> None:
    """Have each connection of a memory run a pragma before it is used."""

    def checkout(driver: Any, _record: object, _proxy: object) -> None:
        driver.execute(pragma(driver)).close()

    event.listen(memory._core.database.engine, "checkout", checkout)


def _freeze(ground: Ground) -> None:
    _pragma(ground.memory, lambda _: "PRAGMA query_only=1")


def _while_away(call: Call, ground: Ground) -> Any:
    """Make a call while the file goes by another name."""
    assert ground.memory is not None
    away = ground.path.with_suffix(".moved")
    ground.path.rename(away)
    try:
        return call(ground)
    finally:
        away.rename(ground.path)


@dataclass
class Disk:
    """A limit on how large a store may grow, which stands in for the end of a disk."""

    full: bool = False

    def under(self, memory: Memory) -> None:
        _pragma(memory, self._limit)

    def _limit(self, driver: Any) -> str:
        pages = driver.execute("PRAGMA page_count").fetchone()[0]
        return f"PRAGMA max_page_count={pages if self.full else 1 << 30}"


def _fill_disk(ground: Ground) -> None:
    disk = Disk(full=True)
    disk.under(ground.memory)
    ground.held.append(disk)


def _make_room(ground: Ground) -> None:
    ground.held[-1].full = False


def _full_at_vectors(ground: Ground) -> str:
    """Let the disk fill up while the embedder works; its vectors need pages of their own."""
    disk = Disk()

    def give(texts: Sequence[str]) -> Any:
        disk.full = True
        return _full(1.0, 4096)(texts)

    embedder = _Embedder(give, 4096)
    memory = ground.open(ground.folder / "new.db", embedder)
    ana = memory.user("ana")
    ana.recall("figs")
    disk.under(memory)
    receipt = ana.remember("I like figs")
    assert receipt.state == "committed"
    assert [hit.memory.text for hit in ana.recall("figs")] == ["I like figs"]
    disk.full, embedder.give = False, _full(1.0, 4096)
    assert ana.remember("I like plums").state == "indexed"
    return str(receipt.error)


def _answers(ground: Ground) -> None:
    assert [hit.memory.text for hit in ground.ana.recall("tea", limit=1)] == ["I like tea"]


def _when_closed(call: Call, ground: Ground) -> Any:
    """Make a call of a memory that was closed, while the ground's own stays open."""
    closed = Ground.__new__(Ground)
    closed.opened = ground.open(ground.path)
    closed.opened.close()
    return call(closed)


def _database_cases() -> Cases:
    group = "the database"
    yield from _opening_cases()
    gone = _sql("DROP TABLE messages")
    call: Call = partial(_fill, FakeEmbedder())
    yield Case(group, "a table is gone", call, StoreError, SAID, before=gone, lasting=True)
    lock = "another program holds the write lock"
    yield from _wherever(lock, WRITES, StoreBusy, before=_lock, after=_let_go)
    yield Case(
        group, lock, _answers, None, "`recall()`", "", "answers", before=_lock, after=_let_go
    )
    frozen = "a file that can't be written to"
    yield from _wherever(frozen, WRITES, StoreReadOnly, before=_freeze, lasting=True)
    moved = "a file that was moved, or removed, while it was open"
    calls = {**WRITES, "`recall()`": READS["`recall()`"]}
    away = {to: partial(_while_away, call) for to, call in calls.items()}
    yield from _wherever(moved, away, StoreMoved)
    text = " ".join(str(number) for number in range(10_000))
    full = "a disk that fills up while the words are written"
    yield Case(
        group,
        full,
        lambda g: _remember(g, text),
        StoreFull,
        SAID,
        before=_fill_disk,
        after=_make_room,
    )
    vectors = "a disk that fills up before the vectors are written"
    yield Case(group, vectors, _full_at_vectors, None, SAID, happens=KEPT)
    closed = {to: partial(_when_closed, call) for to, call in {**WRITES, **READS}.items()}
    yield from _wherever("a memory that was closed", closed, StoreClosed)


# --- backups --------------------------------------------------------------------------------------

Make = Callable[[Path], Any]


def _backup(make: Make, replace: bool = False) -> Call:
    return lambda ground: ground.memory.operator.backup(make(ground.folder), replace=replace)


def _restore(backup: Make, target: Make) -> Call:
    return lambda ground: Memory.restore(backup(ground.folder), target(ground.folder))


def _text_file(ground: Ground) -> None:
    (ground.folder / "notes.txt").write_text("Dear diary, " * 500)
    assert ground.memory is not None


ODD_PATHS: Values = {
    "a number": 5,
    "bytes": b"copy.db",
    "half a surrogate pair": "a\ud800b",
    "10 kB of text": ten_kb,
}


def _backup_cases() -> Cases:
    group = "backups"

    def own(folder: Path) -> Path:
        return folder / "memory.db"

    def new(folder: Path) -> Path:
        return folder / "new.db"

    def notes(folder: Path) -> Path:
        return folder / "notes.txt"

    there: dict[str, Call] = {"the store itself": _backup(own), "a folder": _backup(lambda f: f)}
    yield from each(group, there, to="`backup()`", varies="^.*(?= is a folder)")
    found = {"a file that is there": _backup(notes), "no backup": _backup(notes, replace=True)}
    yield from each(group, found, to="`backup()`", before=_text_file)
    url = "postgresql://localhost/life"
    restoring: Mapping[str, Call] = {
        "no such file": _restore(notes, new),
        "a target that is there": _restore(own, own),
        "a target that is no file": _restore(own, lambda _: url),
    }
    yield from each(group, restoring, to="`restore()`")
    text = {"a text file": _restore(notes, new)}
    yield from each(group, text, StoreUnreadable, to="`restore()`", before=_text_file)
    odd: Places = {
        "`backup()`": ("", lambda g, v: g.memory.operator.backup(v)),
        "`restore()` to": ("", lambda g, v: Memory.restore(g.path, v)),
    }
    yield from every(group, ODD_PATHS, odd)


# --- settings and targets -------------------------------------------------------------------------


def _environment(name: str) -> Place:
    def call(ground: Ground, value: str) -> Any:
        with patch.dict(os.environ, {name: value}):
            return from_environment()

    return call


def _setting(name: str) -> Place:
    return lambda ground, value: Settings(**{name: value})


def _opening(ground: Ground, value: Any) -> Any:
    # Should a target be taken for none, the default is in this folder.
    with patch("mnemic.core.default_db", lambda: str(ground.folder / "default.db")):
        return ground.open(value)


def _remote(url: str, model: str | None = "some-model") -> Call:
    def call(ground: Ground) -> Any:
        chosen = Settings(embedder_url=url, embedder_model=model)
        with patch("mnemic.models.remote.TRIES", 1):
            memory = Memory(ground.folder / "new.db", settings=chosen)
            return ground.stack.enter_context(memory).user("ana").remember("I like figs")

    return call


def _without_httpx(ground: Ground) -> Any:
    modules: dict[str, Any] = sys.modules
    import httpx

    modules["httpx"] = None
    try:
        return _remote("http://127.0.0.1:9")(ground)
    finally:
        modules["httpx"] = httpx


BAD_TARGETS: Values = {
    "`:memory:`": ":memory:",
    "a URL without a file": "sqlite:///",
    "a URL of two slashes": "sqlite://life.db",
    "another database's URL": "postgresql://localhost/life",
}
ODD_TARGETS: Values = {
    "a number": 5,
    "`True`": True,
    "bytes": b"life.db",
    "a list": ["life.db"],
    "empty text": "",
    "a NUL character": "a\x00b",
    "half a surrogate pair": "a\ud800b",
    "nobody's home": "~nobody-of-that-name/life.db",
    "a URL with a password": f"postgresql://ana:{'x' * 62}@localhost/life",
}
BAD_SIZES: Values = {
    "`lots`": "lots",
    "`0`": "0",
    "`-1`": "-1",
    "`1.5`": "1.5",
    "`\u00b2`": "\u00b2",
    "5,000 digits": "9" * 5000,
}
ODD_SIZES: Values = {f"`{size!r}`": size for size in (0, -1, 1.5, True, "1024", None, 10**12)}


def _settings_cases() -> Cases:
    group = "settings and targets"
    target: Places = {"`Memory()`": ("", _opening)}
    yield from every(group, BAD_TARGETS, target)
    yield from every(group, ODD_TARGETS, target)
    wrong: Places = {
        "`Memory(settings=)`": ("", lambda g, v: g.open(g.folder / "new.db", settings=v)),
        "`Memory(embedder=)`": ("", lambda g, v: _fill(v, g, "new.db")),
    }
    yield from every(group, {"a number": 5}, wrong)
    resident: Places = {"`MNEMIC_RESIDENT_MB`": ("", _environment("MNEMIC_RESIDENT_MB"))}
    yield from every(group, BAD_SIZES, resident)
    yield from every(group, ODD_SIZES, {"`resident_mb`": ("", _setting("resident_mb"))})
    named = {f"`{name}`": (name, _environment(name)) for name in ("MNEMIC_DB", "MNEMIC_USER")}
    url: Places = {
        "`MNEMIC_EMBEDDER_URL`": ("MNEMIC_EMBEDDER_URL", _environment("MNEMIC_EMBEDDER_URL"))
    }
    yield from every(group, {"white space": " \t"}, {**named, **url})
    fields = {f"`{name}`": (name, _setting(name)) for name in ("db", "user", "embedder_url")}
    yield from every(group, {"a number": 5}, fields)
    remote: Mapping[str, Call] = {
        "another kind of URL": _remote("ftp://localhost"),
        "a URL without a model": _remote("http://localhost", None),
    }
    yield from each(group, remote, to="`embedder_url`")
    alone = {"a URL, without what asks it": _without_httpx}
    yield from each(group, alone, MissingExtra, to="`embedder_url`")
    nobody = {"a URL where nobody answers, in a new store": _remote("http://127.0.0.1:9")}
    yield from each(
        group, nobody, EmbedderUnavailable, to="`embedder_url`", varies="(?<=fails: ).*"
    )


# --- the table ------------------------------------------------------------------------------------

CASES: tuple[Case, ...] = (
    *_text_cases(),
    *_message_cases(),
    *_name_cases(),
    *_time_cases(),
    *_label_cases(),
    *_question_cases(),
    *_fact_cases(),
    *_id_cases(),
    *_file_cases(),
    *_vector_cases(),
    *_model_cases(),
    *_database_cases(),
    *_backup_cases(),
    *_settings_cases(),
    *layer_cases(),
)


@dataclass
class _Row:
    """A row of the page: what ends alike. `exact` is the message of the only case, to the letter."""

    error: str
    code: str
    says: str
    exact: str
    given: list[str] = field(default_factory=list)
    to: list[str] = field(default_factory=list)


def section() -> list[str]:
    """The table as Markdown: each case played, and those that end alike in one row."""
    lines = [
        "## Bad input",
        "",
        "Made by playing the cases of `tests/bad_input.py`. The tests hold them to more than this page"
        " shows: the error is of exactly this class, nothing was changed, and the same memory goes on"
        " remembering and recalling. Where no error is raised, the last column says what happens."
        " `\u2026` stands for what differs: the name of what was given, what it was, or what the system"
        " says.",
        "",
    ]
    for group, grouped in itertools.groupby(CASES, lambda case: case.group):
        cases = list(grouped)
        places = list(dict.fromkeys(case.to for case in cases if case.to))
        rows = _joined(cases)
        everywhere = len(places) > 1 and any(row.to == places for row in rows)
        lines += [f"### {group[0].upper()}{group[1:]}", ""]
        if everywhere:
            lines += [
                f"Given to {', '.join(places)}; to all of them unless a row says to which.",
                "",
            ]
        lines += ["| given | error | code | what it says |", "| --- | --- | --- | --- |"]
        for row in rows:
            given = "; ".join(row.given)
            if row.to != [""] and not (everywhere and row.to == places):
                given += f" ({', '.join(row.to)})"
            says = " ".join(row.says.split()).replace("|", r"\|")
            lines.append(f"| {given} | {row.error} | {row.code} | {says} |")
        lines.append("")
    return lines[:-1]


def _joined(cases: Sequence[Case]) -> list[_Row]:
    """Cases in rows: first what ends alike wherever it is given, then what does whatever is given."""
    wherever: dict[Any, _Row] = {}
    for case in cases:
        row = _row(case)
        known = wherever.setdefault((case.given, row.error, row.says), row)
        known.given = [case.given]
        known.to.append(case.to)
    rows: dict[Any, _Row] = {}
    for row in wherever.values():
        if len(row.to) == 1:
            row.says = row.exact
        general = re.sub(r", not [^;,]+$", ", not \u2026", row.says)
        known = rows.setdefault((tuple(row.to), row.error, general), row)
        if known is not row:
            known.given += row.given
            known.says = general
    return list(rows.values())


def _row(case: Case) -> _Row:
    exact = play(case, look=False).says.removesuffix(" (the words are safe; the vectors follow)")
    if case.varies:
        exact = re.sub(case.varies, "\u2026", exact, count=1, flags=re.DOTALL)
    says = re.sub(rf"^{re.escape(case.subject)}\b", "\u2026", exact) if case.subject else exact
    if case.error is None:
        says = exact = f"{case.happens}: {exact}" if exact else case.happens
        return _Row("none", "", says, exact)
    code = getattr(case.error, "code", None)
    name = f"`{case.error.__name__}`" if code else "its own"
    return _Row(name, f"`{code}`" if code else "", says, exact)
