"""Files of every format that can be imported, and ways to spoil them."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from random import Random
from typing import Any

WORDS = "tea Lisbon greyhound 漢字 tram code 4711 don't café".split()


def _text(rng: Random) -> str:
    return " ".join(rng.choices(WORDS, k=rng.randint(1, 12)))


def _jsonl(rng: Random) -> str:
    lines: list[dict[str, Any]] = [{"type": "mnemic", "version": 1, "scope": "user:ana"}]
    for number in range(rng.randint(1, 12)):
        text = _text(rng)
        line: dict[str, Any] = {
            "type": "message",
            "id": f"m{number}",
            "role": "user",
            "content": text,
        }
        line["said_at"] = "2023-05-08T13:56:00+00:00"
        line |= rng.choice(
            [{}, {"tags": ["x"]}, {"metadata": {"k": [1, {"a": None}]}}, {"session": "s"}]
        )
        if rng.random() < 0.5:
            id = f"0190b0b0-0000-7000-8000-{number:012d}"
            line["memories"] = [{"id": id, "start": 0, "stop": len(text), "confidence": 1.0}]
        lines.append(line)
    return "\n".join(json.dumps(line, ensure_ascii=rng.random() < 0.5) for line in lines)


def _openai(rng: Random) -> str:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    talks = [
        {
            "id": f"talk {number}",
            "messages": [
                {"role": "system", "content": "Be kind."},
                {"role": "user", "content": [{"type": "text", "text": _text(rng)}]},
                {"role": "assistant", "content": None, "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "c1", "content": _text(rng)},
            ],
        }
        for number in range(rng.randint(1, 3))
    ]
    return json.dumps(talks) if rng.random() < 0.5 else "\n".join(map(json.dumps, talks))


def _locomo(rng: Random) -> str:
    turns = [{"speaker": "Ana", "dia_id": f"D1:{n}", "text": _text(rng)} for n in range(6)]
    talk = {"session_1_date_time": "1:56 pm on 8 May, 2023", "session_1": turns}
    return json.dumps([{"sample_id": "conv-1", "conversation": talk}])


def _longmemeval(rng: Random) -> str:
    turns = [{"role": role, "content": _text(rng)} for role in ("user", "assistant")]
    return json.dumps(
        [
            {
                "question_id": "q1",
                "haystack_sessions": [turns, turns],
                "haystack_session_ids": ["a", "b"],
                "haystack_dates": ["2023/05/20 (Sat) 02:21", "2023/05/21 (Sun) 02:21"],
            }
        ]
    )


MAKERS: dict[str, Callable[[Random], str]] = {
    "jsonl": _jsonl,
    "openai": _openai,
    "locomo": _locomo,
    "longmemeval": _longmemeval,
}

# What no file should hold, and some that may.
ODD = [
    "null", "true", "-1", "1e400", "NaN", "Infinity", "9" * 5000, "0.1e-999", '""', '"\\u0000"',
    '"\\ud800"', '"\ufeff"', "[]", "{}", '{"a": 1, "a": 2}', "[" * 100_000, '{"a":' * 5_000,
    '"' + "x" * 100_000 + '"', '"0001-01-01T00:00:00Z"', '"9999-12-31T23:59:59-14:00"', "1683547200000",
    '{"type": "text"}', '{"type": []}', "\n\n", "," * 50, "\r\n", "\x00", "\u2028",
]  # fmt: skip


def spoil(content: bytes, rng: Random) -> bytes:
    """Mutate some bytes once."""
    at = rng.randrange(len(content) + 1)
    to = min(len(content), at + rng.randint(1, 40))
    kind = rng.randrange(8)
    if kind == 0 and content:
        flipped = bytearray(content)
        flipped[at % len(content)] ^= 1 << rng.randrange(8)
        return bytes(flipped)
    if kind == 1:
        return content[:at] + content[to:]
    if kind == 2:
        return content[:to] + content[at:to] * rng.randint(1, 20) + content[to:]
    if kind == 3:
        return content[:at]
    if kind == 4:
        return content[:at] + rng.randbytes(rng.randint(1, 30)) + content[at:]
    odd = rng.choice(ODD).encode("utf-8", "surrogatepass")
    if kind == 5:
        return content[:at] + odd + content[to:]
    # A value in the place of another.
    borders = [n for n, byte in enumerate(content) if byte in b':,[]{}"']
    if not borders:
        return content + odd
    start = rng.choice(borders)
    stop = next((n for n in borders if n > start + 1), len(content))
    return content[: start + 1] + odd + content[stop:]


def make_file(form: str, rng: Random) -> bytes:
    """A file of a format, spoilt up to four times, or spliced, or in another coding; some gzipped."""
    content = MAKERS[form](rng).encode("utf-8", "surrogatepass")
    for _ in range(rng.randint(0, 4)):
        content = spoil(content, rng)
    if rng.random() < 0.1:
        other = MAKERS[rng.choice(list(MAKERS))](rng).encode()
        content = content[: rng.randrange(len(content) + 1)] + other[rng.randrange(len(other)) :]
    if rng.random() < 0.05:
        content = content.decode("utf-8", "replace").encode(
            rng.choice(["utf-16", "utf-8-sig", "utf-32"])
        )
    if rng.random() < 0.2:
        content = gzip.compress(content)
        if rng.random() < 0.6:
            content = spoil(content, rng)
    return content
