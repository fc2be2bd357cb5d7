#!/usr/bin/env python3
"""Everything a developer of mnemic does, with one command and nothing to install first.

    python3 dev.py COMMAND [ARGUMENTS...]

The first command makes .venv (about a minute); later ones find it and start at once. Nothing
is installed outside this folder, and nothing here needs root. Where `uv` is on PATH it is used,
because it is faster; otherwise `venv` and `pip` do the same.
"""

import ast
import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

OLDEST = (3, 11)


def version_problem(version: "Sequence[int]") -> "str | None":
    """Say what is wrong with this Python's version; `None` where it will do."""
    if tuple(version[:2]) >= OLDEST:
        return None
    have = ".".join(str(part) for part in version[:3])
    need = ".".join(str(part) for part in OLDEST)
    return (
        f"mnemic needs Python {need} or later, and this is Python {have}. "
        "Run dev.py with a later one, for example: python3.12 dev.py test"
    )


# Here, because what follows can't even be read by an older Python.
PROBLEM = version_problem(sys.version_info[:3])
if PROBLEM:
    sys.exit("dev.py: " + PROBLEM)

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
STAMP = VENV / "dev-stamp"
LOCKED = ROOT / "requirements" / "dev.txt"
CHECKED = ("src", "tests", "bench", "scripts", "examples", "dev.py")
# Arguments of pytest that choose a few tests, or that two processes can't serve.
ALONE = ("-k", "-n", "-s", "--pdb", "--lf", "--ff", "--sw", "--co", "--collect-only")
CACHES = (".pytest_cache", ".mypy_cache", ".ruff_cache", ".hypothesis", ".benchmarks")
MISLEADING = ("PYTHONHOME", "PYTHONPATH", "PIP_USER", "PIP_TARGET", "PIP_PREFIX")
LEFTOVERS = (".venv", *CACHES, ".coverage", "build", "dist")
REQUIREMENTS = {
    "core.txt": ["pyproject.toml"],
    "dev.txt": [
        "--extra",
        "http",
        "--extra",
        "agent",
        "--extra",
        "redis",
        "--extra",
        "eval",
        "pyproject.toml",
        "requirements/dev.in",
    ],
    "server.txt": ["--no-deps", "requirements/server.in"],
}

HELP = {
    "demo": """
    python3 dev.py demo [ARGUMENTS...]

Runs `mnemic demo`: a short conversation is remembered, then asked about, so that you see what
the library does. Arguments go to `mnemic demo`; `mnemic` itself is then in .venv, to play with.
""",
    "test": """
    python3 dev.py test [PYTEST ARGUMENTS...]

Runs ruff (check and format), mypy and pytest, all of them even where one fails, and ends with
one summary. Arguments go to pytest:

    python3 dev.py test tests/test_dev.py     one file
    python3 dev.py test -k stamp -x           by name, up to the first failure
    python3 dev.py test -m long               the tests that a plain run leaves out

MNEMIC_TEST_PROFILE=long makes the property tests try many more examples (as .ci/run does).
The exit code is 0 only if every step passed.
""",
    "lint": """
    python3 dev.py lint

Runs ruff (check and format) and mypy, without the tests. To have ruff repair what it can:
`ruff check --fix` and `ruff format`, both in .venv.
""",
    "bench": """
    python3 dev.py bench                      lists the benchmarks
    python3 dev.py bench NAME [ARGUMENTS...]  runs bench/NAME.py with the arguments

For example `python3 dev.py bench speed --quick`; `bench NAME --help` says what a benchmark takes.
""",
    "docs": """
    python3 dev.py docs [ARGUMENTS...]

Runs scripts/docs.py, which makes and checks the documentation.
""",
    "clean": """
    python3 dev.py clean

Removes .venv, the caches of the tools, and build outputs; nothing else. The next command makes
.venv again.
""",
    "lock": """
    python3 dev.py lock [UV ARGUMENTS...]

Makes requirements/*.txt again from pyproject.toml and requirements/*.in, with exact versions and
hashes for every system and Python that mnemic runs on. Needs `uv`. Versions already there stay
where they can; `lock --upgrade` takes the newest, `lock --upgrade-package NAME` only one.
""",
}


class Failed(Exception):
    """Something that ends this run, with a message for the person who started it."""


# --- what can be said without doing anything --------------------------------------------------


