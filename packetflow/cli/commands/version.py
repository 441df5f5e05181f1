"""`packetflow version`."""

from __future__ import annotations

import platform

from packetflow._version import __version__
from packetflow.cli.invocation import Invocation
from packetflow.cli.leaf import leaf


@leaf("version", document="packetflow.cli.documents:Version", examples=["version", "version --json"])
def version(run: Invocation) -> None:
    """Which PacketFlow this is, and the Python it runs on."""
    document = {"version": __version__, "python": platform.python_version(), "platform": platform.platform()}
    text = f"packetflow {__version__}"
    if run.verbose:
        text += f"   python {document['python']}   {document['platform']}"
    run.answer(document, lambda out: out.line(text))
