"""The gauges: sizes, imports and habits that the code keeps to."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "mnemic"
EXCEPTIONS = Path(__file__).with_name("exceptions.txt")

FILE_LINES = 400
FUNCTION_LINES = 50
PUBLIC_METHODS = 15
PARAMETERS = 7

# From the top down. A room imports from itself and from lower ranks; `mnemic` is the package's
# own front (`from mnemic import Memory`), and everything may be imported by `testing`.
RANKS = (
    {"testing", "__main__"},
    {"surfaces", "integrations"},
    {"evaluation"},
    {"transfer", "demo"},
    {"mnemic"},
    {"agent", "aio"},
    {"awaiting"},
    {"memory"},
    {"core"},
    {"context"},
    {"layers"},
    {"writing", "retrieval", "upkeep"},
    {"stores", "models"},
    {"records", "settings", "inputs"},
    {"errors", "timing", "forking"},
)
SIDEWAYS = {("upkeep", "retrieval"), ("upkeep", "writing")}
HEAVY = ("numpy", "onnxruntime", "sqlalchemy", "typer", "rich", "tokenizers", "alembic")

PUBLIC = {
    "AmbiguousMessage",
    "AsyncMemory",
    "AsyncReplyStream",
    "AsyncScopedMemory",
    "AsyncSensoryBuffer",
    "BadVector",
    "BudgetTooSmall",
    "Change",
    "ChatCounter",
    "Context",
    "ContextWindow",
    "Dropped",
    "Embedder",
    "EmbedderError",
    "EmbedderMismatch",
    "EmbedderUnavailable",
    "EpisodicMemory",
    "Erasure",
    "Example",
    "Finding",
    "Hit",
    "IdConflict",
    "InputError",
    "LanguageModel",
    "Loaded",
    "LongTermMemory",
    "Memory",
    "MemoryAgent",
    "MemoryRecord",
    "Message",
    "MissingExtra",
    "MnemicError",
    "ModelError",
    "ModelRefused",
    "ModelUnavailable",
    "Procedure",
    "Recall",
    "Receipt",
    "Reply",
    "ReplyStream",
    "Scope",
    "ScopeStats",
    "ScopedMemory",
    "SemanticMemory",
    "SensoryBuffer",
    "ShortTermMemory",
    "Skipped",
    "SlidingWindowMemory",
    "StoreBusy",
    "StoreClosed",
    "StoreError",
    "StoreFull",
    "StoreMoved",
    "StoreReadOnly",
    "StoreStats",
    "StoreTooNew",
    "StoreUnreadable",
    "StreamStats",
    "SummarizationMemory",
    "VersionConflict",
}

Function = ast.FunctionDef | ast.AsyncFunctionDef
Found = Iterator[tuple[str, str]]


@cache
def sources() -> dict[str, tuple[ast.Module, int]]:
    """Every file of the package, by its path from src/: its tree and its lines."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        text = path.read_text("utf-8")
        name = path.relative_to(PACKAGE.parent).as_posix()
        found[name] = (ast.parse(text, name), text.count("\n"))
    return found


def room_of(path: str) -> str:
    parts = path.removesuffix(".py").split("/")
    return "mnemic" if parts[1] == "__init__" else parts[1]


