"""What `packetflow help` knows: each error code and each exit code, why it comes and what helps."""

from __future__ import annotations

from collections.abc import Mapping

CODES: Mapping[str, tuple[str, str]] = {
    "usage": (
        "The command line is not understood: an unknown word or option, a file that is not there, a field that can't be read.",
        "packetflow COMMAND --help shows what it takes, with examples.",
    ),
    "config_invalid": (
        "The configuration has faults. Nothing was started, and a running node is untouched.",
        "packetflow config check shows each with file, line and what was expected.",
    ),
    "validation_failed": (
        "The payload does not fit the capability's contract. It was not run.",
        "packetflow capability show ID shows the contract; each fault names its path.",
    ),
    "contract_violated": (
        "The capability ran, and answered what its own contract does not allow. That is its fault, not the caller's.",
        "packetflow trace last shows the answer's fault; correct the function or its return type.",
    ),
    "not_found": (
        "No such capability, module or trace. Nearest names are told; nothing is guessed.",
        "packetflow capability list, packetflow module list, packetflow trace list.",
    ),
    "conflict": (
        "It contradicts what is there already: an idempotency key with another payload, a name that is taken.",
        "Look at what is there, or use another key or name.",
    ),
    "module": (
        "A module can't be found, loaded or started. The message names it, with its file and line.",
        "Correct it; packetflow start --without NAME runs the node without it.",
    ),
    "definition": (
        "A file of capabilities does not import, or declares a capability or resource wrongly.",
        "Correct the file at the line that is named.",
    ),
    "unauthenticated": ("Nobody vouches for the caller.", "Give credentials that the node accepts."),
    "forbidden": (
        "The caller is known and has no right to it. `system.*` is for the operator, by the admin socket.",
        "Ask on the node's machine, as its user; or have [access] grant it.",
    ),
    "rate_limited": (
        "This caller asks too often.",
        "Wait for retry_after seconds. A batch (call --from) waits by itself.",
    ),
    "overloaded": (
        "More is under way than the node takes.",
        "Wait for retry_after seconds, lower --concurrency, or raise [limits].",
    ),
    "timeout": (
        "It was not done, or not seen, in time. A request that timed out was cancelled in the node.",
        "--timeout SECONDS waits longer; packetflow tree shows what is busy.",
    ),
    "cancelled": ("The caller gave up, or the node ended meanwhile.", "Send it again if it is still wanted."),
    "rejected": (
        "A module refused the request; reason is its word.",
        "packetflow trace ID shows which one and why; packetflow module show NAME shows its settings.",
    ),
    "execution_failed": (
        "The capability raised an error. The caller sees no traceback; the node's log has it, with the trace id.",
        "packetflow trace ID, then the log.",
    ),
    "unavailable": (
        "No node answers, or what the request needs is down for now.",
        "packetflow health; packetflow start if no node runs; packetflow doctor if it does not start.",
    ),
    "too_large": (
        "A limit of size, depth or count was passed.",
        "Send less at once, or raise [limits].",
    ),
    "protocol_error": (
        "What came over the wire is no message of the protocol.",
        "Check that --node names a PacketFlow node's tcp port or admin socket, not its HTTP port.",
    ),
    "internal": (
        "A fault of the node itself.",
        "The node's log has it, with the trace id; please report it.",
    ),
    "finding": ("A check ran, and found something.", "Each finding names what helps."),
    "interrupted": ("Ctrl-C ended the command.", "A batch with --output goes on with --resume."),
    "malformed": (
        "A line of a batch is no payload: not JSON, not an object, not UTF-8, or the wrong number of CSV cells.",
        "Correct the line; the results name it and say what is wrong.",
    ),
    "unknown": (
        "A line of a resumed batch was sent to a node that has restarted since; nobody knows whether it ran.",
        "Look whether it was done; --resend-unknown sends it again.",
    ),
}
