"""Imports millions of bytes of spoilt files: each is taken, or refused with a reason.

What may not happen: an error that isn't ours, a store that is damaged or holds what wasn't reported, an
import that doesn't end. Files that take longest are printed; nothing is asserted of time.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from random import Random

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.core.test_fuzz_import import take  # noqa: E402
from tests.fakes import open_memory  # noqa: E402
from tests.mutations import MAKERS, make_file  # noqa: E402

# One store takes so many files; what they bring into it piles up.
FILES_A_STORE = 40


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bytes", type=int, default=5_000_000, help="of spoilt files, at least")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    done, outcomes, slowest, number = 0, Counter[str](), (0.0, 0), 0
    start = time.perf_counter()
    while done < args.bytes:
        with tempfile.TemporaryDirectory() as folder, open_memory(Path(folder) / "f.db") as memory:
            for _ in range(FILES_A_STORE):
                number += 1
                rng = Random(f"{args.seed}/{number}")
                form = rng.choice(list(MAKERS))
                content = make_file(form, rng)
                file = Path(folder) / "file"
                file.write_bytes(content)
                done += len(content)
                begun = time.perf_counter()
                try:
                    refused = take(memory, file, form)
                    outcomes["taken" if refused is None else f"refused: {refused.code}"] += 1
                except Exception:
                    outcomes["WRONG"] += 1
                    print(f"file {number} of seed {args.seed}, {form}:", file=sys.stderr)
                    traceback.print_exc()
                slowest = max(slowest, (time.perf_counter() - begun, number))
            outcomes["messages kept"] += memory.operator.stats().messages
    seconds = time.perf_counter() - start
    print(f"{number:,} files, {done:,} bytes in {seconds:.0f} s")
    for outcome, count in sorted(outcomes.items()):
        print(f"  {outcome:<24}{count:>8,}")
    print(f"slowest: file {slowest[1]}, {slowest[0]:.2f} s\n")
    figures = {"files": number, "bytes": done, "seconds": round(seconds, 1), "seed": args.seed}
    print(json.dumps({**figures, **outcomes}))
    return 1 if outcomes["WRONG"] else 0


if __name__ == "__main__":
    sys.exit(main())
