"""The command's frame: options that all commands share, how errors and results are shown."""

from __future__ import annotations

import gc
import json
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, is_dataclass
from datetime import datetime
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import unquote

import typer
from rich.console import Console
from rich.text import Text

from mnemic import __version__
from mnemic.errors import InputError, MnemicError
from mnemic.records import DEFAULT_TENANT
from mnemic.settings import Settings, default_db, from_environment

if TYPE_CHECKING:
    from mnemic.memory import Memory, ScopedMemory

app = typer.Typer(
    name="mnemic",
    help="Memory for LLM applications: tell it something, ask for it back.",
    epilog='Try: mnemic demo   or: mnemic remember "I live in Lisbon." && mnemic recall "where am I?"',
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
# What people said is shown as it is: no markup in it, no emoji codes.
out = Console(highlight=False, markup=False, emoji=False)
err = Console(stderr=True, highlight=False, markup=False, emoji=False)
# What would drive a terminal rather than be seen on it; line ends and tabs are fine.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

Db = Annotated[
    str | None,
    typer.Option(
        "--db", help="Database: a file, or a URL. Default: MNEMIC_DB, else your data folder."
    ),
]
User = Annotated[
    str | None,
    typer.Option("--user", "-u", help='Whose memory. Default: MNEMIC_USER, else "me".'),
]
InScope = Annotated[
    str | None,
    typer.Option("--scope", help="Instead of --user: agent:support, shared:team, acme/user:ana."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]

DEFAULT_USER = "me"


@contextmanager
def opened(db: str | None, *, make: bool = False) -> Iterator[Memory]:
    """The memory that the options name; only a command that writes may make its file."""
    from mnemic.memory import Memory
    from mnemic.stores.sqlite import sqlite_path

    gc.enable()
    if db is not None and not db.strip():
        raise InputError("--db is empty; name a file, or leave it out")
    settings = from_environment()
    target = db or settings.db or default_db()
    file = sqlite_path(target)
    if not make and file is not None and not file.exists():
        raise InputError(
            f"there is no memory at {file} yet; `mnemic remember` or `import` makes one"
        )
    with Memory(target, settings=settings) as memory:
        yield memory


@contextmanager
def scoped(
    db: str | None, user: str | None, scope: str | None, *, make: bool = False
) -> Iterator[ScopedMemory]:
    """The handle that the options name."""
    with opened(db, make=make) as memory:
        yield handle_of(memory, user, scope)


def moment(text: str | None) -> datetime | str | None:
    """A time as people type it: one without a zone is meant in the machine's own."""
    if text is None:
        return None
    try:
        read = datetime.fromisoformat(text.strip())
    except ValueError:
        return text
    return read if read.tzinfo is not None else read.astimezone()


def handle_of(memory: Memory, user: str | None, scope: str | None) -> ScopedMemory:
    """The handle of `--user` or `--scope`."""
    if scope is None:
        settings: Settings = from_environment()
        return memory.user((settings.user or DEFAULT_USER) if user is None else user)
    if user is not None:
        raise InputError("give --user or --scope, not both")
    tenant_name, slash, rest = scope.rpartition("/")
    kind, colon, name = rest.partition(":")
    tenant = memory.tenant(unquote(tenant_name) if slash else DEFAULT_TENANT)
    makers: dict[str, Callable[[str], ScopedMemory]] = {
        "user": tenant.user,
        "agent": tenant.agent,
        "shared": tenant.shared,
    }
    if not colon or kind not in makers:
        raise InputError(
            f"{scope!r} is no scope; write agent:support, shared:team or acme/user:ana"
        )
    return makers[kind](unquote(name))


def safe(text: str) -> str:
    """Text for a terminal: what would drive it is shown as its code."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def show_json(value: Any) -> None:
    """Print a record, or a list of them, as JSON."""
    print(json.dumps(plain(value), ensure_ascii=False, indent=2))


def plain(value: Any) -> Any:
    """Records, times and paths as JSON has them."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, Path) else value


def _version(asked: bool) -> None:
    if asked:
        print(f"mnemic {__version__}")
        raise typer.Exit


@app.callback()
def version_option(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", is_eager=True, callback=_version),
    ] = False,
) -> None:
    """Memory for LLM applications: tell it something, ask for it back."""


def load_commands() -> None:
    """Load the modules of all commands; they register themselves."""
    from mnemic.surfaces.cli import (  # noqa: F401
        asking,
        chat,
        context,
        demo,
        evaluating,
        facts,
        keeping,
        moving,
        procedures,
    )


def main() -> None:
    """Run the command; an error is one line that says what to do, and an exit code that isn't 0."""
    # Collecting garbage while libraries load is a tenth of a command's life; `opened` turns it on.
    gc.disable()
    load_commands()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # Memories hold every script; a terminal's old code page doesn't.
            stream.reconfigure(encoding="utf-8", errors="replace")
    with suppress(ValueError):  # not the main thread: whoever calls this looks after signals
        for name in ("SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, _terminated)
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()
    except MnemicError as error:
        code = _fail(error.code, str(error), 1)
    except _UsageError as error:
        code = _usage(error)
    except OSError as error:
        # Files are looked after where they are used; what is left is where we print.
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (until the process ends)
        code = _fail("output", f"can't write the output: {error.strerror or error}", 1)
    except (KeyboardInterrupt, typer.Abort):
        code = _INTERRUPTED
    if code == _INTERRUPTED:  # raised above, or what Typer makes of it
        err.print("stopped; what was acknowledged is kept")
        code = 128 + (_stopped_by[-1] if _stopped_by else signal.SIGINT)
    sys.exit(code if isinstance(code, int) else 0)


_INTERRUPTED = 130
_stopped_by: list[int] = []


def told_to_end() -> bool:
    """Whether a signal other than Ctrl-C's asks the command to end."""
    return bool(_stopped_by)


def _terminated(number: int, _frame: object) -> None:
    """SIGTERM and SIGHUP end a command as Ctrl-C does: what is half done is undone, files are closed."""
    _stopped_by.append(number)
    raise KeyboardInterrupt


# Typer carries Click inside; this is what both raise for a wrong option or argument.
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]


def _usage(error: Exception) -> int:
    says = getattr(error, "format_message", lambda: str(error))()
    context = getattr(error, "ctx", None)
    if context is not None and says in ("", context.get_help()):
        print(context.get_help())
        return 2
    where = context.command_path if context is not None else "mnemic"
    return _fail("usage", f"{says} ({where} --help says more)", 2)


def _fail(code: str, says: str, status: int) -> int:
    if "--json" in sys.argv:
        print(json.dumps({"error": {"code": code, "message": says}}))
    else:
        err.print(Text.assemble(("error", "bold red"), f" ({code}): {safe(says)}"), soft_wrap=True)
    return status
