"""Fit how recall ranks memories and how likely each is to answer; write `retrieval/fitted.json`.

    python scripts/fit_ranking.py --longmemeval longmemeval_s_dev100.jsonl.gz [--write]

It is fitted on the labelled conversations that ship with the package (CC BY 4.0) and on LongMemEval's
development part (MIT), and on nothing else. Features are the library's own (`retrieval/features.py`), over
stores filled by `remember`. The ranking maximises the likelihood that the evidence of a question is drawn
from its candidates (a softmax over them). The probability is two logistic regressions: whether anything in
a store answers, over questions in the right stores and in those of other people, and which candidates do,
over those of the right stores. Stores of a few messages and sentences asked for as they stand are among
both. Figures that are printed are of conversations that were left out of the fit (tenths, by conversation).
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnemic import Memory
from mnemic.evaluation.asking import fill
from mnemic.evaluation.datasets import Conversation, Question, read_data, shipped
from mnemic.evaluation.measures import sentences
from mnemic.evaluation.vectors import KeptVectors
from mnemic.memory import ScopedMemory
from mnemic.models.embedder import embed_question
from mnemic.models.minilm import MiniLM
from mnemic.retrieval.clues import subject_of
from mnemic.retrieval.features import FEATURES
from mnemic.retrieval.ranking import (
    ANSWERS,
    ANYTHING,
    Seen,
    best_first,
    see,
    signals_of_each,
    signals_of_scope,
)
from mnemic.retrieval.recall import Question as Asked
from mnemic.retrieval.recall import candidates, score
from mnemic.retrieval.timewords import find_windows
from mnemic.stores.rows import asked_at

OUT = Path(__file__).parents[1] / "src/mnemic/retrieval/fitted.json"
RIDGE = 60.0  # of the ranking's weights: flat from 30 to 120
RIDGE_SIGNALS = 3.0
GROUP = 400.0  # of a source's questions in right stores, and of those in wrong ones
# What the weights are pulled towards: what a person would set where the data say little, since few
# questions name a time. The others are pulled towards 0.
PRIOR = {
    "meaning": 0.6,
    "words": 0.6,
    "speaker named": 1.0,
    "assistant's, asked for": 1.0,
    "in the time named": 6.0,
}
FOLDS = 10
WRONG = 40  # questions about others that are asked in each store
SMALL = 2  # stores of a few messages around a question's evidence
SMALL_SHARE = 0.05  # what such a question counts
QUOTES = 6  # for so many questions, a sentence of the conversation is asked for as it stands
SMALL_TOP = 30  # candidates of one question that the probability is fitted on

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Example:
    """One question in one store: its candidates."""

    conversation: str
    source: str
    question: Question
    seen: Seen
    plain: Seen
    sums: Floats
    labels: NDArray[np.bool_]
    ids: tuple[tuple[str, ...], ...]
    right: bool
    whole: bool

    @property
    def ranks(self) -> bool:
        """Whether it can teach the order."""
        return self.right and self.question.counts and bool(self.labels.any())


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--longmemeval", type=Path, help="its development part")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache/mnemic")
    parser.add_argument("--write", action="store_true", help=f"write {OUT.name}")
    args = parser.parse_args()
    sources = {"own": list(shipped())}
    if args.longmemeval:
        sources["longmemeval"] = list(read_data(args.longmemeval, "longmemeval"))
    with ProcessPoolExecutor(len(sources)) as pool:
        parts = [pool.submit(collect, name, talks, args.cache) for name, talks in sources.items()]
        examples = [example for part in parts for example in part.result()]
    print(f"{len(examples)} questions in stores, {sum(e.ranks for e in examples)} with evidence")
    fitted: dict[str, Any] = {
        "fitted on": {name: sum(len(t.questions) for t in talks) for name, talks in sources.items()}
    }
    for name, some in (
        ("coded", examples),
        ("plain", [replace(e, seen=e.plain) for e in examples]),
    ):
        print(f"{name}:")
        left_out = cross_validated(some)
        show(some, left_out)
        fitted[name] = {
            "ranking": fit_ranking(some).as_json(),
            "anything": fit_anything(some, left_out),
            "answers": fit_answers(some, left_out),
        }
    if args.write:
        OUT.write_text(json.dumps(fitted, indent=1) + "\n", "utf-8")
        print(f"wrote {OUT}")
    return 0


def collect(source: str, talks: Sequence[Conversation], cache: Path) -> list[Example]:
    """Fill stores and look at the candidates of every question."""
    return list(iter_examples(source, talks, cache))


def iter_examples(source: str, talks: Sequence[Conversation], cache: Path) -> Iterator[Example]:
    chance = random.Random(0)
    embedder = KeptVectors(MiniLM(), cache)
    with (
        tempfile.TemporaryDirectory() as folder,
        Memory(Path(folder) / "fit.db", embedder=embedder) as memory,
    ):
        for number, talk in enumerate(talks, 1):
            if sys.stderr.isatty():
                print(f"\r{source}: {number} of {len(talks)}", end="", file=sys.stderr)
            handle = store_of(memory, talk.name, talk.messages)
            alike = [t for t in talks if t is not talk and t.kind == talk.kind]
            others = [replace(q, evidence=()) for t in alike for q in t.questions if q.counts]
            for question in talk.questions:
                yield look_at(handle, source, talk.name, question)
                for few in range(SMALL if question.counts else 0):
                    some = small(talk, question, chance)
                    store = store_of(memory, f"{talk.name}/{question.id}/{few}", some)
                    example = look_at(store, source, talk.name, question)
                    yield replace(example, whole=False)
                    wrong = look_at(store, source, talk.name, chance.choice(others))
                    yield replace(wrong, whole=False, right=False)
            for question in quotes(talk, chance):
                yield replace(look_at(handle, source, talk.name, question), whole=False)
            for question in chance.sample(others, min(WRONG, len(others))):
                yield replace(look_at(handle, source, talk.name, question), right=False)


def store_of(memory: Memory, name: str, messages: Sequence[Any]) -> ScopedMemory:
    handle = memory.user(name)
    fill(handle, messages)
    return handle


def small(talk: Conversation, question: Question, chance: random.Random) -> list[Any]:
    """From a message or two to a few dozen: stretches around the evidence."""
    reach = chance.choice((0, 0, 1, 3, 8))
    at = [n for n, m in enumerate(talk.messages) if m["id"] in question.evidence]
    kept = sorted(
        {k for n in at for k in range(max(0, n - reach), min(len(talk.messages), n + reach + 1))}
    )
    return [talk.messages[k] for k in kept]


def quotes(talk: Conversation, chance: random.Random) -> list[Question]:
    """Sentences of a conversation as questions: who repeats what was said means just that."""
    said = [(m, part) for m in talk.messages for part in sentences(str(m["content"]))]
    said = [(m, part) for m, part in said if len(part.split()) >= 4]
    picked = chance.sample(said, min(len(said), -(-len(talk.questions) // QUOTES)))
    return [
        Question(
            id=f"quote {n}", text=part, at=None, answer=part, category="quote", evidence=(m["id"],)
        )
        for n, (m, part) in enumerate(picked)
    ]


def look_at(handle: ScopedMemory, source: str, talk: str, question: Question) -> Example:
    core = handle._core
    reader = core.reader()
    assert reader is not None
    index = reader.indexes.current(handle.scope, reader.known)
    vector, states = embed_question(core.embedder, subject_of(question.text))
    windows = find_windows(question.text, asked_at(question.at, index.stand.settings))
    scored = score(index, question.text, vector, windows)
    rows = candidates(scored, np.ones(len(index), np.bool_), Asked(question.text))
    tokens = reader.meet(handle.scope, index, rows, states)
    records = core.store.find_records(handle.scope, [index.id_of(int(row)) for row in rows])
    ids = tuple(records[index.id_of(int(row))].message_ids for row in rows)
    evidence = set(question.evidence)
    return Example(
        conversation=talk,
        source=source,
        question=question,
        seen=see(index, scored, rows, tokens),
        plain=see(index, scored, rows, None),
        sums=scored.total[rows].astype(np.float64),
        labels=np.array([bool(evidence & set(some)) for some in ids]),
        ids=ids,
        right=True,
        whole=True,
    )


@dataclass(frozen=True, slots=True)
class Model:
    """Weights of the features: shared, and what the kind of conversation adds."""

    shared: Floats
    kind: Floats

    def scores(self, example: Example) -> Floats:
        given: Floats = example.seen.features @ (self.shared + example.seen.kind * self.kind)
        return given

    def as_json(self) -> dict[str, Any]:
        return {"shared": named(FEATURES, self.shared), "kind": named(FEATURES, self.kind)}


def fit_ranking(examples: Sequence[Example]) -> Model:
    """Newton's method on the softmax over each question's candidates, with a ridge."""
    used = [e for e in examples if e.ranks]
    everything = np.concatenate([e.seen.features for e in used if e.whole]).astype(np.float64)
    middle, spread = everything.mean(axis=0), everything.std(axis=0) + 1e-6
    tables = []
    for e in used:
        x = (e.seen.features - middle) / spread
        tables.append(np.concatenate((x, x * e.seen.kind), axis=1))
    targets = [e.labels / e.labels.sum() for e in used]
    share = np.array([1.0 if e.whole else SMALL_SHARE for e in used])

    def bent(w: Floats) -> tuple[float, Floats, Floats]:
        away = w - prior
        loss: float = RIDGE / 2 * float(away @ away)
        slope: Floats = RIDGE * away
        bend: Floats = RIDGE * np.eye(len(w))
        for x, y, weight in zip(tables, targets, share, strict=True):
            p = softmax(x @ w)
            mean = p @ x
            loss -= weight * float(y @ np.log(p + 1e-300))
            slope = slope + weight * (mean - y @ x)
            bend = bend + weight * ((x.T * p) @ x - np.outer(mean, mean))
        return loss, slope, bend

    prior = np.zeros(2 * len(FEATURES))
    for at, name in enumerate(FEATURES):
        prior[at] = PRIOR.get(name, 0.0) * spread[at]
    w = newton(bent, len(prior))
    half = len(FEATURES)
    return Model(w[:half] / spread, w[half:] / spread)


def newton(bent: Callable[[Floats], tuple[float, Floats, Floats]], size: int) -> Floats:
    """Minimise a convex function that is given with its slope and its second derivative."""
    w = np.zeros(size)
    state = bent(w)
    for _ in range(50):
        step = np.linalg.solve(state[2], state[1])
        for _ in range(20):
            tried = bent(w - step)
            if tried[0] <= state[0]:
                break
            step = step / 2
        w, gained, state = w - step, state[0] - tried[0], tried
        if gained < 1e-7 * abs(state[0]):
            break
    return w


def softmax(z: Floats) -> Floats:
    grown = np.exp(z - z.max())
    shares: Floats = grown / grown.sum()
    return shares


def cross_validated(examples: Sequence[Example]) -> dict[int, Floats]:
    """Scores of each example by a model that has not seen its conversation."""
    names = sorted({e.conversation for e in examples})
    random.Random(1).shuffle(names)
    scores: dict[int, Floats] = {}
    for fold in range(FOLDS):
        left = set(names[fold::FOLDS])
        model = fit_ranking([e for e in examples if e.conversation not in left])
        scores |= {id(e): model.scores(e) for e in examples if e.conversation in left}
    return scores


def fit_anything(examples: Sequence[Example], scores: dict[int, Floats]) -> dict[str, Any]:
    """Whether anything in a store answers: one row a question.

    Each source weighs as much as the other, and its right stores as much as its wrong ones.
    """
    used = [e for e in examples if not e.right or e.ranks]
    rows = [signals_of_scope(*ordered(e, scores)) for e in used]
    share = np.array([1.0 if e.whole else SMALL_SHARE for e in used])
    groups = np.array([f"{e.source} {e.right}" for e in used])
    for group in set(groups):
        share[groups == group] *= GROUP / share[groups == group].sum()
    labels = np.array([e.right for e in used])
    return fit_odds(np.array(rows), labels, share, np.array([e.seen.kind for e in used]), ANYTHING)


def fit_answers(examples: Sequence[Example], scores: dict[int, Floats]) -> dict[str, Any]:
    """Which of the first candidates of the right stores answer."""
    tables, labels, share, kinds = [], [], [], []
    for example in examples:
        if not example.ranks:
            continue
        seen, ranked = ordered(example, scores)
        table = signals_of_each(seen, ranked)[:SMALL_TOP]
        tables.append(table)
        labels.append(np.isin(seen.rows, example.seen.rows[example.labels])[:SMALL_TOP])
        share.append(np.full(len(table), 1.0 if example.whole else SMALL_SHARE))
        kinds.append(np.full(len(table), example.seen.kind))
    return fit_odds(
        np.concatenate(tables),
        np.concatenate(labels),
        np.concatenate(share),
        np.concatenate(kinds),
        ANSWERS,
    )


def ordered(example: Example, scores: dict[int, Floats]) -> tuple[Seen, NDArray[np.float32]]:
    """The candidates, best first, and their scores."""
    own = scores[id(example)].astype(np.float32)
    order = best_first(example.seen.rows, own)
    return example.seen.ordered(order), own[order]


def fit_odds(
    rows: NDArray[Any],
    labels: NDArray[np.bool_],
    share: Floats,
    kinds: Floats,
    names: Sequence[str],
) -> dict[str, Any]:
    """Logistic regression: shared weights, what the kind adds, and the bias."""
    x, y, kind = rows.astype(np.float64), labels.astype(np.float64), kinds[:, None]
    middle, spread = x.mean(axis=0), x.std(axis=0) + 1e-6
    x = (x - middle) / spread
    x = np.concatenate((x, x * kind, np.ones((len(x), 1))), axis=1)
    ridge = RIDGE_SIGNALS * np.eye(x.shape[1])
    ridge[-1, -1] = 0.0

    def bent(w: Floats) -> tuple[float, Floats, Floats]:
        z = x @ w
        p = 1 / (1 + np.exp(-np.clip(z, -30, 30)))
        loss = float((share * (np.logaddexp(0, z) - y * z)).sum()) + float(w @ ridge @ w) / 2
        bend = (x.T * (share * p * (1 - p))) @ x + ridge
        return loss, x.T @ (share * (p - y)) + ridge @ w, bend

    w = newton(bent, x.shape[1])
    shared, kinds_own = w[: len(names)] / spread, w[len(names) : -1] / spread
    bias = float(w[-1] - shared @ middle)
    # The kind itself is a signal: what centring takes off by kind is put there.
    shared[names.index("assistant")] -= kinds_own @ middle
    return {
        "shared": named(names, shared),
        "kind": named(names, kinds_own),
        "bias": round(bias, 5),
    }


def show(examples: Sequence[Example], scores: dict[int, Floats]) -> None:
    """Evidence recall of conversations that were left out."""
    for source in sorted({e.source for e in examples}):
        for kind in ("people", "assistant"):
            some = [
                e
                for e in examples
                if e.source == source
                and e.right
                and e.whole
                and e.question.counts
                and (e.seen.kind < 0) == (kind == "people")
            ]
            if some:
                plain = [recall_at(e, e.sums, 10) for e in some]
                fitted = [recall_at(e, scores[id(e)], 10) for e in some]
                print(
                    f"{source}, {kind}: {len(some)} questions, R@10 plain sum"
                    f" {np.mean(plain):.3f}, fitted (left out) {np.mean(fitted):.3f}"
                )


def recall_at(example: Example, scores: Floats, k: int) -> float:
    order = best_first(example.seen.rows, scores)
    ids = list(dict.fromkeys(i for at in order for i in example.ids[at]))[:k]
    evidence = set(example.question.evidence)
    return len(evidence & set(ids)) / len(evidence)


def named(names: Any, values: Floats) -> dict[str, float]:
    return {name: round(float(v), 5) for name, v in zip(names, values, strict=True)}


if __name__ == "__main__":
    sys.exit(main())
