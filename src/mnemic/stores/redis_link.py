"""The line to a Redis or Valkey: its URL, its time-outs, and keeping off while nobody answers there.

No error of it comes out: whoever asks is told that nobody answers, and does without.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qs, urlsplit

from mnemic.errors import InputError, MissingExtra
from mnemic.forking import renew_in_child
from mnemic.inputs import kind_of, read_text, shown

if TYPE_CHECKING:
    from redis import Redis

T = TypeVar("T")

# Whoever waits longer has the database at hand; seconds. A URL may say otherwise.
TIMEOUT_S = 0.25
# After a failure nobody asks for a while, which doubles from the first to the longest; seconds.
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 30.0
_SCHEMES = {
    "redis": "redis",
    "valkey": "redis",
    "rediss": "rediss",
    "valkeys": "rediss",
    "unix": "unix",
}
_OPTIONS = re.compile(
    "db|client_name|health_check_interval|max_connections|socket_(connect_)?timeout|ssl_[a-z_]+"
)
_MOST_URL = 4_096
_SAID = 160
_EXAMPLE = "redis://host:6379/0"


class Link:
    """The connections to the server of a URL. Making one reaches for nobody."""

    def __init__(self, url: str) -> None:
        plain, self.place = read_url(url)
        self._client, self._errors = _open(plain)
        self.clock = monotonic
        self._failures = 0
        self._next = 0.0
        self.trouble: str | None = None
        self.renew()
        renew_in_child(self)

    def renew(self) -> None:
        """Make a lock; in a child process another one. The client looks after its connections itself."""
        self._lock = threading.Lock()

    def ask(self, what: Callable[[Any], T], *, always: bool = False) -> T | None:
        """Ask the server; None where it doesn't answer, or hasn't lately.

        `always` asks also where it hasn't. What is asked for must be the same when it is done twice.
        """
        known = self._may(always)
        if known is None:
            return None
        ended = False
        try:
            answer = what(self._client)
            ended = True
        except self._errors as error:
            ended = True
            self._failed(error, known)
            return None
        finally:
            if not ended:
                # Broken off, by Ctrl-C say: an answer may still be on its way over an idle connection.
                self._client.connection_pool.disconnect(inuse_connections=False)
        self._answered()
        return answer

    def close(self) -> None:
        """Give back the connections."""
        self._client.connection_pool.disconnect()

    def _may(self, always: bool) -> int | None:
        """How many failures there were in a row, if one may ask now."""
        with self._lock:
            if self._failures:
                if self.clock() < self._next and not always:
                    return None
                self._next = self.clock() + self._wait()  # the others keep off while this one tries
            return self._failures

    def _answered(self) -> None:
        if self._failures:
            with self._lock:
                self._failures, self.trouble = 0, None

    def _failed(self, error: Exception, known: int) -> None:
        said = "".join(c for c in f"{type(error).__name__}: {error}"[:_SAID] if c.isprintable())
        with self._lock:
            if self._failures == known:  # of many that fail at once, one counts
                self._failures += 1
            self._next = self.clock() + self._wait()
            self.trouble = said

    def _wait(self) -> float:
        return float(min(FIRST_WAIT_S * 2 ** min(self._failures - 1, 10), LONGEST_WAIT_S))


def read_url(url: object) -> tuple[str, str]:
    """Check a URL; returns it as the client library takes it, and what may be shown of it.

    >>> read_url("valkey://ana:secret@cache.example:7000/2")
    ('redis://ana:secret@cache.example:7000/2', 'cache.example:7000/2')
    """
    if not isinstance(url, str):
        raise InputError(f"short_term must be a URL such as {_EXAMPLE}, not {kind_of(url)}")
    read_text(url, "short_term", _MOST_URL)
    scheme, _, rest = url.strip().partition("://")
    if scheme not in _SCHEMES or not rest:
        # What is said of it shows no more: the rest may hold a password.
        raise InputError(f"short_term must be a URL such as {_EXAMPLE} or unix:///run/redis.sock")
    plain = f"{_SCHEMES[scheme]}://{rest}"
    try:
        parts = urlsplit(plain)
        host, port, options = parts.hostname, parts.port, parse_qs(parts.query)
    except ValueError:
        raise InputError(f"short_term isn't a URL such as {_EXAMPLE}") from None
    unknown = sorted(name for name in options if not _OPTIONS.fullmatch(name))
    if unknown:
        raise InputError(f"short_term has an option {shown(unknown[0])}, which is none of Redis's")
    if scheme == "unix":
        if len(parts.path) < 2:
            raise InputError("short_term must name a socket, such as unix:///run/redis.sock")
        return plain, f"{parts.path} {options.get('db', ['0'])[0]}"
    number = re.fullmatch("/?([0-9]{0,4})", parts.path)
    if host is None or number is None:
        raise InputError(f"short_term must name a host and a number, such as {_EXAMPLE}")
    return plain, f"{host}:{port or 6379}/{number[1] or 0}"


def _open(url: str) -> tuple[Redis, tuple[type[Exception], ...]]:
    try:
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry
    except ImportError as error:
        raise MissingExtra(
            "short-term memory in Redis or Valkey needs a library: pip install 'mnemic[redis]'"
        ) from error
    try:
        client = redis.Redis.from_url(
            url,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            protocol=2,
            # A connection that the server has closed meanwhile is made anew, at once and once.
            retry=Retry(NoBackoff(), 1, (redis.ConnectionError,)),
        )
        client.connection_pool.make_connection()  # which connects nowhere, and refuses bad options
    except (TypeError, ValueError, redis.RedisError):
        raise InputError(f"short_term has an option that can't be used; try {_EXAMPLE}") from None
    return client, (redis.RedisError, OSError, ValueError)
