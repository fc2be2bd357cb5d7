"""`mnemic chat`: talk with a model that remembers; without a model, with the memory itself."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol

import typer
from rich.text import Text

from mnemic.errors import InputError, MnemicError
from mnemic.settings import from_environment
from mnemic.surfaces.cli import showing
from mnemic.surfaces.cli.app import (
    Db,
    InScope,
    User,
    app,
    err,
    handle_of,
    opened,
    out,
    safe,
    told_to_end,
)
from mnemic.surfaces.cli.keeping import erasure_line

if TYPE_CHECKING:
    from mnemic.agent import MemoryAgent, Reply
    from mnemic.memory import Memory, ScopedMemory
    from mnemic.records import Hit

PROMPT = "you> "
EVIDENCE = 5
NONE = "No memory was recalled for the last answer."


@app.command()
def chat(
    db: Db = None,
    user: User = None,
    scope: InScope = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="The model: openai:gpt-4.1-mini, or its name at --url. Else MNEMIC_MODEL."
        ),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(help="An OpenAI-compatible server (Ollama, vLLM ...). Else MNEMIC_MODEL_URL."),
    ] = None,
    session: Annotated[
        str | None, typer.Option(help="Go on with this session. Default: a new one.")
    ] = None,
    agent: Annotated[str, typer.Option(help="The agent whose instructions apply.")] = "assistant",
    budget: Annotated[
        int, typer.Option(help="At most this many tokens (o200k) of context a question.")
    ] = 4_000,
    max_tokens: Annotated[
        int | None,
        typer.Option(help="At most this many tokens of answer. Default: the model's own."),
    ] = None,
) -> None:
    """Talk with a model that remembers; without one, with the memory itself. /help shows the commands.

    The model's key is read from MNEMIC_MODEL_KEY, or the provider's own variable. What is typed goes to
    the model named and nowhere else; no history file is written.

    Example: mnemic chat --user ana --model llama3.2 --url http://localhost:11434/v1
    """
    if isinstance(sys.stdin, TextIOWrapper) and not sys.stdin.isatty():
        sys.stdin.reconfigure(encoding="utf-8", errors="replace")
    with opened(db, make=True) as memory:
        handle = handle_of(memory, user, scope)
        place = _new_session() if session is None else session
        talk = _partner(
            memory,
            handle,
            place,
            (model, url),
            {"agent": agent, "budget": budget, "max_tokens": max_tokens},
        )
        out.print(Text.assemble(("mnemic chat", "bold"), f"  {safe(talk.headline)}"))
        out.print(safe(f"{handle.scope}, session {place!r}; /help shows the commands"), style="dim")
        for line in talk.hints:
            out.print(safe(line), style="dim")
        _Chat(handle, talk, place).run()


def _new_session() -> str:
    """A name that tells when it began, to the millisecond: two may begin in a second."""
    return f"chat {datetime.now():%Y-%m-%d %H:%M:%S.%f}"[:-3]


class Partner(Protocol):
    """Who answers."""

    headline: str
    hints: tuple[str, ...]

    @property
    def hits(self) -> tuple[Hit, ...]:
        """The memories that the last answer rests on."""
        ...

    def answer(self, text: str) -> None:
        """Take what the user says, and show the answer."""
        ...

    def why(self) -> None:
        """Show what the last answer rests on."""
        ...

    def context(self) -> None:
        """Show what was sent for the last answer."""
        ...


def _partner(
    memory: Memory,
    handle: ScopedMemory,
    session: str,
    model: tuple[str | None, str | None],
    manner: dict[str, object],
) -> Partner:
    known = from_environment()
    if not (model[0] or model[1] or known.model or known.model_url):
        return _Shell(handle, session)
    if handle.scope.kind != "user":
        raise InputError(f"a model talks with a user; {handle.scope} is none")
    from mnemic.agent import MemoryAgent

    made = MemoryAgent(
        memory.tenant(handle.scope.tenant),
        model[0],
        base_url=model[1],
        instructions=(Path(__file__).parent / "prompts" / "chat.md").read_text("utf-8").strip(),
        **manner,  # type: ignore[arg-type]
    )
    return _Model(made, handle, session)


class _Chat:
    """The loop: a line in, an answer or a command's result out."""

    def __init__(self, handle: ScopedMemory, partner: Partner, session: str) -> None:
        self._handle = handle
        self._partner = partner
        self._session = session
        self._commands: dict[str, tuple[Callable[[str], None], str]] = {
            "/why": (lambda _: partner.why(), "which memories the last answer rests on, and why"),
            "/context": (lambda _: partner.context(), "what was sent for it, and what didn't fit"),
            "/facts": (self._facts, "what is known of you for certain"),
            "/remember": (self._remember, "TEXT: keep it, without an answer"),
            "/forget": (self._forget, "a number of /why, or an id: erase that memory"),
            "/help": (self._help, "this"),
        }

    def run(self) -> None:
        """Talk until the input ends, or /quit. Ctrl-C ends an answer or a line, never the chat."""
        while True:
            try:
                line = _line()
                text = "" if line is None else line.strip()
                if line is None or text in ("/quit", "/exit"):
                    return
                if text:
                    self._take(text)
            except KeyboardInterrupt:
                if told_to_end() or not sys.stdin.isatty():
                    raise
                out.print("\nstopped; /quit or Ctrl-D ends", style="yellow")

    def _take(self, text: str) -> None:
        try:
            word, _, rest = text.partition(" ")
            if word in self._commands:
                self._commands[word][0](rest.strip())
            elif text.startswith("/") and not text.startswith("//"):
                out.print(safe(f"There is no {word}; /help shows what there is."), style="yellow")
            else:
                self._partner.answer(text[1:] if text.startswith("//") else text)
        except MnemicError as error:
            says = Text.assemble(("error", "bold red"), f" ({error.code}): {safe(str(error))}")
            err.print(says, soft_wrap=True)

    def _facts(self, _: str) -> None:
        facts = self._handle.facts.profile(20)
        for fact in facts:
            out.print(Text.assemble(f"- {safe(fact.text)}  ", (safe(showing.about(fact)), "dim")))
        if not facts:
            out.print("No facts yet.", style="dim")

    def _remember(self, text: str) -> None:
        receipt = self._handle.remember(text, session=self._session)
        out.print(f"kept: {', '.join(receipt.memory_ids)}", style="dim")

    def _forget(self, given: str) -> None:
        hits = self._partner.hits
        number = int(given) if given.isascii() and given.isdigit() and len(given) < 5 else 0
        id = hits[number - 1].memory.id if 0 < number <= len(hits) else given
        record = self._handle.get(id)
        if record is None:
            named = f"there is no memory {given}; " if given else ""
            raise InputError(f"{named}name one by its number in /why, or by its id")
        erasure = self._handle.forget(id)
        out.print(safe(f"forgotten: {record.render()}"))
        out.print(erasure_line(erasure), style="dim")

    def _help(self, _: str) -> None:
        for name, (_do, says) in self._commands.items():
            out.print(Text.assemble((f"{name:<10}", "bold"), says))
        out.print(Text.assemble((f"{'/quit':<10}", "bold"), "end; so does Ctrl-D"))
        out.print("Ctrl-C stops an answer. //text says what begins with a stroke.", style="dim")


