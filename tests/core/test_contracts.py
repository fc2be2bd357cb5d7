"""The contracts that ship: our own parts keep them, and a part that is broken doesn't get past them."""

from __future__ import annotations

import doctest
import hashlib
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from time import sleep
from types import ModuleType
from typing import Any
from unittest import SkipTest

import numpy as np
import pytest
from numpy.typing import NDArray

from mnemic import Embedder, Memory
from mnemic.memory import ScopedMemory
from mnemic.records import DEFAULT_TENANT, Change, Erasure, Recall, Receipt, Scope
from mnemic.settings import Settings
from mnemic.stores.ledger import Ledger
from mnemic.testing import (
    EmbedderContract,
    FailingEmbedder,
    FakeEmbedder,
    MeasuringEmbedder,
    MemoryContract,
    contract,
    failures,
    fakes,
    wire,
)
from mnemic.testing.forgetting import ForgetContract, IsolationContract
from mnemic.testing.opening import Target
from mnemic.testing.remembering import RecallContract, RememberContract
from mnemic.testing.sharing import MovingContract, SharingContract
from tests.fakes import environment

Vectors = NDArray[np.float32]


# --- our own parts keep them ----------------------------------------------------------------------


class TestFakeEmbedder(EmbedderContract):
    def embedder(self) -> Embedder:
        return FakeEmbedder()


class TestMeasuringEmbedder(EmbedderContract):
    def embedder(self) -> Embedder:
        return MeasuringEmbedder()


class TestFailingEmbedder(EmbedderContract):
    """While it is well."""

    def embedder(self) -> Embedder:
        return FailingEmbedder()


def test_a_fakes_vectors_are_the_same_on_every_machine() -> None:
    vectors = FakeEmbedder().embed(["", "I moved to Lisbon, again and again.", "Ünï 漢字 42"])
    digest = hashlib.sha256(vectors.astype("<f4").tobytes()).hexdigest()
    assert digest == "394f8802c235b9c3e48647509fdbc2daf6399f1cbc0e0a6dc29aac6e7f7d344a"


@pytest.mark.parametrize("module", [contract, fakes, wire], ids=lambda module: module.__name__)
def test_the_examples_in_docstrings_are_true(module: ModuleType) -> None:
    done = doctest.testmod(module)
    assert (done.failed, done.attempted > 0) == (0, True)


class InFolder(MemoryContract):
    """Stores in a folder of the test's own."""

    @pytest.fixture(autouse=True)
    def in_folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path
        self.number = 0

    def path(self) -> Path:
        self.number += 1
        return self.folder / f"memory {self.number}.db"


class TestMemoryAtPath(InFolder):
    def target(self) -> Target:
        return self.path()


class TestMemoryAtUrl(InFolder):
    def target(self) -> Target:
        return f"sqlite:///{self.path()}"


# --- broken embedders -----------------------------------------------------------------------------


class Misshapen(FakeEmbedder):
    """A vector too few, where there are several texts."""

    def embed(self, texts: Sequence[str]) -> Vectors:
        return super().embed(texts)[: max(1, len(texts) - 1)]


class Flat(FakeEmbedder):
    """One text's vector without its list."""

    def embed(self, texts: Sequence[str]) -> Vectors:
        return super().embed(texts).squeeze()


class Lists(FakeEmbedder):
    """No array."""

    def embed(self, texts: Sequence[str]) -> Any:
        return super().embed(texts).tolist()


class Boastful(FakeEmbedder):
    """Other dimensions than it says."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = FakeEmbedder("fake", 16)

    def embed(self, texts: Sequence[str]) -> Vectors:
        return self.inner.embed(texts)


class Long(FakeEmbedder):
    """Vectors that aren't of length 1."""

    def embed(self, texts: Sequence[str]) -> Vectors:
        return super().embed(texts) * np.float32(1.5)


