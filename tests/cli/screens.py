"""The screens whose look is kept in snapshots/: documents as a node answers them, and what shows each."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

from packetflow.cli.batch.tally import show_summary
from packetflow.cli.commands.capability import show_capability, show_catalogue
from packetflow.cli.commands.chain import show_chain
from packetflow.cli.commands.config import show_settings
from packetflow.cli.commands.doctor import show_checks
from packetflow.cli.commands.module import show_module, show_modules
from packetflow.cli.commands.status import show_health, show_status
from packetflow.cli.commands.supervision import show_tree
from packetflow.cli.commands.trace import show_trace, show_traces
from packetflow.cli.failures import Failure
from packetflow.cli.invocation import show_failure
from packetflow.cli.screen.painter import Painter
from packetflow.cli.screen.units import moment
from packetflow.cli.screen.value import show_value
from packetflow.cli.starting.banner import show_banner

NOW = moment("2026-03-01T12:00:00Z")
assert NOW is not None

STATUS = {
    "node": "desk",
    "version": "0.1.0",
    "pid": 41207,
    "config_file": "config/node.toml",
    "environment": 2,
    "data_folder": "/srv/desk/run",
    "doors": [
        {"door": "admin", "address": "unix:///srv/desk/run/admin.sock"},
        {"door": "tcp", "address": "tcp://127.0.0.1:7420"},
        {"door": "http", "address": "http://127.0.0.1:7421"},
    ],
    "access": {"mode": "open", "note": "no authentication, so loopback only"},
    "chain": [
        {"name": "rate_limit", "priority": 100},
        {"name": "pii_redaction", "priority": 200},
        {"name": "request_log", "priority": 900},
    ],
    "capabilities": 23,
    "started": "2026-03-01T11:57:00Z",
    "uptime": 180.2,
}
HEALTH = {
    "status": "ill",
    "live": True,
    "ready": True,
    "node": "desk",
    "pid": 41207,
    "version": "0.1.0",
    "uptime": 180.2,
    "findings": [
        {
            "severity": "error",
            "what": "module planner is quarantined, last error: KeyError 'intent'",
            "next": "packetflow module restart planner",
        }
    ],
}


def module(name: str, priority: int, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "module": name,
        "version": "1.2.0",
        "priority": priority,
        "status": "running",
        "match": ["*"],
        "scope": "all",
        "on_error": "fail",
        "timeout": 1.0,
        "max_concurrency": 1,
        "enabled": True,
        "handled": 48210,
        "changed": 0,
        "rejected": 0,
        "errors": 0,
        "restarts": 0,
        "p50": 11e-6,
        "p99": 40e-6,
        "last_error": None,
        "source": f"modules/{name}",
        **more,
    }


MODULES = [
    module("rate_limit", 100, rejected=311),
    module(
        "pii_redaction", 200, match={"capabilities": ["ticket.*"], "not": {"tags": ["internal"]}}, changed=10
    ),
    module(
        "planner",
        300,
        status="quarantined",
        match=["text.*"],
        restarts=4,
        errors=12,
        p50=None,
        p99=None,
        last_error="KeyError 'intent' at planner/slots.py:88",
    ),
    module("request_log", 900, status="disabled", enabled=False, on_error="skip"),
]
MODULE = {
    **MODULES[1],
    "hooks": ["handle_request", "handle_response"],
    "config": {"cards": True, "emails": True, "where": ["request", "response"]},
    "description": "Masks card numbers, e-mail addresses and phone numbers.",
}
CAPABILITY = {
    "id": "ticket.open",
    "version": "1",
    "versions": ["1", "2"],
    "intent": "Open a ticket for a customer.",
    "description": "Open a ticket for a customer. The text is kept as it was written, and a number is given to the ticket.",
    "tags": ["ticket", "write"],
    "deprecated": None,
    "timeout": 10.0,
    "source": "examples/support_desk/capabilities.py:41",
    "requires": {
        "type": "object",
        "properties": {
            "customer_id": {"type": "string", "description": "Whose ticket it is, as in customer.lookup."},
            "text": {"type": "string", "minLength": 1, "maxLength": 4000},
            "urgency": {"enum": ["low", "high"], "default": "low"},
            "tags": {
                "anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "null"}],
                "default": None,
            },
        },
        "required": ["customer_id", "text"],
    },
    "provides": {
        "$ref": "#/$defs/Ticket",
        "$defs": {
            "Ticket": {
                "type": "object",
                "properties": {"id": {"type": "string"}, "opened": {"type": "string", "format": "date-time"}},
                "required": ["id", "opened"],
            }
        },
    },
    "examples": [{"customer_id": "C-1001", "text": "my card is lost"}],
    "effects": ["ticket.opened"],
    "load": {"in_flight": 2, "calls": 4500, "errors": 3, "p50": 0.0012, "p99": 0.0093, "last_error": None},
}
CATALOGUE = [
    {
        "id": "customer.lookup",
        "version": "1",
        "intent": "Who a customer is.",
        "tags": ["customer"],
        "deprecated": None,
    },
    {
        "id": "ticket.open",
        "version": "2",
        "intent": CAPABILITY["intent"],
        "tags": ["ticket", "write"],
        "deprecated": None,
    },
    {
        "id": "ticket.summary",
        "version": "1",
        "intent": "What was said in a ticket so far, in a few sentences that a colleague can read in ten seconds.",
        "tags": ["ticket"],
        "deprecated": None,
    },
]
TREE = {
    "id": "0.1",
    "name": "desk",
    "kind": "supervisor",
    "status": "running",
    "restarts": 0,
    "mailbox": 0,
    "handled": 12,
    "age": 180.0,
    "current": None,
    "children": [
        {
            "id": "0.2",
            "name": "telemetry",
            "kind": "worker",
            "status": "running",
            "restarts": 0,
            "mailbox": 0,
            "handled": 9,
            "age": 180.0,
            "current": None,
            "children": [],
        },
        {
            "id": "0.3",
            "name": "core",
            "kind": "supervisor",
            "status": "running",
            "restarts": 1,
            "mailbox": 0,
            "handled": 48210,
            "age": 42.0,
            "current": None,
            "children": [
                {
                    "id": "0.4",
                    "name": "rate_limit",
                    "kind": "worker",
                    "status": "running",
                    "restarts": 3,
                    "mailbox": 4,
                    "handled": 48210,
                    "age": 3.2,
                    "current": "handle_request ticket.open",
                    "children": [],
                },
            ],
        },
    ],
}
TRACE = {
    "id": "4f2a9c1e00000000000000000000beef",
    "capability": "payments.send",
    "version": "2",
    "principal": "ana",
    "tenant": "",
    "door": "http",
    "started": "2026-03-01T11:59:57Z",
    "outcome": "ok",
    "duration": 0.00921,
    "module_time": 0.00039,
    "parent": None,
    "spans": [
        {"where": "session", "kind": "session", "start": 0.0, "self": 2e-6},
        {"where": "rate_limit", "kind": "request", "priority": 100, "start": 2e-6, "self": 12e-6},
        {
            "where": "compliance",
            "kind": "request",
            "priority": 150,
            "start": 14e-6,
            "self": 310e-6,
            "notes": [
                {"what": "changed", "detail": [{"path": "card", "before": "'****1111'", "after": "'tok_9f'"}]}
            ],
        },
        {
            "where": "payments.send",
            "kind": "run",
            "start": 324e-6,
            "self": 8.8e-3,
            "notes": [{"what": "", "detail": "contract ok"}],
        },
        {
            "where": "compliance",
            "kind": "response",
            "priority": 150,
            "start": 9.1e-3,
            "self": 28e-6,
            "notes": [
                {
                    "what": "transformed",
                    "detail": [{"path": "internal_note", "before": "'call back'", "after": "(removed)"}],
                }
            ],
        },
    ],
    "children": [
        {
            "id": "00000000000000000000000000000001",
            "capability": "ledger.check",
            "version": "1",
            "principal": "ana",
            "door": "local",
            "started": "2026-03-01T11:59:57Z",
            "outcome": "execution_failed",
            "duration": 0.0011,
            "module_time": 0,
            "error": {"code": "execution_failed", "message": "the ledger is closed"},
            "spans": [],
            "children": [],
        }
    ],
}
TRACES = [
    {key: TRACE[key] for key in ("id", "capability", "principal", "door", "started", "outcome", "duration")},
    {
        "id": "77c0ffee000000000000000000000000",
        "capability": "ticket.open",
        "principal": "local",
        "door": "tcp",
        "started": "2026-03-01T11:40:00Z",
        "outcome": "validation_failed",
        "duration": 31e-6,
    },
]
CHECKS = [
    {"name": "python", "severity": "ok", "what": "3.12.4 at /usr/bin/python3", "next": ""},
    {
        "name": "port",
        "severity": "error",
        "what": "tcp 127.0.0.1:7420 is taken by another process",
        "next": "ss -ltnp, or another [tcp] port",
    },
    {"name": "files", "severity": "note", "what": "at most 256 open files", "next": "ulimit -n 4096"},
]
SUMMARY = {
    "capability": "ticket.open",
    "node": "desk",
    "lines": 4500,
    "failed": 20,
    "skipped": 200,
    "retries": 12,
    "outcomes": {"ok": 4480, "validation_failed": 18, "malformed": 2},
    "latency": {"p50": 0.0081, "p95": 0.021, "p99": 0.04, "max": 0.112},
    "rate": 1154.2,
    "wall": 3.9,
    "open": 0,
    "interrupted": True,
    "output": "results.jsonl",
    "resume": "packetflow call ticket.open --from q.jsonl --output results.jsonl --resume",
}
FIRST = [
    (17, "validation_failed", "text: String should have at least 1 character"),
    (21, "malformed", "not JSON: Expecting value"),
]
REFUSED = Failure(
    "validation_failed",
    "the input does not fit ticket.open",
    rows=[
        ("customer_id", "Field required"),
        ("txt", "Unexpected keyword argument; nearest text"),
        ("trace", "4f2a9c1e"),
    ],
    next=["packetflow capability show ticket.open"],
)
SETTINGS = [
    {"key": "node.name", "value": "desk", "origin": "config/node.toml:4"},
    {"key": "http.allowed_hosts", "value": [], "origin": "default"},
    {
        "key": "modules.rate_limit.config.rate",
        "value": 50.0,
        "origin": "environment PACKETFLOW_MODULES__RATE_LIMIT__CONFIG__RATE",
    },
]
VALUE = {
    "id": "T-17",
    "open": True,
    "customer": {"id": "C-1001", "name": "Ana"},
    "history": [
        {
            "at": "2026-03-01T11:00:00Z",
            "who": "ana",
            "text": "my card is lost, and I need a new one before Friday",
        }
    ],
}

SCREENS: dict[str, Callable[[Painter], None]] = {
    "banner": lambda out: show_banner(
        out, STATUS, 0.41, "packetflow call ticket.open customer_id=C-1001 text=hi"
    ),
    "status": lambda out: show_status(out, STATUS, NOW),
    "health": lambda out: show_health(out, HEALTH),
    "module_list": lambda out: show_modules(out, MODULES),
    "module_show": lambda out: show_module(out, MODULE),
    "chain_show": lambda out: show_chain(out, MODULES),
    "capability_list": lambda out: show_catalogue(out, CATALOGUE),
    "capability_show": lambda out: show_capability(out, CAPABILITY),
    "tree": lambda out: show_tree(out, TREE),
    "trace": lambda out: show_trace(out, TRACE, NOW),
    "trace_list": lambda out: show_traces(out, TRACES, NOW),
    "doctor": lambda out: show_checks(out, CHECKS, 1),
    "batch_summary": lambda out: show_summary(out, SUMMARY, FIRST),
    "refused": lambda out: show_failure(REFUSED, out),
    "config_show": lambda out: show_settings(out, SETTINGS, False),
    "config_origin": lambda out: show_settings(out, SETTINGS, True),
    "value": lambda out: show_value(out, VALUE),
}


class Utf8(io.StringIO):
    """A stream that can show everything, as a terminal's."""

    encoding = "utf-8"  # type: ignore[assignment]


def drawn(name: str, width: int | None) -> str:
    """A screen as a terminal of that width shows it; as a pipe gets it for None."""
    stream = Utf8()
    SCREENS[name](Painter(stream, terminal=width is not None, width=width, colour=False))
    return stream.getvalue()
