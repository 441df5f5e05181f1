"""Runs every bench, prints one table, and writes bench/results.json.

python bench/run.py [PIECE ...]      PIECE: a folder of bench/, such as node
"""

from __future__ import annotations

import json
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
        print(f"# {file.relative_to(BENCH)}", file=sys.stderr)
        done = subprocess.run([sys.executable, str(file)], stdout=subprocess.PIPE, text=True, check=False)
        rows += [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        if done.returncode:
            failed = True
            print(f"{file.relative_to(BENCH)} failed with {done.returncode}", file=sys.stderr)
    show(rows)
    (BENCH / "results.json").write_text(json.dumps(rows, indent=1) + "\n")
    return 1 if failed else 0


def show(rows: list[dict[str, Any]]) -> None:
    """The figures as a table."""
    print(f"{'figure':58} {'ours':>12} {'peer':>12} {'ratio':>8} {'target':>8}  met")
    for row in rows:
        if "skipped" in row:
            print(f"{row['name']:58} skipped: {row['skipped']}")
            continue
        sign = ">=" if row["better"] == "higher" else "<="
        ours, peer = f"{row['ours']:,.2f}", f"{row['peer']:,.2f}"
        met = "yes" if row["met"] else "NO"
        figures = f"{ours:>12} {peer:>12} {row['ratio']:>8.2f} {sign}{row['target']:>6g}"
        print(f"{row['name']:58} {figures}  {met}  ({row['unit']}, {row['peer_name']})")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
