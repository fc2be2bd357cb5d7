"""The contract of an embedder, as tests: subclass it, give it yours, and run it.

It measures no quality: whether like meanings are near is for `bench/embedder.py` and your own data.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast
from unittest import SkipTest

import numpy as np
from numpy.typing import NDArray

from mnemic.inputs import MAX_ID, read_name
from mnemic.models.embedder import CodesTokens, Embedder, MeasuresText
from mnemic.testing.contract import demand
from mnemic.writing.passages import cut

__all__ = ["EmbedderContract"]

Vectors = NDArray[np.float32]

TEXTS = (
    "I moved to Lisbon last spring.",
    "My daughter plays the violin.",
    "The invoice INV-2031 was paid twice; refund one of the two, please.",
    "Yes.",
    "Não me lembro do nome da rua.",
    "昨日、友達と海へ行きました。",
    "4711",
    "A tram goes up the hill every ten minutes until half past eleven at night. " * 6,
)
MANY = tuple(f"Number {n}: {TEXTS[n % len(TEXTS)]}" for n in range(41))
BLANK = ("", " ", "\n\t")
ODD = (
    "\x00",
    "a\x00b",
    "\x1b[31m\x7f",
    "👩‍👩‍👧 👍🏽",
    "שלום עולם مرحبا",
    "\u202etxet desrever",
    "e\u0301\u0300 \u200b \ufeff \ufffd",
    "[CLS] [SEP] <s> </s> <|endoftext|>",
    "7391" * 150,
)
LONG = ("The harbour was full of boats. " * 4000, "x" * 20_000, "漢字" * 5000)
THREADS = 4

# In another process, with another seed for `hash`: what the same text is there.
_ELSEWHERE = """
import importlib, json, sys
given = json.load(sys.stdin)
sys.path[:] = given["path"]
from mnemic.testing import embedders
embedders._is_elsewhere = True
try:
    found = importlib.import_module(given["module"])
    for name in given["name"].split("."):
        found = getattr(found, name)
except (ImportError, AttributeError) as error:
    print(json.dumps({"missing": str(error)}))
else:
    vectors = found().embedder().embed(given["texts"])
    print(json.dumps({"vectors": vectors.tolist()}))
