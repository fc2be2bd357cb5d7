"""What dev.py decides; nothing here makes an environment."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

import dev

PYPROJECT = """
[build-system]
requires = ["hatchling"]
[project]
name = "mnemic"
dependencies = ["numpy"]
[tool.ruff]
line-length = 100
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements" / "dev.txt").write_text("numpy==2.0\n")
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    return tmp_path


def test_old_pythons_are_turned_away_with_what_to_do() -> None:
    problem = dev.version_problem((3, 10, 4))
    assert problem is not None
    assert "3.11 or later" in problem
    assert "3.10.4" in problem


@pytest.mark.parametrize("version", [(3, 11, 0), (3, 14, 2), (4, 0, 0)])
def test_new_pythons_will_do(version: tuple[int, int, int]) -> None:
    assert dev.version_problem(version) is None


def test_oldest_python_is_the_one_of_pyproject() -> None:
    stated = re.search(r'requires-python = ">=([\d.]+)"', (dev.ROOT / "pyproject.toml").read_text())
    assert stated is not None
    assert stated.group(1) == ".".join(map(str, dev.OLDEST))


def test_command_lines() -> None:
    assert dev.parse([]) == ("help", [])
    assert dev.parse(["--help"]) == ("help", [])
    assert dev.parse(["bench", "--help"]) == ("help", ["bench"])
    assert dev.parse(["test", "-k", "one", "tests/a.py"]) == ("test", ["-k", "one", "tests/a.py"])
    assert dev.parse(["bench", "speed", "--help"]) == ("bench", ["speed", "--help"])


@pytest.mark.parametrize("line", [["tset"], ["--quick"], ["clean", "all"], ["lint", "-v"]])
def test_command_lines_that_make_no_sense(line: list[str]) -> None:
    with pytest.raises(dev.Failed):
        dev.parse(line)


@pytest.mark.parametrize("command", sorted(dev.COMMANDS))
def test_every_command_is_explained(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert dev.main([command, "--help"]) == 0
    assert f"python3 dev.py {command}" in capsys.readouterr().out
    assert f"    {command} " in dev.overview()


def test_wrong_command_exits_with_two(capsys: pytest.CaptureFixture[str]) -> None:
    assert dev.main(["tset"]) == 2
    assert "there is no command 'tset'" in capsys.readouterr().err


def test_unknown_benchmark_exits_with_two(capsys: pytest.CaptureFixture[str]) -> None:
    assert dev.main(["bench", "no-such"]) == 2
    assert "there is no benchmark 'no-such'" in capsys.readouterr().err


def test_benchmarks_are_listed_with_what_they_say(tmp_path: Path) -> None:
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "speed.py").write_text('"""How fast.\n\nMore."""\n')
    (tmp_path / "bench" / "_shared.py").write_text("")
    found = dev.benchmarks(tmp_path)
    assert list(found) == ["speed"]
    assert dev.first_sentence(found["speed"]) == "How fast."


def test_fingerprint_follows_what_is_installed(project: Path) -> None:
    first = dev.fingerprint(project, "3.12")
    assert dev.fingerprint(project, "3.12") == first
    assert dev.fingerprint(project, "3.13") != first
    pyproject = project / "pyproject.toml"
    pyproject.write_text(PYPROJECT.replace("100", "90"))
    assert dev.fingerprint(project, "3.12") == first, "a linter's setting installs nothing"
    pyproject.write_text(PYPROJECT.replace('"numpy"', '"numpy>=2"'))
    assert dev.fingerprint(project, "3.12") != first
    pyproject.write_text(PYPROJECT)
    (project / "requirements" / "dev.txt").write_text("numpy==2.1\n")
    assert dev.fingerprint(project, "3.12") != first


def test_environment_is_ready_only_when_it_was_finished(tmp_path: Path) -> None:
    venv = tmp_path / ".venv"
    assert dev.venv_state(venv, "stamp") == "missing"
    venv.mkdir()
    assert dev.venv_state(venv, "stamp") == "unfinished"
    python = dev.program(venv, "python")
    python.parent.mkdir()
    python.touch()
    assert dev.venv_state(venv, "stamp") == "unfinished"
    (venv / "dev-stamp").write_text("stamp\n")
    assert dev.venv_state(venv, "stamp") == "ready"
    assert dev.venv_state(venv, "another") == "outdated"
    python.unlink()
    assert dev.venv_state(venv, "stamp") == "unfinished"


def test_programs_are_found_on_every_system() -> None:
    assert dev.program(Path("v"), "mnemic", windows=False) == Path("v", "bin", "mnemic")
    assert dev.program(Path("v"), "mnemic", windows=True) == Path("v", "Scripts", "mnemic.exe")


@pytest.mark.parametrize(
    ("arguments", "alone"),
    [
        ([], False),
        (["-x", "-q"], False),
        (["-m", "long"], False),
        (["-k", "one"], True),
        (["--pdb"], True),
        (["-n", "3"], True),
        (["-n3"], True),
        (["tests/a.py::test_b"], True),
        (["tests"], True),
    ],
)
def test_processes_are_used_where_they_pay(
    arguments: list[str], alone: bool, tmp_path: Path
) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "a.py").touch()
    assert dev.runs_alone(arguments, tmp_path) is alone


def test_caches_stay_where_the_home_folder_is_good(tmp_path: Path) -> None:
    outer = {"PATH": "here", "HOME": "home", "PYTHONPATH": "elsewhere"}
    env = dev.child_environment(outer, True, tmp_path)
    assert env["HOME"] == "home"
    assert env["PATH"].endswith(f"{os.pathsep}here")
    assert not {"PYTHONPATH", "PIP_CACHE_DIR", "UV_CACHE_DIR"} & set(env)


@pytest.mark.parametrize("home", [None, "", "nowhere"])
def test_caches_move_where_it_is_not(tmp_path: Path, home: str | None) -> None:
    outer = {"PATH": "here", "UV_CACHE_DIR": "mine"} | ({} if home is None else {"HOME": home})
    env = dev.child_environment(outer, False, tmp_path)
    assert env["UV_CACHE_DIR"] == "mine", "what somebody chose stays"
    assert Path(env["PIP_CACHE_DIR"]).parent == tmp_path
    assert env["HOME"] == (home or str(tmp_path / "home"))


def test_clean_finds_only_what_can_be_made_again(tmp_path: Path) -> None:
    for name in (".venv", "build", "src/pkg/__pycache__", "src/pkg", "mine", "notes/__pycache__"):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
    (tmp_path / "memory.db").touch()
    found = [path.relative_to(tmp_path).as_posix() for path in dev.leftovers(tmp_path)]
    assert sorted(found) == [".venv", "build", "src/pkg/__pycache__"]


def test_requirements_hold_pins_and_hashes_only() -> None:
    for path in sorted((dev.ROOT / "requirements").glob("*.txt")):
        text = path.read_text("utf-8")
        assert "://" not in text, path.name
        assert "--index-url" not in text, path.name
        names = [line for line in text.splitlines() if re.match(r"\w", line)]
        assert names
        assert all("==" in line for line in names), path.name
        assert text.count("--hash=sha256:") >= len(names), path.name
