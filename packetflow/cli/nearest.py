"""Unknown words: the nearest that exist, and the habits people bring from other tools. Nothing here runs a guess."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

# What other tools call it, and our word for it.
HABITS: Mapping[str, str] = {
    "ls": "list",
    "ps": "status",
    "rm": "remove",
    "del": "remove",
    "delete": "remove",
    "get": "show",
    "describe": "show",
    "inspect": "show",
    "cat": "show",
    "info": "show",
    "find": "search",
    "run": "start",
    "up": "start",
    "serve": "start",
    "launch": "start",
    "down": "stop",
    "kill": "stop",
    "quit": "stop",
    "exit": "stop",
    "invoke": "call",
    "request": "call",
    "exec": "call",
    "validate": "check",
    "lint": "check",
    "verify": "check",
    "new": "init",
    "create": "init",
    "ping": "health",
    "check": "doctor",
    "modules": "module",
    "capabilities": "capability",
    "plugin": "module",
    "plugins": "module",
    "traces": "trace",
    "reload": "module reload",
    "--version": "version",
}


def distance(left: str, right: str) -> int:
    """How many letters apart two words are: insertions, deletions, changes, and swapped neighbours count one each."""
    two_back: list[int] = []
    back = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        row = [i]
        for j, b in enumerate(right, 1):
            cost = min(back[j] + 1, row[j - 1] + 1, back[j - 1] + (a != b))
            if i > 1 and j > 1 and a == right[j - 2] and left[i - 2] == b:
                cost = min(cost, two_back[j - 2] + 1)
            row.append(cost)
        two_back, back = back, row
    return back[-1]


def nearest(word: str, known: Iterable[str], limit: int = 3) -> list[str]:
    """The known words that someone who wrote `word` may have meant, best first."""
    lowered = word.lower()
    found: list[tuple[int, str]] = []
    for candidate in known:
        low = candidate.lower()
        apart = distance(lowered, low)
        if lowered and len(lowered) > 2 and (low.startswith(lowered) or lowered in low.split(".")):
            apart = min(apart, 1)
        if apart <= max(1, (len(word) + 2) // 4):
            found.append((apart, candidate))
    found.sort()
    return [candidate for _, candidate in found[:limit]]
