"""Bad input to the layers, to a context and to models: a part of the table in `tests/bad_input.py`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from mnemic import (
    ContextWindow,
    MemoryAgent,
    ShortTermMemory,
    SlidingWindowMemory,
    SummarizationMemory,
)
from mnemic.errors import (
    BudgetTooSmall,
    ModelRefused,
    ModelUnavailable,
    VersionConflict,
)
from mnemic.layers.parts import Handle
from mnemic.models.llm import choose_model
from mnemic.testing import Reply, ScriptedServer
from tests.bad_ground import (
    BAD_TEXT,
    NOT_TEXT,
    Call,
    Cases,
    Ground,
    Place,
    Places,
    Values,
    each,
    every,
    ten_kb,
)

BAD_TOKENS: Values = {
    "`0`": 0,
    "`-1`": -1,
    "`1.5`": 1.5,
    "`True`": True,
    "`'100'`": "100",
    "10 to the power of 12": 10**12,
}
SYSTEM = "Be kind. " * 40


def context(**given: Any) -> Call:
    return lambda ground: ground.ana.context(**{"query": "plan my weekend", **given})


def of_context(name: str) -> Place:
    return lambda ground, value: context(**{name: value})(ground)


def counting(text: str) -> Any:
    return -1


def context_cases() -> Cases:
    group = "a context"
    yield from every(group, {**BAD_TEXT, **NOT_TEXT}, {"`query`": ("query", of_context("query"))})
    yield from every(group, BAD_TOKENS, {"`budget`": ("budget", of_context("budget"))})
    names: Places = {f"`{name}`": (name, of_context(name)) for name in ("session", "agent")}
    yield from every(group, {"a number": 5, "10 kB of text": ten_kb}, names)
    calls = {
        "a prompt that is a number": context(prompt=5),
        "a prompt with a NUL character": context(prompt="a\x00b"),
        "a shared space with a NUL character": context(shared="te\x00am"),
        "a shared space that is a number": context(shared=[5]),
        "a time without a zone": context(at="2024-01-01T00:00:00"),
        "an unknown counter": context(counter="o300k"),
        "a counter that gives less than nothing": context(counter=counting),
        "a time zone that isn't": lambda g: g.ana.set_timezone("Mars/Olympus"),
        "a time zone that is a number": lambda g: g.ana.set_timezone(2),
    }
    yield from each(group, calls)
    too_much = {
        "a prompt larger than the budget": context(prompt=SYSTEM, budget=50),
        "a budget too small for the query": context(budget=5),
    }
    yield from each(group, too_much, BudgetTooSmall)


def window_cases() -> Cases:
    group = "windows on a session"
    kinds: Mapping[str, Any] = {
        "`ContextWindow`": ContextWindow,
        "`SlidingWindowMemory`": SlidingWindowMemory,
        "`SummarizationMemory`": SummarizationMemory,
    }
    on = {name: ("", lambda g, v, kind=kind: kind(v, "s1")) for name, kind in kinds.items()}
    yield from every(group, {"a name instead of a memory": "ana", "`None`": None}, on)
    called = {
        name: ("session", lambda g, v, kind=kind: kind(g.ana, v)) for name, kind in kinds.items()
    }
    yield from every(group, {"a session that is a number": 5, "an empty session": ""}, called)
    yield from every(group, BAD_TOKENS, {"`max_tokens`": ("max_tokens", of_window("max_tokens"))})
    yield from every(group, BAD_TOKENS, {"`last`": ("last", of_last)})
    yield from every(group, BAD_TOKENS, {"`keep`": ("keep", of_summary("keep"))})
    calls: Mapping[str, Call] = {
        "all tokens reserved": lambda g: ContextWindow(g.ana, "s1", max_tokens=9, reserve=9),
        "an unknown unit": lambda g: SlidingWindowMemory(g.ana, "s1", unit="words"),  # type: ignore[arg-type]
        "an unknown tokenizer": lambda g: ContextWindow(g.ana, "s1", counter="o300k"),
        "a message of another session": lambda g: ContextWindow(g.ana, "s1").add(
            {"content": "I like figs", "session": "s2"}
        ),
        "a number added": lambda g: ContextWindow(g.ana, "s1").add(5),  # type: ignore[arg-type]
        "a summary of two tokens": lambda g: SummarizationMemory(g.ana, "s1", summary_tokens=2),
    }
    yield from each(group, calls)
    too_much: Mapping[str, Call] = {
        "a system message larger than the window": lambda g: ContextWindow(
            g.ana, "s1", max_tokens=50
        ).messages()
    }
    yield from each(group, too_much, BudgetTooSmall, before=with_system_message)


def of_window(name: str) -> Place:
    return lambda ground, value: ContextWindow(ground.ana, "s1", **{name: value})


def of_last(ground: Ground, value: Any) -> Any:
    return SlidingWindowMemory(ground.ana, "s1", last=value)


def of_summary(name: str) -> Place:
    return lambda ground, value: SummarizationMemory(ground.ana, "s1", **{name: value})


def with_system_message(ground: Ground) -> None:
    ground.ana.remember({"role": "system", "content": SYSTEM}, session="s1")


def short_term_cases() -> Cases:
    group = "streams and short-term memory"
    streams: Places = {"`stream()`": ("", lambda g, v: g.ana.stream(v, session="s1"))}
    yield from every(group, {"a number": 5, "`None`": None}, streams)
    ages: Values = {
        "no time": timedelta(0),
        "a year": timedelta(days=365),
        "a number": 3600,
    }
    yield from every(group, ages, {"`ttl`": ("ttl", of_short_term("ttl"))})
    counts: Places = {
        f"`{name}`": (name, of_short_term(name)) for name in ("max_messages", "max_tokens")
    }
    yield from every(group, BAD_TOKENS, counts)
    urls: Values = {"another kind of URL": "ftp://localhost", "a number": 5}
    yield from every(group, urls, {"`Memory(short_term=)`": ("", short_term)})


def of_short_term(name: str) -> Place:
    def place(ground: Ground, value: Any) -> Any:
        memory: Handle = ground.ana
        return ShortTermMemory(memory, "s1", **{name: value})

    return place


def short_term(ground: Ground, value: Any) -> Any:
    from mnemic import Memory
    from tests.fakes import FakeEmbedder

    made = Memory(ground.folder / "new.db", embedder=FakeEmbedder(), short_term=value)
    return ground.stack.enter_context(made)


def rules(**given: Any) -> Call:
    return lambda g: g.ana.procedures.remember(**{"name": "tone", "text": "Be brief.", **given})


def with_rule(ground: Ground) -> None:
    ground.ana.procedures.remember("tone", "Be brief.")
    ground.ana.procedures.revise("tone", "Be very brief.", reason="asked for")


def procedure_cases() -> Cases:
    group = "instructions"
    words: Places = {"`text`": ("", lambda g, v: rules(text=v)(g))}
    yield from every(group, {**BAD_TEXT, **NOT_TEXT}, words)
    calls = {
        "a name of several lines": rules(name="to\nne"),
        "a name that is a number": rules(name=5),
        "an unknown mode": rules(mode="sometimes"),
        "a reason that is a number": rules(reason=5),
        "an example that is a text": rules(examples=["Hi"]),
    }
    yield from each(group, calls)
    known: Mapping[str, Call] = {
        "other words under a name in use": rules(),
        "an instruction that isn't there": lambda g: g.ana.procedures.revise("x", "y", reason="z"),
        "a revision without a reason": lambda g: g.ana.procedures.revise("tone", "Hi.", reason=""),
        "a version that isn't there": lambda g: g.ana.procedures.roll_back("tone", to=9),
        "feedback of a tool": lambda g: g.ana.procedures.learn("Obey.", source="tool"),
    }
    yield from each(group, known, before=with_rule)
    outdated: Mapping[str, Call] = {
        "a revision of a version that has been revised": lambda g: g.ana.procedures.revise(
            "tone", "Be long.", reason="asked for", expected=1
        )
    }
    yield from each(group, outdated, VersionConflict, before=with_rule)


def model_cases() -> Cases:
    group = "language models"
    calls: Mapping[str, Call] = {
        "a model of nobody's": lambda g: complete("nobody:tiny"),
        "a number for a model": lambda g: MemoryAgent(g.memory, model=5),
        "an empty name": lambda g: MemoryAgent(g.memory, model=""),
        "another kind of URL": lambda g: MemoryAgent(g.memory, model="m", base_url="ftp://x"),
        "an unknown tool": lambda g: MemoryAgent(g.memory, model=MODEL, tools=["fly"]),  # type: ignore[list-item]
        "a user instead of a memory": lambda g: MemoryAgent(g.ana, model=MODEL),
        "a number said": lambda g: respond(g, "http://127.0.0.1:9/v1", 5),
        "nothing said": lambda g: respond(g, "http://127.0.0.1:9/v1", " "),
    }
    yield from each(group, calls)
    nobody: Mapping[str, Call] = {
        "a server where nobody listens": lambda g: complete("tiny", "http://127.0.0.1:9/v1")
    }
    yield from each(group, nobody, ModelUnavailable)
    refusing: Mapping[str, Call] = {"a server that refuses the key": refused}
    yield from each(group, refusing, ModelRefused)


MODEL = "openai:gpt-5-mini"


def respond(ground: Ground, url: str, said: Any) -> Any:
    agent = MemoryAgent(ground.memory, model="tiny", base_url=url, timeout_s=5)
    return agent.respond("ana", said, session="s3")


def complete(model: str, url: str | None = None) -> Any:
    return choose_model(model, url, timeout_s=5).complete("Be kind.", "Hello!", max_tokens=10)


def refused(ground: Ground) -> Any:
    with ScriptedServer(Reply("the key is wrong", status=401)) as server:
        return complete("tiny", server.url)


def layer_cases() -> Cases:
    yield from context_cases()
    yield from window_cases()
    yield from short_term_cases()
    yield from procedure_cases()
    yield from model_cases()
