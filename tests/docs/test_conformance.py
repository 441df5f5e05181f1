"""The table of OTP's and Elixir's cases: each line names tests of ours that exist, or says why the case does not apply."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "otp-conformance.md"
NAMED = re.compile(r"(tests/[\w/]+\.py)(?:::(\w+))?(?:::(\w+))?")


def rows() -> list[tuple[int, list[str]]]:
    """The cells of each line of the tables, with the line's number."""
    found = []
    for number, line in enumerate(PAGE.read_text().splitlines(), 1):
        if not line.startswith("|") or set(line) <= set("|-: "):
            continue
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if cells[-1] == "our test" or cells[-1] == "Our test":
            continue
        found.append((number, cells))
    return found


def names_in(file: str) -> set[str]:
    tree = ast.parse((ROOT / file).read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}


def test_every_line_has_a_case_its_suite_and_what_became_of_it() -> None:
    assert len(rows()) > 500
    for number, cells in rows():
        assert len(cells) == 3, f"line {number}"
        assert all(cells), f"line {number}"


def test_every_line_names_a_test_or_says_why_the_case_does_not_apply() -> None:
    vain = [
        number
        for number, cells in rows()
        if not NAMED.search(cells[2]) and "does not apply" not in cells[2].lower()
    ]
    assert vain == []


@pytest.mark.parametrize("file", sorted({match[0] for match in NAMED.findall(PAGE.read_text())}))
def test_every_test_that_is_named_exists(file: str) -> None:
    there = names_in(file)
    named = {
        name for found, *names in NAMED.findall(PAGE.read_text()) if found == file for name in names if name
    }
    assert named - there == set()