class Zero(FakeEmbedder):
    """No direction for a text without words."""

    def embed(self, texts: Sequence[str]) -> Vectors:
        vectors = super().embed(texts)
        for row, text in zip(vectors, texts, strict=True):
            row *= bool(text.strip())
        return vectors


class NotFinite(FakeEmbedder):
    """NaN for a text that is too long."""

    def embed(self, texts: Sequence[str]) -> Vectors:
        vectors = super().embed(texts)
        vectors[[len(text) > 20_000 for text in texts]] = np.nan
        return vectors


class Double(FakeEmbedder):
    """float64."""

    def embed(self, texts: Sequence[str]) -> Any:
        return super().embed(texts).astype(np.float64)


class Constant(FakeEmbedder):
    """The same vector for everything."""

    def embed(self, texts: Sequence[str]) -> Vectors:
        return super().embed(["same"] * len(texts))


class Swapping(FakeEmbedder):
    """The rows of a batch sorted by the length of their texts, as batching by length leaves them."""

    def embed(self, texts: Sequence[str]) -> Vectors:
        return super().embed(sorted(texts, key=len))


class BatchDependent(FakeEmbedder):
    """A little of the batch in each of its vectors, as padding leaves it."""

    def embed(self, texts: Sequence[str]) -> Vectors:
        vectors = super().embed(texts)
        vectors[:, 0] += np.float32(1e-4) * len(texts)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors


class Salted(FakeEmbedder):
    """Python's own hash, which is another in each process."""

    def embed(self, texts: Sequence[str]) -> Vectors:
        salt = hash("salt")
        return FakeEmbedder(f"{self.name}{salt}", self.dimensions).embed(texts)


class Renamed(FakeEmbedder):
    """Another name for each one that is made."""

    made = 0

    def __init__(self) -> None:
        Renamed.made += 1
        super().__init__(f"fake {Renamed.made}")


class Nameless(FakeEmbedder):
    """A blank name."""

    def __init__(self) -> None:
        super().__init__(" ")


class Growing(FakeEmbedder):
    """Dimensions that are known only once it was used."""

    def __init__(self) -> None:
        super().__init__()
        self.dimensions = 0

    def embed(self, texts: Sequence[str]) -> Vectors:
        self.dimensions = 32
        return super().embed(texts)


class Consuming(FakeEmbedder):
    """It eats the list that it is given."""

    def embed(self, texts: Sequence[str]) -> Vectors:
        vectors = super().embed(texts)
        if isinstance(texts, list):
            texts.clear()
        return vectors


class Shared(FakeEmbedder):
    """One buffer for all calls: what one thread writes, another returns."""

    def __init__(self) -> None:
        super().__init__()
        self.buffer: list[str] = []

    def embed(self, texts: Sequence[str]) -> Vectors:
        self.buffer[:] = texts
        sleep(0.001)
        return super().embed(self.buffer)


class Squeamish(FakeEmbedder):
    """It can't take a NUL."""

    def embed(self, texts: Sequence[str]) -> Vectors:
        if any("\x00" in text for text in texts):
            raise ValueError("embedded null character")
        return super().embed(texts)


class Hungry(FakeEmbedder):
    """It can't take an empty list."""

    def embed(self, texts: Sequence[str]) -> Vectors:
        return np.stack([FakeEmbedder.embed(self, [text])[0] for text in texts])


class HalfMeasuring(FakeEmbedder):
    """It measures, but doesn't say how much fits."""

    def token_offsets(self, text: str) -> list[tuple[int, int]]:
        return MeasuringEmbedder().token_offsets(text)


class Truncating(MeasuringEmbedder):
    """It takes fewer words than it says."""

    def embed(self, texts: Sequence[str]) -> Vectors:
        return super().embed([" ".join(text.split()[:8]) for text in texts])


class Backward(MeasuringEmbedder):
    """Its tokens come last first."""

    def token_offsets(self, text: str) -> list[tuple[int, int]]:
        return super().token_offsets(text)[::-1]


