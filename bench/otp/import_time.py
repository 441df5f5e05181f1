"""The processor time that `import packetflow.otp` takes beside gevent, with all that servers and supervisors need.

Each time in a Python of its own.
python bench/otp/import_time.py
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.figures import figure

ROUNDS = 15
LIMIT = 60.0  # milliseconds that were asked for
CODE = """
import sys, time
import gevent, gevent.event, gevent.monkey
begun = time.process_time()
import packetflow.otp
packetflow.otp.GenServer, packetflow.otp.Supervisor, packetflow.otp.System, packetflow.otp.call
print((time.process_time() - begun) * 1000)
"""


def main() -> None:
    took = []
    for _ in range(ROUNDS):
        done = subprocess.run([sys.executable, "-c", CODE], stdout=subprocess.PIPE, text=True, check=True)
        took.append(float(done.stdout))
    figure(
        "otp: imported, gevent excluded",
        statistics.median(took),
        LIMIT,
        "the limit asked for",
        "ms",
        1.0,
        "lower",
    )


if __name__ == "__main__":
    main()