def functions(tree: ast.AST, inside: str = "") -> Iterator[tuple[str, Function, bool]]:
    """Every function with its name, and whether its first parameter is `self` or `cls`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            marks = {mark.id for mark in node.decorator_list if isinstance(mark, ast.Name)}
            yield (
                inside + node.name,
                node,
                isinstance(tree, ast.ClassDef) and ("staticmethod" not in marks),
            )
            yield from functions(node, f"{inside}{node.name}.")
        elif isinstance(node, ast.ClassDef):
            yield from functions(node, f"{inside}{node.name}.")
        else:
            yield from functions(node, inside)


def long_files() -> Found:
    for path, (_, lines) in sources().items():
        if lines > FILE_LINES:
            yield path, f"{lines} lines"


def long_functions() -> Found:
    for path, (tree, _) in sources().items():
        for name, node, _bound in functions(tree):
            lines = (node.end_lineno or 0) - node.body[0].lineno + 1
            if lines > FUNCTION_LINES:
                yield f"{path}::{name}", f"{lines} lines"


def many_parameters() -> Found:
    for path, (tree, _) in sources().items():
        for name, node, bound in functions(tree):
            given = node.args
            count = len(given.posonlyargs) + len(given.args) + len(given.kwonlyargs) - bound
            count += (given.vararg is not None) + (given.kwarg is not None)
            if count > PARAMETERS:
                yield f"{path}::{name}", f"{count} parameters"


def many_methods() -> Found:
    for path, (tree, _) in sources().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                defined = (
                    part.name
                    for part in node.body
                    if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef)
                )
                public = {name for name in defined if not name.startswith("_")}
                if len(public) > PUBLIC_METHODS:
                    yield f"{path}::{node.name}", f"{len(public)} public methods and properties"


def names_everything(node: ast.expr | None) -> bool:
    """Whether an `except` clause (or an argument of `suppress`) takes any exception."""
    if isinstance(node, ast.Tuple):
        return any(names_everything(part) for part in node.elts)
    return node is None or (
        isinstance(node, ast.Name) and node.id in ("Exception", "BaseException")
    )


def is_broad(node: ast.AST) -> bool:
    if isinstance(node, ast.ExceptHandler):
        return names_everything(node.type)
    return (
        isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("suppress", "contextlib.suppress")
        and any(names_everything(argument) for argument in node.args)
    )


def broad_excepts() -> Found:
    for path, (tree, _) in sources().items():
        if path.startswith("mnemic/surfaces/") or path == "mnemic/upkeep/jobs.py":
            continue
        spans = [(node.lineno, node.end_lineno or 0, name) for name, node, _ in functions(tree)]
        for node in ast.walk(tree):
            if isinstance(node, ast.ExceptHandler | ast.Call) and is_broad(node):
                around = [span for span in spans if span[0] <= node.lineno <= span[1]]
                name = max(around)[2] if around else "(module)"
                yield f"{path}::{name}", f"takes any exception in line {node.lineno}"


def reads_environment(node: ast.AST) -> bool:
    names = ("environ", "environb", "getenv", "getenvb")
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return node.value.id == "os" and node.attr in names
    if isinstance(node, ast.ImportFrom) and node.module == "os":
        return any(alias.name in names for alias in node.names)
    return False


def environment_readers() -> Found:
    for path, (tree, _) in sources().items():
        if path != "mnemic/settings.py" and any(map(reads_environment, ast.walk(tree))):
            yield path, "reads the environment, which only settings.py does"


def imported(path: str, tree: ast.Module) -> Iterator[str]:
    """The rooms of the package that a file imports from, wherever in the file."""
    package = path.removesuffix(".py").removesuffix("/__init__").split("/")
    if not path.endswith("/__init__.py"):
        package = package[:-1]
    for node in ast.walk(tree):
        modules: list[str] = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            start = ".".join([*base, *([node.module] if node.module else [])])
            modules = [start]
            if start == "mnemic":
                modules = [f"mnemic.{alias.name}" for alias in node.names]
        for module in modules:
            parts = module.split(".")
            if parts[0] == "mnemic":
                known = len(parts) > 1 and parts[1] in rooms()
                yield parts[1] if known else "mnemic"


@cache
def rooms() -> frozenset[str]:
    return frozenset(room_of(path) for path in sources()) | frozenset().union(*RANKS)


def rank(room: str) -> int:
    """Counted from the top; a room that has no rank yet is below everything and above nothing."""
    return next((place for place, some in enumerate(RANKS) if room in some), -1)


def wrong_imports() -> Found:
    for path, (tree, _) in sources().items():
        room = room_of(path)
        if path == "mnemic/__init__.py" or room == "testing":
            continue
        if rank(room) < 0:
            yield path, f"the room {room!r} has no place in RANKS"
            continue
        for other in sorted(set(imported(path, tree))):
            if other != room and (room, other) not in SIDEWAYS and rank(other) <= rank(room):
                yield f"{path} -> {other}", "imports sideways or upward"


GAUGES: dict[str, Callable[[], Found]] = {
    "file-lines": long_files,
    "function-lines": long_functions,
    "public-methods": many_methods,
    "parameters": many_parameters,
    "broad-except": broad_excepts,
    "environment": environment_readers,
    "imports": wrong_imports,
}


@cache
def excused() -> dict[tuple[str, str], str]:
    entries = {}
    for line in EXCEPTIONS.read_text("utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            gauge, subject, reason = (part.strip() for part in line.split("|", 2))
            entries[gauge, subject] = reason
    return entries


@pytest.mark.parametrize("gauge", GAUGES)
def test_gauge(gauge: str) -> None:
    over = [
        f"{gauge} | {subject} | {what}"
        for subject, what in GAUGES[gauge]()
        if (gauge, subject) not in excused()
    ]
    assert not over, "over the limit:\n" + "\n".join(over)


def test_exceptions_are_still_needed_and_have_reasons() -> None:
    needed = {(gauge, subject) for gauge, find in GAUGES.items() for subject, _ in find()}
    idle = sorted(set(excused()) - needed)
    assert not idle, f"no longer needed in {EXCEPTIONS.name}: {idle}"
    bare = [entry for entry, reason in excused().items() if len(reason) < 10]
    assert not bare, f"without a reason in {EXCEPTIONS.name}: {bare}"


def test_gauges_see_what_they_forbid(monkeypatch: pytest.MonkeyPatch) -> None:
    body = "\n".join("    x = 1" for _ in range(FUNCTION_LINES + 1))
    methods = "\n".join(f"    def m{n}(self): ..." for n in range(PUBLIC_METHODS + 1))
    text = (
        f"""