def overview() -> str:
    """Text of `dev.py --help`."""
    says = {
        "demo": "show what mnemic does, on a short conversation",
        "test": "ruff, mypy and pytest, with one summary; arguments go to pytest",
        "lint": "ruff and mypy only",
        "bench": "list the benchmarks, or run one",
        "docs": "make and check the documentation",
        "clean": "remove .venv, caches and build outputs",
        "lock": "make requirements/*.txt again (needs uv)",
    }
    lines = [f"    {name:<7} {what}" for name, what in says.items()]
    more = "`python3 dev.py COMMAND --help` says more of a command."
    return "\n".join([(__doc__ or "").strip(), "", *lines, "", more])


def parse(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """Split a command line into a command and what it is given; `("help", [...])` for help."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        return "help", list(arguments[1:2])
    command, rest = arguments[0], list(arguments[1:])
    if command not in HELP:
        raise Failed(f"there is no command {command!r}; there are: {', '.join(HELP)}")
    if rest[:1] in (["-h"], ["--help"]):
        return "help", [command]
    if rest and command in ("lint", "clean"):
        raise Failed(f"`{command}` takes no arguments, and was given: {' '.join(rest)}")
    return command, rest


def runs_alone(arguments: Sequence[str], root: Path = ROOT) -> bool:
    """Whether pytest gets so few tests (or such options) that several processes don't pay."""
    for argument in arguments:
        option = argument.split("=")[0]
        if option in ALONE or (option[:2] == "-n" and option[2:].isdigit()):
            return True
        if not argument.startswith("-") and (root / argument.split("::")[0]).exists():
            return True
    return False


def installed_parts(pyproject: str) -> str:
    """Return the part of pyproject.toml that an install depends on: all but the tools' settings."""
    import tomllib

    document = tomllib.loads(pyproject)
    hatch = document.get("tool", {}).get("hatch", {})
    return repr([document.get("build-system"), document.get("project"), hatch])


def fingerprint(root: Path, python: str) -> str:
    """Hash what .venv was made from: the pins, the project, the Python, and the folder."""
    parts = [
        (root / "requirements" / "dev.txt").read_text("utf-8"),
        installed_parts((root / "pyproject.toml").read_text("utf-8")),
        python,
        str(root),
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def venv_state(venv: Path, wanted: str) -> str:
    """Say how .venv stands: `ready`, `missing`, `unfinished` or `outdated`."""
    if not venv.exists() and not venv.is_symlink():
        return "missing"
    stamp = venv / "dev-stamp"
    if not stamp.is_file() or not program(venv, "python").exists():
        return "unfinished"
    return "ready" if stamp.read_text("utf-8").strip() == wanted else "outdated"


def program(venv: Path, name: str, windows: bool = os.name == "nt") -> Path:
    """Path of a program that a virtual environment holds."""
    return venv / "Scripts" / f"{name}.exe" if windows else venv / "bin" / name


def base_python() -> str:
    """Path of the Python that runs this, or that made the virtual environment which runs this."""
    return str(getattr(sys, "_base_executable", None) or sys.executable)


def this_python() -> str:
    """Name the Python that .venv is made with, exactly."""
    return (
        f"{platform.python_implementation()} {sys.version} {platform.machine()} {sys.base_prefix}"
    )


def child_environment(outer: Mapping[str, str], home_usable: bool, caches: Path) -> dict[str, str]:
    """Return the environment for the tools; caches go to `caches` where there is no usable home."""
    env = {key: value for key, value in outer.items() if key not in MISLEADING}
    env["VIRTUAL_ENV"] = str(VENV)
    env["PATH"] = os.pathsep.join([str(program(VENV, "python").parent), outer.get("PATH", "")])
    if not home_usable:
        caches_of = {"UV_CACHE_DIR": "uv", "PIP_CACHE_DIR": "pip", "XDG_CACHE_HOME": "other"}
        for variable, name in caches_of.items():
            env.setdefault(variable, str(caches / name))
        if not outer.get("HOME"):
            env["HOME"] = str(caches / "home")
    return env


def first_sentence(script: Path) -> str:
    """First line of a script's docstring."""
    try:
        doc = ast.get_docstring(ast.parse(script.read_text("utf-8")))
    except SyntaxError:
        doc = None
    return (doc or "").partition("\n")[0]


def benchmarks(root: Path = ROOT) -> dict[str, Path]:
    """Find the scripts under bench/, by name."""
    found = sorted((root / "bench").glob("*.py"))
    return {path.stem: path for path in found if not path.stem.startswith("_")}


def leftovers(root: Path) -> Iterator[Path]:
    """Find what `clean` removes."""
    for name in LEFTOVERS:
        path = root / name
        if path.exists() or path.is_symlink():
            yield path
    for name in CHECKED:
        if (root / name).is_dir():
            for pattern in ("__pycache__", "*.egg-info", ".ruff_cache", ".mypy_cache"):
                yield from sorted((root / name).rglob(pattern))
    if (root / "__pycache__").exists():
        yield root / "__pycache__"


# --- doing ------------------------------------------------------------------------------------


def say(text: str) -> None:
    """Print at once, so that it stands before what a tool prints next."""
    print(text, flush=True)


def home_usable() -> bool:
    """Whether there is a home folder that caches can be kept in."""
    home = os.environ.get("HOME") or (os.environ.get("USERPROFILE") if os.name == "nt" else "")
    return bool(home) and Path(home or "").is_dir() and os.access(home or "", os.W_OK | os.X_OK)


def environment() -> dict[str, str]:
    """Return the environment that every tool is started with."""
    user = str(os.getuid()) if hasattr(os, "getuid") else "user"
    usable = home_usable()
    caches = VENV / "caches" if VENV.is_dir() else Path(tempfile.gettempdir()) / f"mnemic-{user}"
    return child_environment(os.environ, usable, caches)


def run(command: Sequence[str | Path]) -> int:
    """Run a command in the root folder, showing what it prints."""
    try:
        done = subprocess.run([str(part) for part in command], cwd=ROOT, env=environment())
        return done.returncode
    except OSError as error:
        say(f"dev.py: {command[0]} can't be run: {error}")
        return 127


def step(label: str, command: Sequence[str | Path]) -> tuple[str, int, float]:
    """Run a command as a named step; returns its label, exit code and seconds."""
    say(f"==> {label}")
    start = time.monotonic()
    code = run(command)
    seconds = time.monotonic() - start
    say(f"    {label}: {'ok' if code == 0 else f'FAILED (exit code {code})'} in {seconds:.1f} s")
    return label, code, seconds


def remove(path: Path) -> None:
    """Remove a file, a link or a folder."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


def ready() -> None:
    """Make .venv, unless it stands and matches."""
    wanted = fingerprint(ROOT, this_python())
    state = venv_state(VENV, wanted)
    if state == "ready":
        return
    why = {
        "missing": "there is none yet",
        "unfinished": "the one there was not finished",
        "outdated": "the requirements, the Python or the folder changed",
    }
    say(f"==> making .venv ({why[state]}); this takes about a minute, and only now")
    start = time.monotonic()
    uv = shutil.which("uv")
    if not (uv and installed(with_uv(uv))) and not installed(with_pip()):
        raise Failed(
            "the requirements could not be installed (see above). The first time needs the "
            "network; run the same command again, it starts afresh."
        )
    STAMP.write_text(wanted + "\n", "utf-8")
    say(f"    .venv is ready, in {time.monotonic() - start:.1f} s")


def installed(steps: list[tuple[str, list[str | Path]]]) -> bool:
    """Make an empty .venv and run the steps that fill it; whether all of them went well."""
    remove(VENV)
    VENV.mkdir()
    return all(step(label, command)[1] == 0 for label, command in steps)


def with_uv(uv: str) -> list[tuple[str, list[str | Path]]]:
    """List the steps that fill .venv with uv."""
    install: list[str | Path] = [uv, "pip", "install", "--quiet", "--python"]
    install.append(program(VENV, "python"))
    venv = [uv, "venv", "--quiet", "--no-project", "--allow-existing", "--python", base_python()]
    return [
        ("empty environment (uv)", [*venv, VENV]),
        ("requirements (uv)", [*install, "--require-hashes", "--requirements", LOCKED]),
        ("mnemic itself (uv)", [*install, "--no-deps", "--no-build-isolation", "--editable", ROOT]),
    ]


def with_pip() -> list[tuple[str, list[str | Path]]]:
    """List the steps that fill .venv with this Python's own venv and pip."""
    missing = [name for name in ("venv", "ensurepip") if importlib.util.find_spec(name) is None]
    if missing:
        version = ".".join(str(part) for part in sys.version_info[:2])
        raise Failed(
            f"this Python ({base_python()}) comes without {' and '.join(missing)}, so it can't "
            f"make a virtual environment. On Debian and Ubuntu: apt install python{version}-venv. "
            "Or put `uv` on PATH, or run dev.py with another Python."
        )
    install: list[str | Path] = [program(VENV, "python"), "-m", "pip", "install", "--quiet"]
    install.append("--disable-pip-version-check")
    return [
        ("empty environment (venv)", [base_python(), "-m", "venv", VENV]),
        ("requirements (pip)", [*install, "--require-hashes", "--requirement", LOCKED]),
        ("mnemic itself (pip)", [*install, "--no-deps", "--no-build-isolation", "-e", ROOT]),
    ]


def lint_steps() -> list[tuple[str, list[str | Path]]]:
    """List the steps of `lint`, over the folders that hold Python."""
    python = program(VENV, "python")
    folders = [name for name in CHECKED if next((ROOT / name).rglob("*.py"), None)]
    folders.append("dev.py")
    typed = [name for name in folders if name != "examples"]
    return [
        ("ruff check", [python, "-m", "ruff", "check", *folders]),
        ("ruff format", [python, "-m", "ruff", "format", "--check", *folders]),
        ("mypy", [python, "-m", "mypy", *typed]),
    ]


def pytest_step(arguments: list[str]) -> tuple[str, list[str | Path]]:
    """Return the pytest step, in two processes or more where that pays."""
    processes = min(os.cpu_count() or 1, 4)
    spread = [] if processes < 2 or runs_alone(arguments) else ["-n", str(processes)]
    return "pytest", [program(VENV, "python"), "-m", "pytest", *spread, *arguments]


def all_steps(steps: list[tuple[str, list[str | Path]]]) -> int:
    """Run every step, and end with one summary of them."""
    done = [step(label, command) for label, command in steps]
    failed = [label for label, code, _ in done if code != 0]
    parts = [f"{label} {seconds:.1f} s" for label, _, seconds in done]
    total = sum(seconds for _, _, seconds in done)
    verdict = f"FAILED: {', '.join(failed)}" if failed else "all passed"
    say(f"\nsummary: {verdict} ({'; '.join(parts)}; together {total:.1f} s)")
    return 1 if failed else 0


def do_demo(arguments: list[str]) -> int:
    """Run `mnemic demo`."""
    ready()
    return run([program(VENV, "mnemic"), "demo", *arguments])


def do_test(arguments: list[str]) -> int:
    """Run the checks and the tests."""
    ready()
    return all_steps([*lint_steps(), pytest_step(arguments)])


def do_lint(arguments: list[str]) -> int:
    """Run the checks without the tests."""
    ready()
    return all_steps(lint_steps())


def do_bench(arguments: list[str]) -> int:
    """List the benchmarks, or run one."""
    found = benchmarks()
    listing = "\n".join(f"    {name:<12} {first_sentence(path)}" for name, path in found.items())
    if not arguments:
        say(f"benchmarks:\n{listing}" if found else "there are no benchmarks under bench/ yet")
        return 0
    name, *rest = arguments
    if name not in found:
        raise Failed(f"there is no benchmark {name!r}; there are:\n{listing or '    none yet'}")
    ready()
    return run([program(VENV, "python"), found[name], *rest])


def do_docs(arguments: list[str]) -> int:
    """Run scripts/docs.py."""
    script = ROOT / "scripts" / "docs.py"
    if not script.is_file():
        raise Failed("there is no scripts/docs.py yet, so there is nothing to make")
    ready()
    return run([program(VENV, "python"), script, *arguments])


def do_clean(arguments: list[str]) -> int:
    """Remove what can be made again."""
    for path in list(leftovers(ROOT)):
        remove(path)
        say(f"removed {path.relative_to(ROOT)}")
    return 0


def do_lock(arguments: list[str]) -> int:
    """Make the requirements again."""
    uv = shutil.which("uv")
    if uv is None:
        raise Failed("`lock` needs uv on PATH; see the uv documentation for ways to get it")
    oldest = ".".join(str(part) for part in OLDEST)
    fixed = ["--quiet", "--universal", "--generate-hashes", "--no-emit-index-url"]
    fixed += ["--python-version", oldest, "--annotation-style", "line"]
    fixed += ["--custom-compile-command", "python3 dev.py lock", *arguments]
    for name, sources in REQUIREMENTS.items():
        target = f"requirements/{name}"
        if step(target, [uv, "pip", "compile", *fixed, *sources, "--output-file", target])[1]:
            return 1
        if "://" in (ROOT / target).read_text("utf-8"):
            raise Failed(f"{target} names an address; it must hold names, versions and hashes only")
    return 0


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "demo": do_demo,
    "test": do_test,
    "lint": do_lint,
    "bench": do_bench,
    "docs": do_docs,
    "clean": do_clean,
    "lock": do_lock,
}


def main(arguments: Sequence[str]) -> int:
    """Run one command; returns the exit code."""
    try:
        command, rest = parse(arguments)
        if command == "help":
            say(HELP[rest[0]].strip("\n") if rest and rest[0] in HELP else overview())
            return 0
        return COMMANDS[command](rest)
    except Failed as error:
        print(f"dev.py: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"dev.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ndev.py: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
