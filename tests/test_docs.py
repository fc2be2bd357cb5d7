"""The documentation is what the code says, and its examples run."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_script", ROOT / "scripts" / "docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["docs_script"] = module
    spec.loader.exec_module(module)
    return module


docs = _load()
PAGES = list(docs.example_pages())


@pytest.mark.parametrize("name", list(docs.pages()))
def test_a_generated_page_is_up_to_date(name: str) -> None:
    assert docs.up_to_date(name, docs.pages()[name], check=True), "run: python3 dev.py docs"


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_the_examples_of_a_page_run(page: Path) -> None:
    assert docs.run_examples(page)


def test_the_index_names_every_page() -> None:
    index = (ROOT / "docs" / "README.md").read_text("utf-8")
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert [name for name in pages if f"({name})" not in index] == []


def test_the_architecture_names_every_module() -> None:
    tree = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    modules = [
        path.name
        for path in (ROOT / "src" / "mnemic").rglob("*.py")
        if not path.name.startswith("__") and "migrations" not in path.parts
    ]
    surfaces = {path.name for path in (ROOT / "src" / "mnemic" / "surfaces").rglob("*.py")}
    assert [name for name in modules if name not in tree and name not in surfaces] == []


def test_the_guides_page_names_tests_that_exist() -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / "guide.md").read_text("utf-8")))
    tests = "\n".join(path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    assert len(named) > 30
    assert [name for name in sorted(named) if f"def {name}(" not in tests] == []
