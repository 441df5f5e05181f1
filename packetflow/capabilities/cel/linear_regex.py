"""Regular expressions found in linear time, whatever the pattern: Rust's, by `common-expression-language`.

Python's own `re` can take for ever on a pattern that somebody sends. The library's evaluator is not used for whole
conditions: docs/decisions.md says why. Importing it loads a terminal library too, so only a condition with `matches` does.
"""

from __future__ import annotations

import cel

from packetflow.capabilities.cel.faults import Fault

_MATCHES = cel.compile("text.matches(pattern)")


def search(text: str, pattern: str) -> bool:
    """Whether the pattern is found somewhere in the text. Raises Fault for a pattern that is none."""
    try:
        return bool(_MATCHES.execute({"text": text, "pattern": pattern}))
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).partition(". Check function")[0].splitlines()]
        raise Fault(f"matches() expects a regular expression: {lines[-1].removeprefix('error: ')}") from None
    except UnicodeEncodeError:
        raise Fault("matches() expects text that can be written as UTF-8") from None
