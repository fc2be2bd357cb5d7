"""The records that go in and come out: frozen, with every time in UTC.

This room holds no logic beyond rendering a record as a line of text, and knows no database.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any, Literal, overload

Kind = Literal["episodic", "semantic", "procedural"]
# current: recalled. superseded: a newer one stands for it. merged: it went into another. quarantined: held
# back. retired: taken out of use; of an instruction, disabled. proposed: waits for approval; rejected: got
# none.
Status = Literal[
    "current", "superseded", "merged", "quarantined", "retired", "proposed", "rejected"
]
ProcedureMode = Literal["always", "relevant"]
ProcedureAuthor = Literal["user", "file", "feedback", "model"]
MessageState = Literal["complete", "interrupted", "streaming"]
StreamState = Literal["streaming", "complete", "interrupted", "forgotten"]
ScopeKind = Literal["user", "agent", "shared"]
Role = Literal["user", "assistant", "system", "developer", "tool", "function"]
Source = Literal["user", "assistant", "tool", "system", "document"]

KINDS: tuple[Kind, ...] = ("episodic", "semantic", "procedural")
DEFAULT_TENANT = "default"


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose memory: a tenant, and in it a user, an agent or a shared space."""

    tenant: str
    kind: ScopeKind
    name: str

    @property
    def key(self) -> bytes:
        """16 bytes that lead every row of this scope (a digest, so that no id can forge another's)."""
        return _scope_key(self.tenant, self.kind, self.name)

    def __str__(self) -> str:
        """`user:ana`, or `acme/user:ana` in a tenant other than the default.

        A slash in a name is written `%2F`, and a percent sign `%25`, so that no two scopes read alike.
        """
        tenant, name = (
            part.replace("%", "%25").replace("/", "%2F") for part in (self.tenant, self.name)
        )
        return (
            f"{self.kind}:{name}"
            if self.tenant == DEFAULT_TENANT
            else f"{tenant}/{self.kind}:{name}"
        )


@lru_cache(maxsize=4096)
def _scope_key(*parts: str) -> bytes:
    packed = b"".join(len(p.encode()).to_bytes(4, "big") + p.encode() for p in parts)
    return hashlib.blake2b(packed, digest_size=16, person=b"mnemic.scope").digest()


@dataclass(frozen=True, slots=True)
class Message:
    """What was said, word for word. `id` is the caller's, unique within its session.

    `state` is `interrupted` for a reply that broke off, and `streaming` while one is being said.
    """

    id: str
    session: str | None
    role: Role
    content: str
    said_at: datetime
    recorded_at: datetime
    name: str | None = None
    expires_at: datetime | None = None
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    state: MessageState = "complete"


@dataclass(frozen=True, slots=True)
class Turn:
    """A message at its place in a session; `seq` grows in the order of arrival within the scope."""

    seq: int
    message: Message


@dataclass(frozen=True, slots=True)
class Session:
    """A conversation of a scope: its name, and when it was begun and last spoken in."""

    name: str
    started_at: datetime
    last_at: datetime


@dataclass(frozen=True, slots=True)
class Summary:
    """What stands for a session's older messages: those with `seq` from `first` to `last`.

    `messages` is how many they are (those of the system, and those that expire, aside). `made_by` is a
    model's name, or `extract` where sentences were chosen. `rolls` counts how often it was made of an
    older summary since it was last made of the messages themselves; then it stood for `fresh` of them.
    """

    session: str
    text: str
    first: int
    last: int
    messages: int
    rolls: int
    fresh: int
    made_by: str
    made_at: datetime


@dataclass(frozen=True, slots=True)
class Example:
    """Approved behaviour: what was asked, and the answer as it should be."""

    asked: str
    answered: str


@dataclass(frozen=True, slots=True)
class Procedure:
    """One version of an instruction. `id` is that of the memory that holds its words.

    Of a name's versions one at most is `current`, in force, or `retired`: disabled. `valid_from` is when it
    came into force, `valid_to` when it no longer was. `author` says whose words they are: the caller's
    (`user`), a file's, a user's `feedback` added to the version before, or a `model`'s that rewrote it.
    `base` is the version that a proposal was made from.
    """

    id: str
    name: str
    version: int
    text: str
    recorded_at: datetime
    mode: ProcedureMode = "always"
    status: Status = "current"
    author: ProcedureAuthor = "user"
    reason: str | None = None
    examples: tuple[Example, ...] = ()
    valid_from: datetime | None = None
    valid_to: datetime | None = None
    base: int | None = None


@dataclass(frozen=True, slots=True)
class Loaded:
    """What loading a file of instructions did: versions made, and those that say the same already."""

    made: tuple[Procedure, ...] = ()
    revised: tuple[Procedure, ...] = ()
    unchanged: tuple[Procedure, ...] = ()


