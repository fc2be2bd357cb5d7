"""The contract of a whole memory, as tests: for who brings another database, or changes the store."""

from __future__ import annotations

from mnemic.testing.forgetting import ForgetContract, IsolationContract
from mnemic.testing.remembering import RecallContract, RememberContract
from mnemic.testing.sharing import MovingContract, SharingContract

__all__ = ["MemoryContract"]


class MemoryContract(
    RememberContract,
    RecallContract,
    ForgetContract,
    IsolationContract,
    SharingContract,
    MovingContract,
):
    """What people rely on in a memory, whatever it is kept in; a subclass gives `target()`.

    `target()` names a store that is new and empty at every call. Override `open` where it isn't opened by
    `Memory(target)`, and `holds` where the database isn't an SQLite file: it looks for the bytes of what
    was forgotten. Set `opens_twice` to False for a store that one process at a time may open. With
    pytest name the subclass `Test...`; without, see `failures`.
    """