class Beyond(MeasuringEmbedder):
    """It counts bytes where characters are due."""

    def token_offsets(self, text: str) -> list[tuple[int, int]]:
        return [(a, b + len(text.encode()) - len(text)) for a, b in super().token_offsets(text)]


class Tokenless(MeasuringEmbedder):
    """It finds nothing to count."""

    def token_offsets(self, text: str) -> list[tuple[int, int]]:
        return []


class Counting(MeasuringEmbedder):
    """It measures a long text otherwise than its pieces."""

    def token_offsets(self, text: str) -> list[tuple[int, int]]:
        every = super().token_offsets(text)
        return every[:: 1 if len(every) < 100 else 3]


SHAPE = "array of shape"
BROKEN_EMBEDDERS: dict[type[FakeEmbedder], dict[str, str]] = {
    Misshapen: {"test_each_text_has_a_unit_vector": SHAPE},
    Flat: {"test_each_text_has_a_unit_vector": SHAPE},
    Lists: {"test_each_text_has_a_unit_vector": "a list", "test_vectors_are_float32": "float32"},
    Boastful: {"test_each_text_has_a_unit_vector": SHAPE, "test_no_texts_have_no_vectors": SHAPE},
    Long: {"test_each_text_has_a_unit_vector": "length 1"},
    Zero: {"test_blank_texts_have_vectors": "length 1"},
    NotFinite: {"test_very_long_texts_have_vectors": "finite"},
    Double: {"test_vectors_are_float32": "float64"},
    Constant: {
        "test_different_texts_have_different_vectors": "different things",
        "test_vectors_come_in_the_order_of_the_texts": "elsewhere in the list",
    },
    Swapping: {"test_vectors_come_in_the_order_of_the_texts": "row n must be"},
    BatchDependent: {"test_a_text_has_one_vector_whatever_its_batch_mates": "to the bit"},
    Salted: {"test_another_process_gets_the_same_vectors": r"hash\(\)"},
    Renamed: {"test_the_name_is_text_and_stays": "stay the same"},
    Nameless: {"test_the_name_is_text_and_stays": "1 to 512 characters"},
    Growing: {"test_dimensions_are_a_number_that_stays": "above 0"},
    Consuming: {"test_the_texts_are_left_as_they_are": "must not change the list"},
    Shared: {"test_many_threads_get_the_vectors_that_one_gets": "many threads"},
    Squeamish: {"test_odd_characters_have_vectors": "embedded null character"},
    Hungry: {"test_no_texts_have_no_vectors": "need at least one array"},
    HalfMeasuring: {"test_what_measures_text_says_how_much_fits": "both max_tokens"},
    Truncating: {"test_a_text_that_fits_is_embedded_whole": "embedded whole"},
    Backward: {"test_token_offsets_lie_in_the_text_in_order": "in order"},
    Beyond: {"test_token_offsets_lie_in_the_text_in_order": "in order"},
    Tokenless: {"test_token_offsets_lie_in_the_text_in_order": "at least one token"},
    Counting: {"test_passages_cut_by_its_offsets_fit": "at most max_tokens"},
}


class OfBroken(EmbedderContract):
    """The contract of whichever embedder is under test."""

    make: Callable[[], FakeEmbedder]
    elsewhere = False

    def embedder(self) -> Embedder:
        return type(self).make()


class OfSalted(EmbedderContract):
    """By a name that another process can import."""

    def embedder(self) -> Embedder:
        return Salted()


def demand_failed(failed: dict[str, str], wanted: dict[str, str]) -> None:
    for name, says in wanted.items():
        assert name in failed
        assert re.search(says, " ".join(failed[name].split())), failed[name]