@dataclass(frozen=True, slots=True)
class MemoryRecord:
    """What is kept: a passage of what was said (episodic), a fact (semantic), an instruction (procedural).

    `message_ids` are the caller's ids of the messages that say it, the first one first.
    """

    id: str
    kind: Kind
    text: str
    said_at: datetime
    recorded_at: datetime
    source: Source
    speaker: str | None = None
    session: str | None = None
    message_ids: tuple[str, ...] = ()
    status: Status = "current"
    valid_from: datetime | None = None
    valid_to: datetime | None = None
    confidence: float = 1.0
    importance: float = 0.0
    pinned: bool = False
    expires_at: datetime | None = None
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def render(self) -> str:
        """One line for a reader, such as `[2023-05-08] Ana: I moved to Lisbon.`."""
        holds = f" ({self.holds})" if self.holds else ""
        return f"[{self.said_at:%Y-%m-%d}] {self.speaker or self.source}: {self.text}{holds}"

    @property
    def holds(self) -> str:
        """When a fact holds: `from 2020-06-01 until 2024-01-01`; empty for one that always does."""
        ends = (("from", self.valid_from), ("until", self.valid_to))
        known = (f"{word} {at:%Y-%m-%d}" for word, at in ends if at is not None)
        return " ".join(known) if self.kind == "semantic" else ""


@dataclass(frozen=True, slots=True)
class Hit:
    """One memory that answers, its score, and what each channel contributed to that score.

    Scores order the hits of one question. `relevance` is the estimated probability, from 0 to 1, that the
    memory is evidence for the question; it means the same across questions and users.
    """

    memory: MemoryRecord
    score: float
    channels: Mapping[str, float]
    relevance: float

    @property
    def why(self) -> str:
        """The contributions, strongest first: `meaning +3.1, words +2.0, around +0.8`."""
        ranked = sorted(self.channels.items(), key=lambda item: -abs(item[1]))
        return ", ".join(f"{name} {value:+.1f}" for name, value in ranked if abs(value) >= 0.05)


@dataclass(frozen=True, slots=True)
class Recall(Sequence[Hit]):
    """The answer to a question: hits, best first. Behaves as a sequence of `Hit`.

    `tokens` is the size of `text` where a budget was given; `time_phrases` are the words of the question
    that were read as a time; `error` says why only words were compared, should the embedder have failed;
    `timings_ms` says where the time went.
    """

    query: str
    hits: tuple[Hit, ...]
    tokens: int | None = None
    time_phrases: tuple[str, ...] = ()
    error: str | None = None
    timings_ms: Mapping[str, float] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """All hits, rendered a line each."""
        return "\n".join(hit.memory.render() for hit in self.hits)

    @overload
    def __getitem__(self, index: int) -> Hit: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Hit, ...]: ...
    def __getitem__(self, index: int | slice) -> Hit | tuple[Hit, ...]:
        return self.hits[index]

    def __len__(self) -> int:
        return len(self.hits)

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)


@dataclass(frozen=True, slots=True)
class Skipped:
    """A message, or a passage of one, that made no memory of its own, and why."""

    message_id: str
    reason: Literal["same id and content", "repeat", "no text"]
    memory_id: str | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """What `remember` did.

    `state` is `indexed` (durable, with vectors), `committed` (durable and found by its words; the
    vectors follow, `error` says what held them up) or `unchanged` (all of it was there already).
    `message_ids` are the caller's, in the order given; `memory_ids` the memories made or supported, `made`
    how many of them are new.
    """

    message_ids: tuple[str, ...]
    memory_ids: tuple[str, ...]
    state: Literal["indexed", "committed", "unchanged"]
    made: int = 0
    skipped: tuple[Skipped, ...] = ()
    error: str | None = None
    timings_ms: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StreamStats:
    """The measures of a stream of tokens; `chunks` and `characters` count those that brought text.

    `first_token_ms` is the time from the first asking until text came, `duration_ms` until the end.
    `error` is the class of what broke an interrupted one off. `cut` tells that more arrived than a message
    holds.
    """

    state: StreamState
    chunks: int = 0
    characters: int = 0
    first_token_ms: float | None = None
    duration_ms: float = 0.0
    chunks_per_second: float | None = None
    error: str | None = None
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Erasure:
    """What a `forget` removed. The rows are gone in every state.

    `clean`: no byte of the text is left in the database's files, nor a copy in a Redis. `pending`: a reader
    stood in the way of rewriting them, or the Redis didn't answer, and a job finishes it. `absent`: there
    was nothing to forget.
    """

    state: Literal["clean", "pending", "absent"]
    messages: int = 0
    memories: int = 0
    timings_ms: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Change:
    """One line of a memory's history. It holds ids, never text."""

    seq: int
    at: datetime
    action: str
    memory_id: str | None


@dataclass(frozen=True, slots=True)
class ScopeStats:
    """The counts of one scope."""

    scope: Scope
    messages: int
    memories: int
    without_vector: int
    version: int


@dataclass(frozen=True, slots=True)
class StoreStats:
    """The counts of a whole store; ids, states and numbers, never text."""

    url: str
    schema: str
    embedder: str | None
    bytes_on_disk: int
    scopes: tuple[ScopeStats, ...]
    jobs: Mapping[str, int]

    @property
    def messages(self) -> int:
        """Messages in all scopes."""
        return sum(scope.messages for scope in self.scopes)

    @property
    def memories(self) -> int:
        """Memories in all scopes."""
        return sum(scope.memories for scope in self.scopes)


@dataclass(frozen=True, slots=True)
class Backup:
    """A copy of a whole store: where it is, and its size in bytes."""

    path: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore put in place; `set_aside` is where an unreadable file that was there went."""

    path: str
    messages: int
    memories: int
    set_aside: str | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """One check of `doctor`: what was looked at, whether it is well, and what to do if not."""

    check: str
    ok: bool
    says: str
