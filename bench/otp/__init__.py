"""Benches of the supervision runtime; BENCH_FORM=compiled takes its core from build/compiled, as a wheel has it."""

import os
import sys
from pathlib import Path

if os.environ.get("BENCH_FORM") == "compiled":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "build" / "compiled"))
    import packetflow.otp  # noqa: F401 - now, before one of these files puts the checkout first again
