"""What `config check` shows, word for word."""

from __future__ import annotations

import json

from packetflow.documents.faults import Place, nearest, path_text, value_text
from packetflow.node.config import ConfigError, Fault, render, render_fault


def test_a_misspelt_key_is_shown_with_its_place_what_was_given_and_the_nearest_key(project, shows):
    refused = project.refused(
        """
        [[modules]]
        name = "rate_limit"

        [[modules]]
        name = "compliance"
        piority = 150
        """
    )
    assert refused == shows(
        """
        config/node.toml:7:1: unknown key in module "compliance"
           7 | piority = 150
             | ^^^^^^^
          key modules[1].piority   given 150   nearest priority
          expected name, module, priority, match, scope, ... (packetflow config schema modules)
        1 error
        """
    )


def test_all_faults_are_told_at_once_in_the_order_of_the_lines(project, shows):
    refused = project.refused(
        """\
        [http]
        port = "eighty"
        prot = 3
        [tcp]
        port = 70000
        [limits]
        frame = "64 Mib x"
        [[modules]]
        name = "tax"
        on_error = "skp"
        [log]
        level = 3
        """
    )
    assert refused == shows(
        """
        config/node.toml:2:8: wrong type in [http]
           2 | port = "eighty"
             |        ^^^^^^^^
          key http.port   given "eighty" (a string)
          expected a port from 0 to 65535 (0: any free one), for example 7420
        config/node.toml:3:1: unknown key in [http]
           3 | prot = 3
             | ^^^^
          key http.prot   given 3   nearest port
          expected enabled, host, port, allowed_hosts, allowed_origins (packetflow config schema http)
        config/node.toml:5:8: out of range in [tcp]
           5 | port = 70000
             |        ^^^^^
          key tcp.port   given 70000
          expected a port from 0 to 65535 (0: any free one), for example 7420
        config/node.toml:7:9: not a size in [limits]
           7 | frame = "64 Mib x"
             |         ^^^^^^^^^^
          key limits.frame   given "64 Mib x"
          expected a size: bytes, or a number with B, KB, MB, GB, KiB, MiB or GiB, for example "64 MiB"
        config/node.toml:10:12: unknown word in module "tax"
          10 | on_error = "skp"
             |            ^^^^^
          key modules[0].on_error   given "skp"   nearest skip
          expected fail, skip or reject
        config/node.toml:12:9: unknown word in [log]
          12 | level = 3
             |         ^
          key log.level   given 3
          expected debug, info, warning or error
        6 errors
        """
    )


def test_programs_get_the_same_as_plain_data(project):
    (fault,) = project.faults("[http]\nprot = 3\n")
    assert json.loads(json.dumps(fault.as_dict())) == {
        "severity": "error",
        "message": "unknown key in [http]",
        "file": "config/node.toml",
        "line": 2,
        "column": 1,
        "end": 5,
        "key": "http.prot",
        "given": "3",
        "expected": "enabled, host, port, allowed_hosts, allowed_origins (packetflow config schema http)",
        "nearest": "port",
    }


def test_the_ending_says_what_becomes_of_the_node():
    fault = Fault("wrong", "a.toml", 1, 1, 2)
    assert render([fault, fault], "the running node is untouched").endswith(
        "2 errors; the running node is untouched"
    )
    warning = Fault("odd", "a.toml", 1, 1, 2, severity="warning")
    assert render([fault, warning]).endswith("1 error, 1 warning")
    assert render([warning]) == "a.toml:1:1: warning: odd\n1 warning"


def test_a_config_error_holds_its_faults_and_reads_like_the_screen():
    error = ConfigError([Fault("wrong", "a.toml", 3, 4, 5)])
    assert error.code == "validation_failed"
    assert error.faults[0].place == Place("a.toml", 3, 4, 5)
    assert str(error) == "a.toml:3:4: wrong\n1 error"


def test_what_a_terminal_would_act_on_is_shown_as_escapes_and_the_carets_still_fit():
    line = '"\u202eevil\x1b[31m" = 1'
    fault = Fault.at(
        Place("a\x1b.toml", 1, 1, 13, line), "unknown key", key=path_text(("\u202eevil\x1b[31m",))
    )
    assert render_fault(fault).isprintable() is False  # only for its line ends
    assert all(shown.isprintable() for shown in render_fault(fault).split("\n"))
    first, excerpt, carets, _ = render_fault(fault).split("\n")
    assert first == "a\\x1b.toml:1:1: unknown key"
    assert excerpt == '   1 | "\\u202eevil\\x1b[31m" = 1'
    assert carets == "     | ^^^^^^^^^^^^^^^^^^^^"


def test_a_long_line_is_cut_around_the_fault():
    line = "x" * 500 + "WRONG" + "y" * 500
    text = render_fault(Fault.at(Place("a.toml", 1, 501, 506, line), "wrong"))
    excerpt, carets = text.split("\n")[1:]
    assert len(excerpt) < 120
    assert excerpt[carets.index("^") : carets.rindex("^") + 1] == "WRONG"


def test_values_are_shown_as_toml_writes_them():
    assert value_text("a\nb") == '"a\\nb"'
    assert value_text(True) == "true"
    assert value_text([1, "a", {"b": 2.5}]) == '[1, "a", {b = 2.5}]'
    assert value_text("x" * 1000) == '"' + "x" * 57 + '..."'
    assert value_text(10**5000) == "an integer of 16610 bits"
    assert value_text(list(range(10))) == "[0, 1, 2, 3, 4, 5, 6, 7, ...]"


def test_the_nearest_word_forgives_swaps_cuts_and_case_and_nothing_else():
    known = ["priority", "match", "max_concurrency", "name", "module"]
    assert nearest("piority", known) == "priority"
    assert nearest("PRIORITY", known) == "priority"
    assert nearest("prio", known) == "priority"
    assert nearest("maxconcurrency", known) == "max_concurrency"
    assert nearest("zebra", known) == ""
    assert nearest("x" * 10_000, known) == ""


def test_paths_are_written_as_people_write_them():
    assert path_text(("modules", 1, "config", "a.b", "c")) == 'modules[1].config."a.b".c'
    assert path_text(("",)) == '""'
