"""What has to happen around `os.fork`, for the things that can't cross one: locks, threads, connections.

SQLite forbids to use, or even to close, a connection in a child that was opened by its parent, and its
locks don't cross a fork. So connections are closed before and opened again on either side.
"""

from __future__ import annotations

import os
import threading
import weakref
from contextlib import ExitStack, suppress
from functools import cache
from typing import Protocol


class Renews(Protocol):
    """A thing with locks or threads, which a child process needs new ones of."""

    def renew(self) -> None:
        """Replace, in a child process, what can't cross a fork."""
        ...


class Forks(Protocol):
    """A thing that has to get ready for a fork."""

    def before_fork(self) -> None:
        """In the parent, before it forks."""
        ...

    def after_fork(self, *, child: bool) -> None:
        """On both sides, after it forked."""
        ...


_renewed: weakref.WeakSet[Renews] = weakref.WeakSet()
_watched: weakref.WeakSet[Forks] = weakref.WeakSet()
# Held from before a fork until after it: one at a time, and nothing new is watched in between.
_lock = threading.RLock()


def renew_in_child(thing: Renews) -> None:
    """See to it that a thing is renewed in every child process, as long as it lives."""
    _register()
    with _lock:
        _renewed.add(thing)


def watch(thing: Forks) -> None:
    """See to it that a thing is told before and after every fork, as long as it lives."""
    _register()
    with _lock:
        _watched.add(thing)


@cache
def _register() -> None:
    # At first use, so that what modules register for themselves as they load comes before.
    if hasattr(os, "register_at_fork"):  # POSIX
        os.register_at_fork(
            before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child
        )


# Python passes over what these raise, an interrupt (Ctrl-C) too, and goes on with the fork. So a thing
# that couldn't get ready is told of the fork all the same, and has to know that it wasn't ready.


def _before() -> None:
    _lock.acquire()
    with ExitStack() as every:  # each of them, whatever another raises
        for thing in list(_watched):
            every.callback(thing.before_fork)


def _after_in_parent() -> None:
    with ExitStack() as every:
        every.callback(_release)
        for thing in list(_watched):
            every.callback(thing.after_fork, child=False)


def _release() -> None:
    with suppress(RuntimeError):  # an interrupt came before it was acquired
        _lock.release()


def _after_in_child() -> None:
    global _lock
    _lock = threading.RLock()
    with ExitStack() as every:
        for thing in list(_renewed):
            every.callback(thing.renew)
        for watched in list(_watched):
            every.callback(watched.after_fork, child=True)
