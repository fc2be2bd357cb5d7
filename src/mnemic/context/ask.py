"""Reading what the caller hands to `context`: all of it is checked before anything is asked. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mnemic.errors import InputError
from mnemic.inputs import kind_of, read_name, read_text
from mnemic.layers.working.rendering import ChatCounter
from mnemic.records import Scope
from mnemic.retrieval.ask import read_moment, read_whole

DEFAULT_BUDGET = 4_000
MAX_BUDGET = 10_000_000
MAX_SHARED = 16


@dataclass(frozen=True, slots=True)
class Wanted:
    """A context that is asked for. `behaves` are the scopes whose instructions apply, in their order."""

    query: str
    budget: int
    counter: ChatCounter
    session: str | None
    prompt: str
    behaves: tuple[Scope, ...]
    at: datetime | None


def read_wanted(query: Any, scope: Scope, given: Mapping[str, Any]) -> Wanted:
    """Check what a context is asked for with, by the names of `context`; raises `InputError`."""
    if not isinstance(query, str):
        raise InputError(f"the query is a string, not {kind_of(query)}")
    if not query.strip():
        raise InputError("the query is empty or blank; it is what the user says now")
    if not isinstance(given["prompt"], str):
        raise InputError(
            f"prompt must be a text, the system prompt, not {kind_of(given['prompt'])}"
        )
    session, agent = given["session"], given["agent"]
    counter: str | Callable[[str], int] | ChatCounter = given["counter"]
    agents = [] if agent is None else [Scope(scope.tenant, "agent", read_name(agent, "agent"))]
    shared = [Scope(scope.tenant, "shared", name) for name in _names(given["shared"])]
    return Wanted(
        query=read_text(query, "the query"),
        budget=read_whole(given["budget"], "budget", MAX_BUDGET),
        counter=counter if isinstance(counter, ChatCounter) else ChatCounter(counter),
        session=None if session is None else read_name(session, "session"),
        prompt=read_text(given["prompt"], "prompt").strip(),
        behaves=tuple(dict.fromkeys([*agents, *shared, scope])),
        at=read_moment(given["at"], "at"),
    )


def _names(shared: Any) -> list[str]:
    if isinstance(shared, str):
        shared = (shared,)
    if isinstance(shared, bytes | Mapping) or not isinstance(shared, Iterable):
        raise InputError(f"shared names shared spaces, as a list of strings, not {kind_of(shared)}")
    names = []
    for name in shared:
        names.append(read_name(name, "shared"))
        if len(names) > MAX_SHARED:
            raise InputError(f"at most {MAX_SHARED} shared spaces can be named")
    return names
