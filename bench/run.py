"""Runs every bench, prints one table, and writes bench/results.json.

python bench/run.py [PIECE ...]      PIECE: a folder of bench/, such as node
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

BENCH = Path(__file__).resolve().parent


def main(pieces: list[str]) -> int:
    rows: list[dict[str, Any]] = []
    failed = False
    for file in sorted(BENCH.glob("*/*.py")):
        if file.name.startswith("_") or (pieces and file.parent.name not in pieces):
            continue
        for form in forms_of(file.parent.name):
            print(f"# {file.relative_to(BENCH)} {form}", file=sys.stderr)
            done = subprocess.run(
                [sys.executable, str(file)],
                env={**os.environ, "BENCH_FORM": form},
                stdout=subprocess.PIPE,
                text=True,
                check=False,
            )
            found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
            rows += [{"piece": file.parent.name, **row} for row in found]
            if done.returncode:
                failed = True
                print(f"{file.relative_to(BENCH)} failed with {done.returncode}", file=sys.stderr)
    show(rows)
    results = BENCH / "results.json"
    others = [row for row in json.loads(results.read_text()) if pieces and row["piece"] not in pieces]
    results.write_text(json.dumps(others + rows, indent=1) + "\n")
    return 1 if failed else 0


def forms_of(piece: str) -> list[str]:
    """The runtime's own benches run in both forms of its core, where the compiled one was made (`make bench` does)."""
    if piece == "otp" and (BENCH.parent / "build" / "compiled" / ".made").exists():
        return ["pure", "compiled"]
    return ["pure"]


def show(rows: list[dict[str, Any]]) -> None:
    """The figures as a table."""
    print(f"{'figure':58} {'ours':>12} {'peer':>12} {'ratio':>8} {'target':>8}  met")
    for row in rows:
        if "skipped" in row:
            print(f"{row['name']:58} skipped: {row['skipped']}")
            continue
        sign = ">=" if row["better"] == "higher" else "<="
        ours, peer = f"{row['ours']:,.2f}", f"{row['peer']:,.2f}"
        met = {True: "yes", False: "NO", None: "-"}[row["met"]]
        target = "-" if row["target"] is None else f"{sign}{row['target']:>6g}"
        figures = f"{ours:>12} {peer:>12} {row['ratio']:>8.2f} {target:>8}"
        print(f"{row['name']:58} {figures}  {met}  ({row['unit']}, {row['peer_name']})")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
