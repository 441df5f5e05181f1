"""The exit codes: a closed list that scripts branch on, and the wire codes that lead to each."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum


class Exit(IntEnum):
    """What the number that a command leaves behind means."""

    DONE = 0
    REFUSED = 1
    INPUT = 2
    NO_NODE = 3
    MAY_NOT = 4
    NO_SUCH = 5
    BAD_NEWS = 6
    NOT_IN_TIME = 7
    LATER = 8
    INTERRUPTED = 130
    TERMINATED = 143


MEANING: Mapping[Exit, str] = {
    Exit.DONE: "done, and seen to be done",
    Exit.REFUSED: "refused or failed",
    Exit.INPUT: "your input: the command line, a file, a payload",
    Exit.NO_NODE: "no node answers",
    Exit.MAY_NOT: "you may not",
    Exit.NO_SUCH: "no such thing",
    Exit.BAD_NEWS: "it ran, and the news is bad: a finding, a difference, a failed test",
    Exit.NOT_IN_TIME: "not seen in time",
    Exit.LATER: "later: the node takes no more for now",
    Exit.INTERRUPTED: "interrupted by Ctrl-C",
    Exit.TERMINATED: "ended by SIGTERM",
}

OF_CODE: Mapping[str, Exit] = {
    "rejected": Exit.REFUSED,
    "execution_failed": Exit.REFUSED,
    "contract_violated": Exit.REFUSED,
    "conflict": Exit.REFUSED,
    "module": Exit.REFUSED,
    "definition": Exit.REFUSED,
    "internal": Exit.REFUSED,
    "usage": Exit.INPUT,
    "config_invalid": Exit.INPUT,
    "validation_failed": Exit.INPUT,
    "too_large": Exit.INPUT,
    "unavailable": Exit.NO_NODE,
    "protocol_error": Exit.NO_NODE,
    "unauthenticated": Exit.MAY_NOT,
    "forbidden": Exit.MAY_NOT,
    "not_found": Exit.NO_SUCH,
    "finding": Exit.BAD_NEWS,
    "timeout": Exit.NOT_IN_TIME,
    "overloaded": Exit.LATER,
    "rate_limited": Exit.LATER,
    "cancelled": Exit.REFUSED,
    "interrupted": Exit.INTERRUPTED,
}


def exit_of(code: str) -> Exit:
    """The exit for an error code; a code that this version does not know counts as refused."""
    return OF_CODE.get(code, Exit.REFUSED)