class _Shell:
    """Answers with what is remembered."""

    headline = (
        "no model is configured: what you type is remembered, questions are answered with evidence"
    )
    hints: tuple[str, ...] = (
        "a model: --model openai:gpt-4.1-mini, or --model NAME --url http://localhost:11434/v1,"
        " or set MNEMIC_MODEL",
    )

    def __init__(self, handle: ScopedMemory, session: str) -> None:
        self._handle = handle
        self._session = session
        self.hits: tuple[Hit, ...] = ()

    def answer(self, text: str) -> None:
        if text.rstrip().endswith("?"):
            # Asked first: a question is no evidence for itself.
            found = self._handle.recall(text, limit=EVIDENCE + 1)
            said = text.strip().casefold()
            self.hits = tuple(h for h in found if h.memory.text.strip().casefold() != said)[
                :EVIDENCE
            ]
            self._handle.remember(text, session=self._session)
            showing.evidence(self.hits)
            if found.error:
                err.print(safe(found.error), style="yellow")
            return
        receipt = self._handle.remember(text, session=self._session)
        out.print("kept" if receipt.state != "unchanged" else "known already", style="dim")

    def why(self) -> None:
        showing.evidence(self.hits, NONE)

    def context(self) -> None:
        out.print("Nothing is sent anywhere: no model is configured.", style="dim")


class _Model:
    """Answers by a language model."""

    hints: tuple[str, ...] = ()

    def __init__(self, agent: MemoryAgent, handle: ScopedMemory, session: str) -> None:
        self._agent = agent
        self._user = handle.scope.name
        self._session = session
        self._last: Reply | None = None
        self.headline = f"with {agent.model_name}"

    @property
    def hits(self) -> tuple[Hit, ...]:
        return () if self._last is None else self._last.context.hits

    def answer(self, text: str) -> None:
        with self._agent.stream(self._user, text, session=self._session) as stream:
            try:
                showing.stream(stream, "thinking")
            finally:
                self._last = stream.reply
        self._last = stream.reply
        showing.summary(self._last)

    def why(self) -> None:
        showing.evidence(self.hits, NONE)
        if self._last is not None:
            showing.beside(self._last)

    def context(self) -> None:
        if self._last is None:
            out.print("Nothing was sent yet.", style="dim")
        else:
            showing.context(self._last.context)


def _line() -> str | None:
    """The next line that is typed or piped; None at the end."""
    if sys.stdin is None:
        return None
    if not sys.stdin.isatty():
        line = sys.stdin.readline()
        if line:
            out.print(safe(f"{PROMPT}{line.rstrip()}"), style="bold")
        return line or None
    with suppress(ImportError):  # Windows has its own
        import readline  # noqa: F401 (arrow keys, and this run's lines again)
    try:
        return input(f"\n{PROMPT}")
    except EOFError:
        out.print()
        return None
