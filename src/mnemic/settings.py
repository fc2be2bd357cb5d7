"""Settings, and the only place that reads the environment.

    MNEMIC_DB               where memories are kept: a path or an SQLAlchemy URL
    MNEMIC_USER             the CLI's default user
    MNEMIC_EMBEDDER_URL     an OpenAI-compatible endpoint, instead of the bundled model
    MNEMIC_EMBEDDER_MODEL   the model's name there
    MNEMIC_EMBEDDER_KEY     its key, if it wants one
    MNEMIC_MODEL            the language model: openai:gpt-..., or a name behind MNEMIC_MODEL_URL
    MNEMIC_MODEL_URL        an OpenAI-compatible endpoint that serves it
    MNEMIC_MODEL_KEY        its key, if it wants one
    MNEMIC_SHORT_TERM_URL   a Redis or Valkey that hosts share for recent turns: redis://host:6379/0
    MNEMIC_RESIDENT_MB      memory for resident indexes, all users together (default 1024)

An argument always wins over the environment. A setting nobody varies is a constant beside its use.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnemic.errors import InputError

DEFAULT_RESIDENT_MB = 1024
MAX_RESIDENT_MB = 100_000_000  # 100 TB: more than any machine has, less than any sum overflows at


@dataclass(frozen=True, slots=True)
class Settings:
    """What can be set from outside; `None` means the default."""

    db: str | None = None
    user: str | None = None
    embedder_url: str | None = None
    embedder_model: str | None = None
    embedder_key: str | None = None
    resident_mb: int = DEFAULT_RESIDENT_MB
    model: str | None = None
    model_url: str | None = None
    model_key: str | None = None
    short_term_url: str | None = None

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if name != "resident_mb" and getattr(self, name) is not None:
                _check_text(getattr(self, name), name)
        size: object = self.resident_mb
        if type(size) is not int or not 1 <= size <= MAX_RESIDENT_MB:
            raise InputError(
                f"resident_mb must be a whole number of megabytes from 1 to {MAX_RESIDENT_MB:,}"
            )


def read_settings(settings: Settings | None) -> Settings:
    """Take settings as given, or else those of the environment."""
    if settings is None:
        return from_environment()
    given: object = settings
    if not isinstance(given, Settings):
        raise InputError(f"settings must be a `Settings`, not {type(given).__name__}")
    return settings


def from_environment() -> Settings:
    """Read the settings from the environment; raises `InputError` where one can't be used."""
    resident = _from("MNEMIC_RESIDENT_MB") or str(DEFAULT_RESIDENT_MB)
    # Not `isdigit`, which takes "²" for a digit; nor more digits than `int` reads.
    if not re.fullmatch("[0-9]{1,9}", resident) or not 1 <= int(resident) <= MAX_RESIDENT_MB:
        raise InputError(
            "MNEMIC_RESIDENT_MB must be a whole number of megabytes from 1 to"
            f" {MAX_RESIDENT_MB:,}, not {resident[:20]!r}"
        )
    return Settings(
        db=_from("MNEMIC_DB"),
        user=_from("MNEMIC_USER"),
        embedder_url=_from("MNEMIC_EMBEDDER_URL"),
        embedder_model=_from("MNEMIC_EMBEDDER_MODEL"),
        embedder_key=_from("MNEMIC_EMBEDDER_KEY"),
        resident_mb=int(resident),
        model=_from("MNEMIC_MODEL"),
        model_url=_from("MNEMIC_MODEL_URL"),
        model_key=_from("MNEMIC_MODEL_KEY"),
        short_term_url=_from("MNEMIC_SHORT_TERM_URL"),
    )


def _from(name: str) -> str | None:
    """A variable of the environment; an empty one counts as none."""
    value = os.environ.get(name) or None
    return None if value is None else _check_text(value, name)


def _check_text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise InputError(f"{name} must be a string, not {type(value).__name__}")
    if not value.strip():
        raise InputError(f"{name} is blank; set it to something, or leave it out")
    return value


def silence_libraries() -> None:
    """Keep a memory's libraries from reporting home; call it before they are imported.

    Importing ONNX Runtime 1.32 makes a device id and an event store in the home folder otherwise.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def one_core_each() -> None:
    """Have processes started from here on do linear algebra on one core each, unless told otherwise.

    Where each takes all cores, they wait for one another: two of them on two cores recall ten times slower.
    """
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")


def default_db() -> str:
    """`memory.db` in the user's data directory (made when first written to)."""
    from platformdirs import user_data_path

    return str(Path(user_data_path("mnemic", appauthor=False)) / "memory.db")


def cache_folder() -> Path:
    """Where what can be made again is kept: the user's cache directory (made when first written to)."""
    from platformdirs import user_cache_path

    return Path(user_cache_path("mnemic", appauthor=False))
