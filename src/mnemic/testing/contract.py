"""What all contracts are made of: how one says what it demands, and how to run one without pytest."""

from __future__ import annotations

import unittest
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["demand", "failures", "refusal"]


def demand(holds: object, says: str) -> None:
    """Raise `AssertionError` where something doesn't hold; also under `python -O`."""
    if not holds:
        raise AssertionError(says)


@contextmanager
def refusal(kind: type[Exception], says: str) -> Iterator[None]:
    """Raise `AssertionError` where what is inside isn't refused by an error of this kind."""
    try:
        yield
    except kind:
        return
    raise AssertionError(says)


def failures(suite: type) -> dict[str, str]:
    """Run every test of a contract, and return those that failed with what was said; none is well.

    >>> class Wrong:
    ...     def test_sum(self):
    ...         demand(1 + 1 == 3, "one and one must be three")
    >>> failures(Wrong)["test_sum"].splitlines()[-1]
    'AssertionError: one and one must be three'
    """
    place = {"__module__": suite.__module__, "__qualname__": suite.__qualname__}
    case = type(suite.__name__, (suite, unittest.TestCase), place)
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(case).run(result)
    said = [(test.id().rpartition(".")[2], says) for test, says in result.errors + result.failures]
    return dict(said)