@pytest.mark.parametrize("broken", BROKEN_EMBEDDERS, ids=lambda broken: broken.__name__)
def test_a_broken_embedder_breaks_its_contract(broken: type[FakeEmbedder]) -> None:
    suite = type("Suite", (OfBroken,), {"make": staticmethod(broken)})
    demand_failed(failures(OfSalted if broken is Salted else suite), BROKEN_EMBEDDERS[broken])


def test_a_server_that_is_nearly_the_same_each_time_may_say_so() -> None:
    made = {"make": staticmethod(BatchDependent)}
    assert failures(type("Suite", (OfBroken,), {**made, "tolerance": 0.01})) == {}
    failed = failures(type("Suite", (OfBroken,), {**made, "tolerance": 1e-6}))
    assert set(failed) == {"test_a_text_has_one_vector_whatever_its_batch_mates"}
    assert "within 1e-06" in failed["test_a_text_has_one_vector_whatever_its_batch_mates"]


def test_a_contract_needs_to_be_told_of_what() -> None:
    assert "define `embedder(self)`" in failures(EmbedderContract)["test_vectors_are_float32"]
    assert "define `target(self)`" in failures(ForgetContract)["test_a_session_is_forgotten_whole"]


SCRIPT = """
from mnemic.testing import EmbedderContract, FakeEmbedder, failures

class Mine(EmbedderContract):
    def embedder(self):
        print("noise")
        return FakeEmbedder(f"fake{hash('salt')}") if SALTED else FakeEmbedder()

print(sorted(failures(Mine)))
"""


@pytest.mark.parametrize("salted", [False, True])
def test_a_contract_runs_in_a_script_that_doesnt_know_pytest(tmp_path: Path, salted: bool) -> None:
    (tmp_path / "mine.py").write_text(f"SALTED = {salted}\n{SCRIPT}", "utf-8")
    command = [sys.executable, "-c", "import mine, sys; assert 'pytest' not in sys.modules"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=100
    )
    assert done.stderr == ""
    wanted = ["test_another_process_gets_the_same_vectors"] if salted else []
    assert done.stdout.splitlines()[-1] == str(wanted)


# --- broken memories ------------------------------------------------------------------------------


class Twisted(Memory):
    """A memory whose users have handles of its own kind."""

    handle: type[ScopedMemory] = ScopedMemory

    def user(self, name: str) -> ScopedMemory:
        return self.handle(self._core, Scope(DEFAULT_TENANT, "user", name))


class Leaking(Memory):
    """All users are one."""

    def user(self, name: str) -> ScopedMemory:
        return super().user("everyone")


class Tenantless(Memory):
    """All tenants are one."""

    def tenant(self, name: str) -> Any:
        return super().tenant(DEFAULT_TENANT)


class Folding(Memory):
    """Names that differ in case and blanks only are one."""

    def user(self, name: str) -> ScopedMemory:
        return super().user(name.casefold().strip())


class Miscounting(Memory):
    """It counts one that isn't there."""

    @property
    def operator(self) -> Any:
        inner = super().operator
        stats = inner.stats()
        counted = [replace(scope, messages=scope.messages + 1) for scope in stats.scopes]
        inner.stats = lambda: replace(stats, scopes=tuple(counted))  # type: ignore[method-assign]
        return inner


class Losing(Twisted):
    class handle(ScopedMemory):
        """The last of a list is lost."""

        def remember(self, said: Any, *, session: str | None = None) -> Receipt:
            return super().remember(said[: max(1, len(said) - 1)], session=session)


class Piecemeal(Twisted):
    class handle(ScopedMemory):
        """A list is kept one by one."""

        def remember(self, said: Any, *, session: str | None = None) -> Receipt:
            items = [said] if isinstance(said, str | dict) else said
            return [super(Piecemeal.handle, self).remember(i, session=session) for i in items][-1]


class Tidying(Twisted):
    class handle(ScopedMemory):
        """What is said is tidied up."""

        def remember(self, said: Any, *, session: str | None = None) -> Receipt:
            tidy = [{**m, "content": " ".join(m["content"].split())} for m in said]
            return super().remember(tidy, session=session)


