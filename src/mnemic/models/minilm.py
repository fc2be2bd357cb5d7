"""The bundled embedder: all-MiniLM-L6-v2 as int8 ONNX, on the CPU, with no download and no key.

It doesn't cut texts into passages (the writer does) and doesn't remember vectors (the store does).
How the weights were made and what was measured is in `weights/all-MiniLM-L6-v2/PROVENANCE.md`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from mnemic.errors import EmbedderUnavailable
from mnemic.forking import renew_in_child
from mnemic.models.terms import stop_words
from mnemic.settings import silence_libraries

__all__ = ["MiniLM"]

_NAME = "all-MiniLM-L6-v2/int8-1"
_DIMENSIONS = 384
_MAX_TOKENS = 256
_FIRST, _LAST = 101, 102  # [CLS] and [SEP], added around the tokens of the text
_SLICE = 16  # texts a thread takes at once
_UNREADABLE = re.compile("[\x00\ud800-\udfff]")  # NUL, and halves of surrogate pairs
_CODED = 192  # dimensions of a token's state whose signs make its code
_REINSTALL = "Reinstall the package `mnemic`, or configure another embedder."


class _Encoding(Protocol):
    ids: list[int]
    offsets: list[tuple[int, int]]


@dataclass(frozen=True)
class _Loaded:
    """What is in memory once the model was read; both callables may be used by many threads."""

    encode: Callable[[str], _Encoding]
    # (1, tokens) -> the vector (dimensions,) and, where asked for, the tokens' states (tokens, dimensions)
    infer: Callable[[NDArray[np.int64], bool], list[NDArray[np.float32]]]
    light: NDArray[np.bool_]  # by token: whether it means little by itself
    pool: ThreadPoolExecutor


class MiniLM:
    """all-MiniLM-L6-v2: 384 dimensions, mean-pooled, unit length; English.

    Each text is one inference on one core, so a text's vector doesn't depend, to the bit, on what
    is embedded with it or on the number of threads. Parallelism is across texts: a list is
    shared out to `threads` threads (ONNX Runtime lets go of the GIL), a single text is
    embedded on the caller's. No thread spins while idle.

    Making one is cheap: the model is read, and checked against its checksums, at the first
    call, once. Any number of threads may use one instance; after `os.fork` the child reads the
    model again. `threads` defaults to the number of cores, at most 4. `folder` holds the model's
    files and defaults to the ones in the package.
    """

    name: str = _NAME
    dimensions: int = _DIMENSIONS
    max_tokens: int = _MAX_TOKENS
    token_bytes: int = _CODED // 8

    def __init__(self, threads: int | None = None, *, folder: Traversable | None = None) -> None:
        if threads is not None and threads < 1:
            raise ValueError(f"threads must be at least 1, not {threads}")
        self._threads = threads or min(4, os.cpu_count() or 1)
        self._folder = folder
        self._loaded: _Loaded | None = None
        self._lock = threading.Lock()
        renew_in_child(self)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one unit vector a text: shape `(len(texts), 384)`, float32, in order.

        Of a text over `max_tokens` tokens only the first `max_tokens` count. NUL and lone
        surrogates are read as spaces. Memory beyond the result doesn't grow with the list.
        Raises `EmbedderUnavailable` if the model can't be loaded.
        """
        vectors = np.empty((len(texts), _DIMENSIONS), dtype=np.float32)

        def one(loaded: _Loaded, row: int) -> None:
            (vectors[row],) = loaded.infer(_ids_of(loaded, texts[row]), False)

        self._each(len(texts), one)
        return vectors

    def embed_coded(self, texts: Sequence[str]) -> tuple[NDArray[np.float32], list[bytes]]:
        """Return what `embed` does, and the codes of each text's tokens that mean something by themselves.

        A code is the signs of the first half of the token's last state: 24 bytes. Those of stop words and
        punctuation are left out, unless there is nothing else.
        """
        vectors = np.empty((len(texts), _DIMENSIONS), dtype=np.float32)
        codes = [b""] * len(texts)

        def one(loaded: _Loaded, row: int) -> None:
            vectors[row], states = _states_of(loaded, texts[row])
            codes[row] = np.packbits(states > 0, axis=1).tobytes()

        self._each(len(texts), one)
        return vectors, codes

    def embed_states(self, text: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return a question's vector, and the states behind its codes: shape `(tokens, 192)`."""
        return _states_of(self._load(), text)

    def _each(self, count: int, one: Callable[[_Loaded, int], None]) -> None:
        """Do it for each text, shared out to the threads."""
        if not count:
            return
        loaded = self._load()

        def some(start: int) -> None:
            for row in range(start, min(start + _SLICE, count)):
                one(loaded, row)

        starts = range(0, count, _SLICE)
        if len(starts) == 1 or self._threads == 1:
            for start in starts:
                some(start)
        else:
            for _ in loaded.pool.map(some, starts):
                pass  # an error in a thread is raised here

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return how many tokens each text has: none truncated, [CLS] and [SEP] not counted.

        A text of at most `max_tokens` by this count is embedded whole.
        """
        if not len(texts):
            return []
        encode = self._load().encode
        return [len(encode(_readable(text)).ids) for text in texts]

    def token_offsets(self, text: str) -> list[tuple[int, int]]:
        """Return the characters `(start, stop)` of each token, as `count_tokens` counts them.

        They are indices into `text` as it was given, in order; what lies between is no token.
        """
        return list(self._load().encode(_readable(text)).offsets)

    def checksums(self) -> dict[str, str]:
        """The SHA-256 of each of the model's files, as its manifest has them; `load` holds them to it."""
        return _read_checksums(self._folder or _bundled())

    def close(self) -> None:
        """Let go of the model and its threads; a later call loads it again.

        Running calls are finished first, but no other thread may start one meanwhile.
        """
        with self._lock:
            loaded, self._loaded = self._loaded, None
        if loaded is not None:
            loaded.pool.shutdown(wait=True)

    def _load(self) -> _Loaded:
        loaded = self._loaded
        if loaded is None:
            with self._lock:
                loaded = self._loaded
                if loaded is None:
                    loaded = self._loaded = _read(self._folder or _bundled(), self._threads)
        return loaded

    def renew(self) -> None:
        """Forget, in a child process, what can't cross a fork: locks, threads and the session."""
        self._lock = threading.Lock()
        self._loaded = None


def _readable(text: str) -> str:
    r"""Replace, one character by one, what a tokenizer can't take.

    >>> _readable("a\x00b")
    'a b'
    """
    return _UNREADABLE.sub(" ", text)


def _ids_of(loaded: _Loaded, text: str) -> NDArray[np.int64]:
    tokens = loaded.encode(_readable(text)).ids[:_MAX_TOKENS]
    return np.array([[_FIRST, *tokens, _LAST]], dtype=np.int64)


def _states_of(loaded: _Loaded, text: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A text's vector, and the states of its tokens, those left out that mean little by themselves."""
    ids = _ids_of(loaded, text)
    vector, states = loaded.infer(ids, True)
    kept = ~loaded.light[ids[0, 1:-1]]
    return vector, states[1:-1][kept if kept.any() else slice(None), :_CODED]


def _bundled() -> Traversable:
    return files("mnemic.models").joinpath("weights", "all-MiniLM-L6-v2")


def _read(folder: Traversable, threads: int) -> _Loaded:
    """Read, check and open the model's files; raise `EmbedderUnavailable` if that can't be."""
    sums = _read_checksums(folder)
    model = _read_checked(folder, "model.onnx", sums)
    tokenizer = _read_checked(folder, "tokenizer.json", sums)
    try:
        (encode, light), infer = _open_tokenizer(tokenizer), _open_session(model)
    except ImportError as error:
        raise EmbedderUnavailable(f"The bundled embedder needs {error.name}: {error}") from error
    pool = ThreadPoolExecutor(threads, thread_name_prefix="mnemic-minilm")
    return _Loaded(encode, infer, light, pool)


def _read_checksums(folder: Traversable) -> dict[str, str]:
    try:
        manifest = json.loads(folder.joinpath("manifest.json").read_text(encoding="utf-8"))
        name, sums = (
            manifest["name"],
            {str(k): str(v) for k, v in manifest["sha256"].items()},
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise EmbedderUnavailable(
            f"The embedder's manifest in {folder} can't be read ({error}). {_REINSTALL}"
        ) from error
    if name != _NAME:
        raise EmbedderUnavailable(f"{folder} holds {name!r} where {_NAME!r} is due. {_REINSTALL}")
    return sums


def _read_checked(folder: Traversable, name: str, sums: dict[str, str]) -> bytes:
    try:
        content = folder.joinpath(name).read_bytes()
    except OSError as error:
        raise EmbedderUnavailable(
            f"The embedder's file {name} can't be read from {folder} ({error}). {_REINSTALL}"
        ) from error
    if hashlib.sha256(content).hexdigest() != sums.get(name):
        raise EmbedderUnavailable(f"The embedder's {name} in {folder} was altered. {_REINSTALL}")
    return content


def _open_tokenizer(
    content: bytes,
) -> tuple[Callable[[str], _Encoding], NDArray[np.bool_]]:
    """Return what turns a text into tokens, and which of these are stop words or hold no letter or digit.

    "[SEP]" and the like in a text are plain text.
    """
    from tokenizers import Tokenizer

    tokenizer: Any = Tokenizer.from_str(content.decode())
    tokenizer.encode_special_tokens = True

    def encode(text: str) -> _Encoding:
        return cast(_Encoding, tokenizer.encode(text, add_special_tokens=False))

    light = np.zeros(tokenizer.get_vocab_size(), dtype=np.bool_)
    for token, number in tokenizer.get_vocab().items():
        light[number] = token in stop_words() or not any(map(str.isalnum, token))
    return encode, light


def _open_session(
    content: bytes,
) -> Callable[[NDArray[np.int64], bool], list[NDArray[np.float32]]]:
    """Return what computes one text's vector, and its tokens' states where they are asked for."""
    silence_libraries()
    runtime: Any = import_module("onnxruntime")  # it has no type stubs
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_mem_pattern = False  # it would keep a plan for each length of text
    options.log_severity_level = 3  # errors only
    session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def infer(ids: NDArray[np.int64], tokens: bool) -> list[NDArray[np.float32]]:
        outputs = ["embedding", "tokens_in_context"] if tokens else ["embedding"]
        return [values[0] for values in session.run(outputs, {"input_ids": ids})]

    return infer
