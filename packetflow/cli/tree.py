"""Every command of `packetflow`, with its one-line help. Help of groups is made from this table alone."""

from __future__ import annotations

from packetflow.cli.lazy import Branch, Leaf, RootGroup, Section

HERE = "packetflow.cli.commands."

SECTIONS = (
    Section(
        "Node",
        {
            "start": Leaf(HERE + "start:start", "runs a node here, in the foreground"),
            "stop": Leaf(HERE + "stop:stop", "ends a node when it has finished what it does"),
            "status": Leaf(HERE + "status:status", "what a node serves, and where"),
            "health": Leaf(HERE + "status:health", "is it up and ready, or why not"),
            "tree": Leaf(HERE + "supervision:tree", "its supervisors and workers"),
            "doctor": Leaf(HERE + "doctor:doctor", "looks for what would keep a node from running here"),
            "init": Leaf(HERE + "init:init", "writes a project that runs"),
        },
    ),
    Section(
        "Calling",
        {
            "call": Leaf(HERE + "call:call", "calls a capability, once or for each line of a file"),
            "stream": Leaf(HERE + "stream:stream", "the items of a capability that streams, as they come"),
            "job": Branch(
                "what runs in the background",
                {
                    "list": Leaf(HERE + "job:list_", "background calls, the newest first"),
                    "show": Leaf(HERE + "job:show", "one: how far it is, or what it came to"),
                    "cancel": Leaf(HERE + "job:cancel", "ends one"),
                },
            ),
        },
    ),
    Section(
        "Capabilities and modules",
        {
            "capability": Branch(
                "what the node can do",
                {
                    "list": Leaf(HERE + "capability:list_", "all of them, or those of a tag"),
                    "show": Leaf(HERE + "capability:show", "one in full: contract, examples, load"),
                    "search": Leaf(HERE + "capability:search", "those that fit some words"),
                    "add": Leaf(HERE + "capability:add", "serves those of a file too, for good"),
                    "remove": Leaf(HERE + "capability:remove", "serves one no more, for good"),
                },
            ),
            "module": Branch(
                "what every request passes",
                {
                    "list": Leaf(HERE + "module:list_", "the chain in order, with its figures"),
                    "show": Leaf(HERE + "module:show", "one in full"),
                    "enable": Leaf(HERE + "module:enable", "puts one back into the chain"),
                    "disable": Leaf(HERE + "module:disable", "takes one out of the chain"),
                    "reload": Leaf(HERE + "module:reload", "loads its code and config anew"),
                    "restart": Leaf(HERE + "module:restart", "starts it afresh, also out of quarantine"),
                },
            ),
            "chain": Branch(
                "the order of modules",
                {"show": Leaf(HERE + "chain:show", "who sees a request, in which order")},
            ),
            "simulate": Leaf(
                HERE + "simulate:simulate", "runs a file's worlds in virtual time, seed by seed"
            ),
        },
    ),
    Section(
        "Flows",
        {
            "flow": Branch(
                "compositions: capabilities put together",
                {
                    "list": Leaf(HERE + "flow:list_", "those that the node serves, and whether they can run"),
                    "show": Leaf(HERE + "flow:show", "one as a tree, a picture or a file"),
                    "check": Leaf(HERE + "flow:check", "whether the one in a file could run on the node"),
                    "run": Leaf(HERE + "flow:run_", "runs one to its end"),
                    "runs": Leaf(HERE + "runs:runs", "durable runs, the newest first"),
                    "inspect": Leaf(HERE + "runs:inspect", "one durable run in full"),
                    "cancel": Leaf(HERE + "runs:cancel", "ends a run, and undoes what it did"),
                    "resume": Leaf(HERE + "runs:resume", "has a run that is stuck go on"),
                    "retry": Leaf(HERE + "runs:retry", "has a run that failed go on"),
                    "fork": Leaf(HERE + "runs:fork", "begins a new run from a step of an old one"),
                    "approve": Leaf(HERE + "runs:approve", "says yes to what a run waits for"),
                    "reject": Leaf(HERE + "runs:reject", "says no to it"),
                    "signal": Leaf(HERE + "runs:signal", "sends an event to runs"),
                    "replay": Leaf(HERE + "runs:replay", "would a run go the same way on today's plan"),
                },
            ),
        },
    ),
    Section(
        "Explaining",
        {
            "trace": Branch(
                "the way of a request",
                {
                    "show": Leaf(
                        HERE + "trace:show",
                        "one request: what each module changed, and its time",
                        hidden=True,
                    ),
                    "list": Leaf(HERE + "trace:list_", "the last requests"),
                },
                default="show",
                takes="ID or last",
            ),
            "dead-letter": Branch(
                "what failed for good",
                {
                    "list": Leaf(HERE + "dead_letter:list_", "all of them, the newest first"),
                    "show": Leaf(HERE + "dead_letter:show", "one in full: what it holds, and why"),
                    "replay": Leaf(HERE + "dead_letter:replay", "does it again"),
                    "remove": Leaf(HERE + "dead_letter:remove", "forgets one"),
                },
            ),
            "audit": Branch(
                "who did what",
                {
                    "list": Leaf(HERE + "audit:list_", "the last audit records"),
                    "verify": Leaf(HERE + "audit:verify", "whether any was changed since it was written"),
                },
            ),
        },
    ),
    Section(
        "Config",
        {
            "config": Branch(
                "the node's settings",
                {
                    "check": Leaf(HERE + "config:check", "all faults of a config file, each with its place"),
                    "show": Leaf(HERE + "config:show", "every setting and where it comes from"),
                    "schema": Leaf(HERE + "config:schema", "what may be set, as JSON Schema"),
                },
            ),
        },
    ),
    Section(
        "This program",
        {
            "completion": Leaf(
                HERE + "completion:completion", "the script that completes words in your shell"
            ),
            "version": Leaf(HERE + "version:version", "which PacketFlow this is"),
            "help": Leaf(HERE + "help:help_", "explains a command, an error code or an exit code"),
        },
    ),
)

INTRO = "packetflow: a supervised capability node. Start one, call it, look inside."
FIRST = ("packetflow start", "packetflow call ticket.open customer_id=C-1001 text=hi")


def root() -> RootGroup:
    """The whole program as a click command."""
    return RootGroup(
        SECTIONS,
        help=INTRO,
        context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 100},
    )
