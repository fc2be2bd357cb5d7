"""Every error that Mnemic raises, as one tree; each says what to do next.

    MnemicError
    ├── InputError            the caller's input can't be taken; nothing was changed (also a ValueError)
    │   ├── IdConflict        a message id is in use in this session for another content
    │   ├── AmbiguousMessage  a message id names messages in several sessions
    │   ├── BudgetTooSmall    what must stay has more tokens than the budget; `needed` says how many
    │   └── VersionConflict   an instruction has another version by now than the one expected
    ├── StoreError            the database can't do what was asked
    │   ├── StoreBusy         another writer held the lock for too long; a retry helps
    │   ├── StoreFull         the disk is full, or a quota is used up; nothing was changed
    │   ├── StoreReadOnly     the file or its folder can't be written to
    │   ├── StoreMoved        the file was moved, removed or replaced while it was open
    │   ├── StoreTooNew       the file was written by a newer Mnemic
    │   ├── StoreUnreadable   the file isn't a database, or not one of ours
    │   └── StoreClosed       the memory was closed
    ├── EmbedderError         a text could not be turned into a vector
    │   ├── EmbedderUnavailable   the model can't be loaded or reached
    │   ├── EmbedderMismatch      the store holds another model's vectors
    │   └── BadVector             a model returned a vector that can't be used
    ├── ModelError            a language model gave no answer that can be used
    │   ├── ModelUnavailable  it can't be reached, is busy, failed or took too long; a retry helps
    │   └── ModelRefused      it refuses: the key, its own name, or the request; a retry doesn't help
    └── MissingExtra          an optional dependency isn't installed (also an ImportError)

This room holds no logic: where an error is raised decides what its message says.
"""

from __future__ import annotations

__all__ = [
    "AmbiguousMessage",
    "BadVector",
    "BudgetTooSmall",
    "EmbedderError",
    "EmbedderMismatch",
    "EmbedderUnavailable",
    "IdConflict",
    "InputError",
    "MissingExtra",
    "MnemicError",
    "ModelError",
    "ModelRefused",
    "ModelUnavailable",
    "StoreBusy",
    "StoreClosed",
    "StoreError",
    "StoreFull",
    "StoreMoved",
    "StoreReadOnly",
    "StoreTooNew",
    "StoreUnreadable",
    "VersionConflict",
]


class MnemicError(Exception):
    """The base of all; `code` is stable, `retryable` tells whether the same call may work later."""

    code = "mnemic"
    retryable = False


class InputError(MnemicError, ValueError):
    """The input can't be taken as it is; nothing was changed."""

    code = "input"


class IdConflict(InputError):
    """The message id is in use in this session for another content; nothing was changed."""

    code = "id_conflict"

    def __init__(self, message: str, message_id: str) -> None:
        super().__init__(message)
        self.message_id = message_id


class AmbiguousMessage(InputError):
    """The message id is in use in several sessions; name the session as well."""

    code = "ambiguous_message"


class VersionConflict(InputError):
    """An instruction has another version by now than the one expected; read it again."""

    code = "version_conflict"


class BudgetTooSmall(InputError):
    """What must stay has more tokens than the budget allows: `needed` is the least that would do."""

    code = "budget_too_small"

    def __init__(self, message: str, needed: int) -> None:
        super().__init__(message)
        self.needed = needed


class StoreError(MnemicError):
    """The database can't do what was asked."""

    code = "store"


class StoreBusy(StoreError):
    """Another process held the write lock longer than we wait; the same call may work later."""

    code = "store_busy"
    retryable = True


class StoreFull(StoreError):
    """The disk is full, or a quota is used up; nothing was changed, and with room it works again."""

    code = "store_full"
    retryable = True


class StoreReadOnly(StoreError):
    """The file or its folder can't be written to."""

    code = "store_read_only"


class StoreMoved(StoreError):
    """The file was moved, removed or replaced while it was open; open it again."""

    code = "store_moved"


class StoreTooNew(StoreError):
    """The database was written by a newer Mnemic; upgrade this one."""

    code = "store_too_new"


class StoreUnreadable(StoreError):
    """The file isn't an SQLite database, is damaged, or belongs to another program."""

    code = "store_unreadable"


class StoreClosed(StoreError):
    """The memory was closed; open it again with `Memory(url)`."""

    code = "store_closed"


class EmbedderError(MnemicError):
    """A text could not be turned into a vector."""

    code = "embedder"


class EmbedderUnavailable(EmbedderError):
    """The embedding model can't be loaded or reached."""

    code = "embedder_unavailable"
    retryable = True


class EmbedderMismatch(EmbedderError):
    """The store holds vectors of another model; use that one, or move over with `mnemic reembed`."""

    code = "embedder_mismatch"


class BadVector(EmbedderError):
    """The embedder returned a vector of a wrong size, or one that isn't finite."""

    code = "bad_vector"


class ModelError(MnemicError):
    """A language model gave no answer that can be used."""

    code = "model"


class ModelUnavailable(ModelError):
    """The language model can't be reached, is busy, failed or took too long; try again later."""

    code = "model_unavailable"
    retryable = True


class ModelRefused(ModelError):
    """The language model refuses: its key, its name or the request can't be taken as they are."""

    code = "model_refused"


class MissingExtra(MnemicError, ImportError):
    """An optional dependency isn't installed; the message names the line that installs it."""

    code = "missing_extra"
