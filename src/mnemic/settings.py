"""Settings, and the only place that reads the environment.

    MNEMIC_DB               where memories are kept: a path or an SQLAlchemy URL
    MNEMIC_USER             the CLI's default user
    MNEMIC_EMBEDDER_URL     an OpenAI-compatible endpoint, instead of the bundled model
    MNEMIC_EMBEDDER_MODEL   the model's name there
    MNEMIC_EMBEDDER_KEY     its key, if it wants one
    MNEMIC_RESIDENT_MB      memory for resident indexes, all users together (default 1024)

An argument always wins over the environment. A setting nobody varies is a constant beside its use.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from mnemic.errors import InputError

DEFAULT_RESIDENT_MB = 1024


@dataclass(frozen=True, slots=True)
class Settings:
    """What can be set from outside; `None` means the default."""

    db: str | None = None
    user: str | None = None
    embedder_url: str | None = None
    embedder_model: str | None = None
    embedder_key: str | None = None
    resident_mb: int = DEFAULT_RESIDENT_MB


def from_environment() -> Settings:
    """Read the settings from the environment; raises `InputError` where one can't be used."""
    env = os.environ
    resident = env.get("MNEMIC_RESIDENT_MB", str(DEFAULT_RESIDENT_MB))
    if not resident.isdigit() or int(resident) < 1:
        raise InputError(
            f"MNEMIC_RESIDENT_MB must be a whole number of megabytes, not {resident!r}"
        )
    return Settings(
        db=env.get("MNEMIC_DB") or None,
        user=env.get("MNEMIC_USER") or None,
        embedder_url=env.get("MNEMIC_EMBEDDER_URL") or None,
        embedder_model=env.get("MNEMIC_EMBEDDER_MODEL") or None,
        embedder_key=env.get("MNEMIC_EMBEDDER_KEY") or None,
        resident_mb=int(resident),
    )


def silence_libraries() -> None:
    """Keep a memory's libraries from reporting home; call it before they are imported.

    Importing ONNX Runtime 1.32 makes a device id and an event store in the home folder otherwise.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def default_db() -> str:
    """`memory.db` in the user's data directory (made when first written to)."""
    from platformdirs import user_data_path

    return str(Path(user_data_path("mnemic", appauthor=False)) / "memory.db")