import os
from mnemic import Memory
from . import surfaces
from ..surfaces.cli import main
def f(a, b, c, d, *, e, f, g, h):
    import mnemic.writing.remember
{body}
class C:
{methods}
try:
    os.environ["A"]
except (KeyError, Exception):
    pass
"""
        + "\n" * FILE_LINES
    )
    made = {"mnemic/stores/made.py": (ast.parse(text), text.count("\n"))}
    monkeypatch.setattr(sys.modules[__name__], "sources", lambda: made)
    for gauge, find in GAUGES.items():
        assert list(find()), gauge
    assert [subject.split()[-1] for subject, _ in wrong_imports()] == [
        "mnemic",
        "surfaces",
        "writing",
    ]


needs_front = pytest.mark.skipif(
    not (PACKAGE / "__init__.py").exists(), reason="src/mnemic/__init__.py is not there yet"
)


@needs_front
def test_import_is_light() -> None:
    code = f"import sys, mnemic; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@needs_front
def test_public_names() -> None:
    import mnemic

    assert sorted(mnemic.__all__) == sorted(PUBLIC)
    for name in PUBLIC:
        assert getattr(mnemic, name) is not None


@needs_front
def test_version_is_the_one_of_pyproject() -> None:
    import mnemic

    stated = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    assert mnemic.__version__ == stated


def project_files() -> list[Path]:
    """The files that git knows or would take; without git, all but what is hidden or built."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    if (ROOT / ".git").exists() and shutil.which("git"):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if done.returncode == 0:
            return [ROOT / name for name in done.stdout.split("\0") if name]
    hidden = re.compile(r"(^|/)(\.(?!ci/|git[ai])|__pycache__|build/|dist/)")
    names = (path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*") if path.is_file())
    return [ROOT / name for name in names if not hidden.search(name)]


def test_files_name_no_machine_and_no_registry() -> None:
    # Put together from parts, so that this file doesn't hold what it looks for.
    folders = [rf"(?<![\w.}}/])/{name}/" for name in ("work", "root")]
    hosts = [r"\.".join(parts) for parts in (("pypi", "org"), ("files", "pythonhosted", "org"))]
    hosts.append(r"registry\." + "npmjs")
    forbidden = re.compile("|".join([*folders, *hosts]).encode())
    found = []
    for path in project_files():
        if path.is_file():
            hit = forbidden.search(path.read_bytes())
            if hit:
                found.append(f"{path.relative_to(ROOT).as_posix()}: {hit.group().decode()}")
    assert not found, "\n".join(found)
