"""Tables and values: fitted on a terminal, tabs and uncut in a pipe, never an escape where nobody watches."""

import io

import pytest

from packetflow.cli.screen.painter import Painter, clean, columns, painter_for
from packetflow.cli.screen.table import Column, show_pairs, show_table
from packetflow.cli.screen.units import ago, moment, number, seconds, size
from packetflow.cli.screen.value import show_value

ROWS = [
    {"name": "rate_limit", "what": "a" * 60, "n": 48210, "p50": 11e-6},
    {"name": "漢字", "what": "short", "n": None, "p50": None},
]
LAYOUT = [
    Column("NAME", "name"),
    Column("WHAT", "what", shrink=True),
    Column("N", "n", number, right=True),
    Column("P50", "p50", seconds, right=True, drop=1),
]


def terminal(width):
    stream = io.StringIO()
    return stream, Painter(stream, terminal=True, width=width, colour=False)


def pipe():
    stream = io.StringIO()
    return stream, Painter(stream, terminal=False, width=None, colour=False)


@pytest.mark.parametrize("width", [20, 40, 60, 100, 160])
def test_a_table_fits_the_terminal(width):
    stream, painter = terminal(width)
    show_table(painter, LAYOUT, ROWS)
    assert all(columns(line) <= width for line in stream.getvalue().splitlines())


def test_columns_that_were_left_out_are_named():
    stream, painter = terminal(30)
    show_table(painter, LAYOUT, ROWS)
    assert "not shown here: p50" in stream.getvalue()


def test_in_a_pipe_there_are_tabs_and_nothing_is_cut_or_rounded():
    stream, painter = pipe()
    show_table(painter, LAYOUT, ROWS)
    lines = [line.split("\t") for line in stream.getvalue().splitlines()]
    assert lines == [
        ["name", "what", "n", "p50"],
        ["rate_limit", "a" * 60, "48210", "1.1e-05"],
        ["漢字", "short", "", ""],
    ]


def test_a_tab_or_newline_in_a_value_does_not_break_the_columns():
    stream, painter = pipe()
    show_table(painter, [Column("A", "a"), Column("B", "b")], [{"a": "x\ty", "b": "1\n2"}])
    assert stream.getvalue().splitlines()[1].split("\t") == ["x\\ty", "1\\n2"]


def test_a_value_can_not_drive_the_terminal():
    stream, painter = terminal(80)
    show_value(painter, {"text": "\x1b[2Jgone\x07", "deep": [{"a\x1b": "\x9b31m"}]})
    show_value(painter, "\x1b]0;title\x07")
    assert "\x1b" not in stream.getvalue()
    assert "\x9b" not in stream.getvalue()
    assert clean("a\x1bb") == "a\\x1bb"


def test_values_read_well():
    stream, painter = terminal(80)
    show_value(
        painter,
        {
            "id": "T-1",
            "count": 3,
            "open": True,
            "none": None,
            "tags": ["a", "b"],
            "history": [{"at": i, "text": "x" * 30} for i in range(2)],
        },
    )
    assert stream.getvalue().splitlines() == [
        "id       T-1",
        "count    3",
        "open     yes",
        "none     -",
        "tags     a, b",
        "history",
        "  AT  TEXT",
        "   0  " + "x" * 30,
        "   1  " + "x" * 30,
    ]


def test_a_scalar_in_a_pipe_is_itself():
    stream, painter = pipe()
    show_value(painter, "two\nlines")
    show_value(painter, True)
    show_value(painter, None)
    show_value(painter, [1, 2])
    assert stream.getvalue() == "two\nlines\ntrue\nnull\n1\n2\n"


def test_long_texts_beside_a_label_are_wrapped():
    stream, painter = terminal(30)
    show_pairs(painter, [("access", "OPEN: no authentication, so loopback only")])
    assert stream.getvalue().splitlines() == [
        "  access  OPEN: no",
        "          authentication, so",
        "          loopback only",
    ]


@pytest.mark.parametrize(
    ("environment", "choice", "colour"),
    [({}, "always", True), ({}, "never", False), ({}, "auto", False), ({"NO_COLOR": "1"}, "auto", False)],
)
def test_colour_is_for_terminals_or_for_who_asks(environment, choice, colour):
    assert painter_for(io.StringIO(), choice, environment).colour is colour


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0.0, "0 s"),
        (11e-6, "11 us"),
        (0.00921, "9.21 ms"),
        (0.9994, "999 ms"),
        (3.21, "3.2 s"),
        (59.0, "59 s"),
        (720.0, "12 min"),
        (7200.0, "2 h"),
        (200_000.0, "2 d"),
    ],
)
def test_durations_for_people(value, text):
    assert seconds(value) == text


def test_moments_and_sizes_for_people():
    now = moment("2026-03-01T12:00:00Z")
    assert now is not None
    assert ago("2026-03-01T11:59:57+00:00", now) == "3 s ago"
    assert ago("2026-03-01T11:57:00Z", now) == "3 min ago"
    assert ago("not a time", now) == "not a time"
    assert [size(value) for value in (512, 4_200_000, 85_700_000_000)] == ["512 B", "4.2 MB", "85.7 GB"]