"""
# Whether this is that other process: a script that runs a contract as it is imported must end there.
_is_elsewhere = False


class _Embeds:
    """What the tests need to know, and how they compare."""

    tolerance: float = 0.0
    elsewhere: bool = True

    def embedder(self) -> Embedder:
        """The embedder to check: a new one or always the same one; closing it is yours."""
        raise NotImplementedError("a contract needs an embedder: define `embedder(self)`")

    def _same(self, one: Vectors, other: Vectors) -> bool:
        if not self.tolerance:
            return one.tobytes() == other.tobytes()
        return one.shape == other.shape and bool(
            np.abs(one - other).max(initial=0.0) <= self.tolerance
        )

    def _vectors_of(self, embedder: Embedder, texts: Sequence[str], what: str) -> Vectors:
        """Embed, and demand one finite unit vector a text."""
        vectors = embedder.embed(texts)
        wanted = (len(texts), embedder.dimensions)
        demand(
            isinstance(vectors, np.ndarray) and vectors.shape == wanted,
            f"embed must return an array of shape (texts, dimensions), here {wanted}, for {what}:"
            f" each row is stored as its text's vector; it returned {_shape(vectors)}",
        )
        norms = np.linalg.norm(vectors.astype(np.float64), axis=1)
        demand(
            np.isfinite(norms).all() and (np.abs(norms - 1.0) <= 1e-3).all(),
            f"every vector must be finite and of length 1, for {what} too: scores are dot products;"
            f" the lengths are {norms[:8]}",
        )
        return vectors


class _Vectors(_Embeds):
    """What holds for every embedder."""

    def test_the_name_is_text_and_stays(self) -> None:
        embedder = self.embedder()
        name: object = embedder.name
        demand(
            isinstance(name, str) and bool(name.strip()) and len(name) <= MAX_ID,
            f"name must be a text of 1 to {MAX_ID} characters: a store keeps it to know whose"
            f" vectors it holds; it is {name!r}",
        )
        read_name(name, "name")
        embedder.embed(TEXTS[:1])
        names = [name, embedder.name, self.embedder().name]
        demand(
            len(set(names)) == 1,
            "name must stay the same, after embedding and for the same model made anew: a store"
            f" refuses an embedder of another name; it was {names}",
        )

    def test_dimensions_are_a_number_that_stays(self) -> None:
        embedder = self.embedder()
        before: object = embedder.dimensions
        demand(
            isinstance(before, int) and not isinstance(before, bool) and before > 0,
            f"dimensions must be a whole number above 0, not {before!r}",
        )
        embedder.embed(TEXTS[:1])
        demand(
            before == embedder.dimensions == self.embedder().dimensions,
            f"dimensions must stay the same: vectors of one store are compared; it was {before}"
            f" and became {embedder.dimensions}",
        )

    def test_each_text_has_a_unit_vector(self) -> None:
        embedder = self.embedder()
        for texts in (TEXTS[:1], TEXTS, MANY):
            self._vectors_of(embedder, texts, f"{len(texts)} texts")

    def test_vectors_are_float32(self) -> None:
        kind = getattr(self.embedder().embed(TEXTS), "dtype", None)
        demand(
            kind == np.float32,
            f"embed must return float32, as vectors are stored; it returned {kind}",
        )

    def test_no_texts_have_no_vectors(self) -> None:
        self._vectors_of(self.embedder(), [], "an empty list")

    def test_blank_texts_have_vectors(self) -> None:
        self._vectors_of(self.embedder(), BLANK, "texts that are empty or blank")

    def test_very_long_texts_have_vectors(self) -> None:
        embedder = self.embedder()
        for text in LONG:
            what = f"{len(text):,} characters such as {text[:8]!r}: embed its beginning"
            self._vectors_of(embedder, [text], what)

    def test_odd_characters_have_vectors(self) -> None:
        embedder = self.embedder()
        for text in ODD:
            self._vectors_of(embedder, [text], ascii(text[:24]))
        self._vectors_of(embedder, ODD, "odd characters in one list")

    def test_the_texts_are_left_as_they_are(self) -> None:
        texts = list(MANY)
        self.embedder().embed(texts)
        demand(texts == list(MANY), "embed must not change the list that it is given")

    def test_different_texts_have_different_vectors(self) -> None:
        vectors = self._vectors_of(self.embedder(), TEXTS, "texts")
        alike = [
            (TEXTS[one][:30], TEXTS[other][:30])
            for one in range(len(TEXTS))
            for other in range(one)
            if self._same(vectors[one], vectors[other])
        ]
        demand(not alike, f"texts that say different things must have different vectors: {alike}")

    def test_vectors_come_in_the_order_of_the_texts(self) -> None:
        embedder = self.embedder()
        together = self._vectors_of(embedder, MANY, f"{len(MANY)} texts")
        alone = np.concatenate([embedder.embed([text]) for text in MANY])
        nearest = np.argmax(alone @ together.T, axis=1).tolist()
        strays = [n for n in range(len(MANY)) if nearest[n] != n]
        demand(
            not strays,
            "row n must be the vector of text n: it is stored for that text; the vectors of the texts"
            f" {strays[:8]}, embedded alone, are found elsewhere in the list's",
        )

    def test_a_text_has_one_vector_whatever_its_batch_mates(self) -> None:
        embedder = self.embedder()
        together = self._vectors_of(embedder, MANY, f"{len(MANY)} texts")
        turned = embedder.embed(MANY[::-1])[::-1]
        again = np.concatenate([embedder.embed(MANY[at : at + 5]) for at in range(0, len(MANY), 5)])
        alone = np.concatenate([embedder.embed([text]) for text in MANY])
        for how, other in (
            ("in another order", turned),
            ("five at a time", again),
            ("alone", alone),
        ):
            unlike = [n for n in range(len(MANY)) if not self._same(together[n], other[n])]
            gap = float(np.abs(together - other).max())
            demand(
                not unlike,
                f"a text must have the same vector, {self._how_same()}, whatever is embedded with it:"
                " a question is embedded alone and compared with texts that came in lists;"
                f" {len(unlike)} of {len(MANY)} differ {how}, by up to {gap:.1e}",
            )

    def test_many_threads_get_the_vectors_that_one_gets(self) -> None:
        embedder = self.embedder()
        parts = [MANY[at : at + 9] for at in range(0, len(MANY), 4)]
        wanted = [embedder.embed(part) for part in parts]
        with ThreadPoolExecutor(THREADS) as pool:
            got = list(pool.map(embedder.embed, parts))
        wrong = [n for n in range(len(parts)) if not self._same(wanted[n], got[n])]
        demand(
            not wrong,
            "many threads must be able to embed at once, and get what one gets: a memory serves any"
            f" number of threads; {len(wrong)} of {len(parts)} calls got other vectors",
        )

    def test_another_process_gets_the_same_vectors(self) -> None:
        if not self.elsewhere:
            raise SkipTest("elsewhere is False: embedder() works in this process only")
        if _is_elsewhere:
            raise SkipTest("this is the other process")
        texts = list(TEXTS)
        there = _embed_elsewhere(type(self), texts)
        here = self.embedder().embed(texts)
        demand(
            self._same(here, there),
            f"another process must get the same vectors, {self._how_same()}, under the same name: a"
            " store outlives its process; is something made with hash(), a random number, or the"
            f" time? They differ by up to {_gap(here, there)}",
        )

    def _how_same(self) -> str:
        return f"within {self.tolerance:g}" if self.tolerance else "to the bit"


class _Measures(_Embeds):
    """What holds for those that tell how much text fits them (`MeasuresText`)."""

    def test_what_measures_text_says_how_much_fits(self) -> None:
        embedder: object = self.embedder()
        has = [hasattr(embedder, name) for name in ("max_tokens", "token_offsets")]
        demand(
            has[0] == has[1],
            "an embedder has both max_tokens and token_offsets, or neither: messages are cut into"
            " passages of so many tokens",
        )
        most: object = self._measuring().max_tokens
        demand(
            isinstance(most, int) and not isinstance(most, bool) and most > 0,
            f"max_tokens must be a whole number above 0, not {most!r}",
        )

    def test_token_offsets_lie_in_the_text_in_order(self) -> None:
        embedder = self._measuring()
        for text in (*TEXTS, *BLANK, *ODD, *LONG):
            offsets = embedder.token_offsets(text)
            last = (0, 0)
            for start, stop in offsets:
                demand(
                    last[0] <= start <= stop <= len(text) and last[1] <= stop,
                    "token_offsets must be characters (start, stop) of the text as it was given, in"
                    " order: passages are cut at them;"
                    f" {text[:24]!a} has {(start, stop)} after {last}",
                )
                last = (start, stop)
        blank = [text for text in ("a", TEXTS[0]) if not embedder.token_offsets(text)]
        demand(not blank, f"a text with words has at least one token: {blank}")

    def test_a_text_that_fits_is_embedded_whole(self) -> None:
        embedder = self._measuring()
        text = " ".join(f"tea{n}" for n in range(embedder.max_tokens))
        offsets = embedder.token_offsets(text)[: embedder.max_tokens]
        text = text[: offsets[-1][1]]
        while len(embedder.token_offsets(text)) > embedder.max_tokens:
            text = text[:-1]
        # A server's noise would hide the last word of many.
        words = text.split(" ")
        dropped = max(1, len(words) // 8) if self.tolerance else 1
        shorter = " ".join(words[:-dropped])
        full, part = cast(Embedder, embedder).embed([text, shorter])
        demand(
            not self._same(full, part),
            f"a text of {len(embedder.token_offsets(text))} tokens must be embedded whole, as"
            f" max_tokens ({embedder.max_tokens}) says that it fits: its last words changed nothing,"
            " so nobody would find them",
        )

    def test_passages_cut_by_its_offsets_fit(self) -> None:
        embedder = self._measuring()
        text = " ".join(MANY * 3)
        sizes = [len(embedder.token_offsets(text[a:b])) for a, b in cut(text, embedder)]
        demand(
            max(sizes) <= embedder.max_tokens,
            f"a passage cut at token_offsets must have at most max_tokens ({embedder.max_tokens})"
            f" tokens: what is over is not embedded; the passages have {sizes[:8]}",
        )

    def _measuring(self) -> MeasuresText:
        embedder: Any = self.embedder()
        if not hasattr(embedder, "token_offsets"):
            raise SkipTest("this embedder doesn't measure text, so there is nothing to hold it to")
        return cast(MeasuresText, embedder)


class _Codes(_Embeds):
    """What holds for one that codes tokens."""

    def test_the_vectors_beside_codes_are_the_same(self) -> None:
        embedder = self._coding()
        texts = [*TEXTS, *BLANK, *ODD]
        vectors, codes = embedder.embed_coded(texts)
        demand(
            self._same(vectors, cast(Embedder, embedder).embed(texts)),
            "embed_coded must return the vectors that embed does: a store knows but one",
        )
        size: object = embedder.token_bytes
        demand(
            isinstance(size, int) and size > 0 and all(len(code) % size == 0 for code in codes),
            f"codes must be token_bytes ({size!r}) bytes a token, one behind the other",
        )
        demand(bool(codes[0]), f"a text with words has at least one code: {texts[0]!r}")

    def test_the_states_of_a_question_fit_the_codes(self) -> None:
        embedder = self._coding()
        for text in TEXTS:
            vector, states = embedder.embed_states(text)
            (plain,), (codes,) = embedder.embed_coded([text])
            demand(
                self._same(vector, plain), f"a text's vector is the same as a question: {text!r}"
            )
            wanted = (len(codes) // embedder.token_bytes, 8 * embedder.token_bytes)
            demand(
                states.shape == wanted and bool(np.isfinite(states).all()),
                f"states must be finite and fit the codes, here {wanted}; they are {_shape(states)}",
            )

    def _coding(self) -> CodesTokens:
        embedder: Any = self.embedder()
        if not hasattr(embedder, "token_bytes"):
            raise SkipTest("this embedder doesn't code tokens, so there is nothing to hold it to")
        return cast(CodesTokens, embedder)


class EmbedderContract(_Vectors, _Measures, _Codes):
    """What a memory relies on in every embedder; a subclass gives `embedder()`.

    With pytest name the subclass `Test...`; without, see `failures`. `tolerance` is how far a text's vector
    may be, in any component, from the same text's in another call: 0, to the bit, unless a server
    can't promise that. Set `elsewhere` to False where `embedder()` needs what only this process has, such
    as a server in it; else a second process makes the subclass, calls `embedder()`, and compares.
    """


def _embed_elsewhere(suite: type, texts: list[str]) -> Vectors:
    given = {
        "path": [path for path in sys.path if isinstance(path, str)],
        "module": suite.__module__,
        "name": suite.__qualname__,
        "texts": texts,
    }
    # Isolated, so that no setting fixes the seed of `hash`.
    command = [sys.executable, "-I", "-c", _ELSEWHERE]
    done = subprocess.run(command, input=json.dumps(given), capture_output=True, text=True)
    demand(
        done.returncode == 0,
        "another process must be able to make the embedder and to embed (set elsewhere = False where"
        f" it can't); it said:\n{done.stderr[-2000:]}",
    )
    said = json.loads(done.stdout.splitlines()[-1])
    if "missing" in said:
        raise SkipTest(f"another process can't import {suite.__qualname__}: {said['missing']}")
    return np.array(said["vectors"], dtype=np.float32)


def _shape(vectors: object) -> str:
    shape = getattr(vectors, "shape", None)
    return f"a {type(vectors).__name__}" if shape is None else f"an array of shape {shape}"


def _gap(one: Vectors, other: Vectors) -> str:
    if one.shape != other.shape:
        return f"shapes {one.shape} and {other.shape}"
    return f"{float(np.abs(one - other).max(initial=0.0)):.1e}"