class Overwriting(Twisted):
    class handle(ScopedMemory):
        """Of two contents of one id the later one stays."""

        def remember(self, said: Any, *, session: str | None = None) -> Receipt:
            for message in said if isinstance(said, list) else [said]:
                if isinstance(message, dict) and "id" in message:
                    self.forget(message_id=message["id"], session=session)
            return super().remember(said, session=session)


class Stale(Twisted):
    """A question that was asked before is answered as it was then."""

    def __init__(self, *args: Any, **given: Any) -> None:
        super().__init__(*args, **given)
        self.answers: dict[Any, Recall] = {}

    def user(self, name: str) -> ScopedMemory:
        handle = super().user(name)
        ask = handle.recall

        def recall(question: str, **narrowed: Any) -> Recall:
            key = (name, question, repr(narrowed))
            if key not in self.answers:
                self.answers[key] = ask(question, **narrowed)
            return self.answers[key]

        handle.recall = recall  # type: ignore[method-assign]
        return handle


class Unnarrowed(Twisted):
    class handle(ScopedMemory):
        """A question finds everything, whatever narrows it, the worst first."""

        def recall(self, question: str, *, limit: int = 10, **narrowed: Any) -> Recall:
            found = super().recall(question, limit=limit)
            return replace(found, hits=found.hits[::-1])


class Pretending(Twisted):
    class handle(ScopedMemory):
        """It says that it forgot."""

        def forget(self, *args: Any, **given: Any) -> Erasure:
            return Erasure("clean", 1, 1)


class Hiding(Memory):
    """It forgets rows, and leaves their bytes."""

    def __init__(self, *args: Any, **given: Any) -> None:
        super().__init__(*args, **given)
        self._core.ledger = Blind(self._core.database)


class Blind(Ledger):
    def truncate_log(self) -> bool:
        return True

    def left_over(self, texts: Sequence[bytes]) -> bool:
        return False


class Overdoing(Twisted):
    class handle(ScopedMemory):
        """It forgets more than it was told to."""

        def forget(self, *args: Any, **given: Any) -> Erasure:
            return self.forget_everything()


class Telling(Twisted):
    class handle(ScopedMemory):
        """Its history tells what was said."""

        def history(self, id: str) -> list[Change]:
            return [replace(change, action="My PIN is 4711") for change in super().history(id)]


class Unpinning(Twisted):
    class handle(ScopedMemory):
        """It says that it pinned."""

        def pin(self, id: str) -> bool:
            return True


class Racing(Twisted):
    class handle(ScopedMemory):
        """Ids are looked up before the write: who comes second at once is lost, as a repeat."""

        lock = threading.Lock()

        def remember(self, said: Any, *, session: str | None = None) -> Receipt:
            if not self.lock.acquire(blocking=False):
                return Receipt((), (), "indexed")
            try:
                return super().remember(said, session=session)
            finally:
                self.lock.release()


class Elsewhere(Memory):
    """Each that is opened has a store to itself."""

    def __init__(self, target: Target, **given: Any) -> None:
        super().__init__(f"{target} {next(_numbers)}", **given)


class Indifferent(Memory):
    """It takes any embedder's vectors for its own."""

    def __init__(self, target: Target, *, embedder: Embedder, **given: Any) -> None:
        plain = FakeEmbedder(dimensions=embedder.dimensions)
        super().__init__(target, embedder=plain, **given)


_numbers = count()

