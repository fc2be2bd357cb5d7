"""The same fixtures as the core's."""

from tests.core.conftest import ana, db, memory, tokens_ready

__all__ = ["ana", "db", "memory", "tokens_ready"]
