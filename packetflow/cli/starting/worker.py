"""What `start --workers` runs in each worker process. Importing this patches the standard library, as `start` itself does."""

from gevent import monkey

monkey.patch_all()

import os  # noqa: E402

from packetflow.node.worker import serve as serve_node  # noqa: E402
from packetflow.otp.workers.process import WorkerContext  # noqa: E402


def serve(worker: WorkerContext, index: int) -> None:
    """The worker's main function: a node's worker, whose capabilities print to the log's stream, not to the command's stdout."""
    os.dup2(2, 1)
    serve_node(worker, index)