BROKEN_MEMORIES: dict[type[Memory], tuple[type, dict[str, str]]] = {
    Leaking: (IsolationContract, {"test_the_ids_of_another_do_nothing": "must open nothing"}),
    Tenantless: (IsolationContract, {"test_scopes_of_one_name_are_kept_apart": "of its own"}),
    Folding: (IsolationContract, {"test_names_that_look_alike_are_kept_apart": "mixed up"}),
    Miscounting: (RememberContract, {"test_the_counts_are_those_of_what_is_there": "must count"}),
    Losing: (RememberContract, {"test_many_messages_are_kept_in_order": "each of 1,100"}),
    Piecemeal: (RememberContract, {"test_a_list_is_kept_whole_or_not_at_all": "all or nothing"}),
    Tidying: (RememberContract, {"test_what_is_said_is_kept_to_the_letter": "to the letter"}),
    Overwriting: (
        RememberContract,
        {
            "test_an_id_in_use_for_another_content_changes_nothing": "is a conflict",
            "test_the_same_id_and_content_changes_nothing": "a retry is safe",
        },
    ),
    Unpinning: (RememberContract, {"test_a_pin_is_kept_and_written_down": "pinned must be True"}),
    Stale: (RecallContract, {"test_what_was_just_said_is_found_at_once": "must see all"}),
    Unnarrowed: (
        RecallContract,
        {
            "test_a_question_is_narrowed": "narrowed by",
            "test_the_best_answer_comes_first": "comes first",
        },
    ),
    Pretending: (
        ForgetContract,
        {
            "test_a_memory_is_forgotten_by_its_id": "come out by no way",
            "test_what_is_forgotten_stays_so_after_reopening": "may not come back",
            "test_no_byte_of_the_forgotten_is_left_on_disk": "no byte of the text",
        },
    ),
    Hiding: (ForgetContract, {"test_no_byte_of_the_forgotten_is_left_on_disk": "nor in its log"}),
    Overdoing: (ForgetContract, {"test_a_memory_is_forgotten_by_its_id": "takes"}),
    Telling: (ForgetContract, {"test_the_history_of_what_was_forgotten_holds_no_text": "history"}),
    Racing: (SharingContract, {"test_writers_at_once_lose_nothing": "kept once"}),
    Elsewhere: (
        SharingContract,
        {
            "test_a_write_is_seen_by_the_other_at_once": "next call must see",
            "test_an_id_is_in_use_for_both": "the same message again",
        },
    ),
    Indifferent: (
        MovingContract,
        {
            "test_another_embedder_is_refused": "means nothing",
            "test_a_store_moves_to_another_embedder": "must know its new embedder",
        },
    ),
}


def suite_of(theme: type, memory: type[Memory], folder: Path) -> type:
    """A contract whose stores lie in a folder and are opened by a class of memory."""

    def target(self: Any) -> Target:
        return folder / f"{next(_numbers)}.db"

    def opened(self: Any, target: Target, embedder: Embedder | None = None) -> Memory:
        return memory(target, embedder=embedder or FakeEmbedder(), settings=Settings())

    return type("Suite", (theme,), {"target": target, "open": opened})


@pytest.mark.parametrize("broken", BROKEN_MEMORIES, ids=lambda broken: broken.__name__)
def test_a_broken_memory_breaks_its_contract(broken: type[Memory], tmp_path: Path) -> None:
    theme, wanted = BROKEN_MEMORIES[broken]
    demand_failed(failures(suite_of(theme, broken, tmp_path)), wanted)


def test_a_store_that_cant_be_looked_into_is_not_said_to_be_clean(tmp_path: Path) -> None:
    suite = suite_of(ForgetContract, Memory, tmp_path)
    blind = type("Blind", (suite,), {"holds": lambda self, target, piece: False})
    assert failures(blind) == {}
    name = "test_no_byte_of_the_forgotten_is_left_on_disk"
    with pytest.raises(SkipTest, match="can't tell what is gone"):
        getattr(blind(), name)()


def test_a_store_for_one_process_isnt_opened_twice(tmp_path: Path) -> None:
    suite = suite_of(SharingContract, Elsewhere, tmp_path)
    assert failures(type("Alone", (suite,), {"opens_twice": False})) == {}
