"""Values that do not fit: what was given, what was expected, at which line and column."""

from __future__ import annotations

import pytest


def the_fault(project, text, **kwargs):
    (fault,) = project.faults(text, **kwargs)
    return fault


@pytest.mark.parametrize(
    ("text", "place", "key", "given", "expected"),
    [
        (
            "[tcp]\nport = -1",
            "2:8",
            "tcp.port",
            "-1",
            "a port from 0 to 65535 (0: any free one), for example 7420",
        ),
        ("[tcp]\nport = 80.0", "2:8", "tcp.port", "80.0 (a float)", "a port from 0 to 65535"),
        ("[tcp]\nport = true", "2:8", "tcp.port", "true (a boolean)", "a port from 0 to 65535"),
        ("[tcp]\nport = [1]", "2:8", "tcp.port", "[1] (a list)", "a port from 0 to 65535"),
        ("[tcp]\nport = 99999999999999999999", "2:8", "tcp.port", "99999999999999999999", "a port from 0"),
        ("[tcp]\nenabled = 1", "2:11", "tcp.enabled", "1 (an integer)", "true or false"),
        ('[tcp]\nenabled = "yes"', "2:11", "tcp.enabled", '"yes" (a string)', "true or false"),
        ("[tcp]\nhost = 3", "2:8", "tcp.host", "3 (an integer)", "a host name or address"),
        ('[tcp]\nhost = ""', "2:8", "tcp.host", '""', "a host name or address"),
        ("tcp = 3", "1:7", "tcp", "3 (an integer)", "a table"),
        ("tcp = [1]", "1:7", "tcp", "[1] (a list)", "a table"),
        ("[[tcp]]\nport = 1", "1:3", "tcp", "[{port = 1}] (a list)", "a table"),
        ('[node]\nname = ""', "2:8", "node.name", '""', "a name: a letter, then letters, digits"),
        ('[node]\nname = "a b"', "2:8", "node.name", '"a b"', "a name: a letter, then letters, digits"),
        ("[node]\nname = 2026-01-01", "2:8", "node.name", "2026-01-01 (a date or time)", "a name"),
        ('[node]\ndata_folder = ""', "2:15", "node.data_folder", '""', "the path of a file or folder"),
        (
            "[node]\ndata_folder = 3",
            "2:15",
            "node.data_folder",
            "3 (an integer)",
            "the path of a file or folder",
        ),
        ("[limits]\ndepth = 0", "2:9", "limits.depth", "0", "an integer from 1 to 256"),
        ("[limits]\nframe = 0", "2:9", "limits.frame", "0", "a size: bytes, or a number with B"),
        ("[limits]\nframe = -5", "2:9", "limits.frame", "-5", "a size"),
        ("[limits]\nframe = 1.5", "2:9", "limits.frame", "1.5 (a float)", "a size"),
        ('[limits]\nframe = "1.5 B"', "2:9", "limits.frame", '"1.5 B"', "a size"),
        ('[limits]\nframe = "9999999 GiB"', "2:9", "limits.frame", '"9999999 GiB"', "a size"),
        ("[timeouts]\nhook = 0", "2:8", "timeouts.hook", "0", "a duration over 0: seconds"),
        ("[timeouts]\nhook = nan", "2:8", "timeouts.hook", "nan", "a duration over 0"),
        ("[timeouts]\nhook = inf", "2:8", "timeouts.hook", "inf", "a duration over 0"),
        ('[timeouts]\nhook = "5 parsecs"', "2:8", "timeouts.hook", '"5 parsecs"', "a duration over 0"),
        ("[timeouts]\ndrain = -1", "2:9", "timeouts.drain", "-1", "a duration: seconds"),
        ('[access]\nlocal = "*"', "2:9", "access.local", '"*" (a string)', "a list of capability patterns"),
        (
            '[access]\nlocal = ["a",\n  3]',
            "3:3",
            "access.local[1]",
            "3 (an integer)",
            "a text without spaces",
        ),
        ('[access]\nlocal = [""]', "2:10", "access.local[0]", '""', "a text without spaces, not empty"),
        ("module_path = 3", "1:15", "module_path", "3 (an integer)", "a list of paths"),
        ("include = 3", "1:11", "include", "3 (an integer)", "a list of files, for example include = "),
        ("include = [3]", "1:11", "include", "[3] (a list)", "a list of files"),
        ("[include]\nfile = []", "1:2", "include", "{file = []} (a table)", "a list of files"),
        (
            "[modules.tax]\npriority = 1",
            "1:2",
            "modules",
            "{tax = {priority = 1}} (a table)",
            "tables under [[modules]]",
        ),
        ("modules = [3]", "1:12", "modules[0]", "3 (an integer)", "a table"),
        ("[[modules]]\nname = 3", "2:8", "modules[0].name", "3 (an integer)", "a name"),
        (
            '[[modules]]\nname = "a"\npriority = "x"',
            "3:12",
            "modules[0].priority",
            '"x" (a string)',
            "an integer from 0",
        ),
        (
            '[[modules]]\nname = "a"\nmatch = 3',
            "3:9",
            "modules[0].match",
            "3 (an integer)",
            "a list of capability patterns",
        ),
        (
            '[[modules]]\nname = "a"\nmatch = ["b", 3]',
            "3:15",
            "modules[0].match[1]",
            "3 (an integer)",
            "a text",
        ),
        (
            '[[modules]]\nname = "a"\n[modules.match]\ntags = 3',
            "4:8",
            "modules[0].match.tags",
            "3 (an integer)",
            "a list",
        ),
        (
            '[[modules]]\nname = "a"\nmax_concurrency = -1',
            "3:19",
            "modules[0].max_concurrency",
            "-1",
            "an integer of at",
        ),
        (
            '[[modules]]\nname = "a"\nmax_concurrency = "lots"',
            "3:19",
            "modules[0].max_concurrency",
            '"lots"',
            "an integer",
        ),
        ('[[modules]]\nname = "a"\nconfig = 3', "3:10", "modules[0].config", "3 (an integer)", "a table"),
        (
            '[[modules]]\nname = "a"\ntimeout = "1 x"',
            "3:11",
            "modules[0].timeout",
            '"1 x"',
            "a duration over 0",
        ),
    ],
)
def test_a_wrong_value_names_what_was_given_and_what_was_expected(project, text, place, key, given, expected):
    fault = the_fault(project, text)
    assert f"{fault.line}:{fault.column}" == place
    assert fault.key == key
    assert fault.given.startswith(given)
    assert fault.expected.startswith(expected)


@pytest.mark.parametrize(
    ("text", "place", "key", "nearest"),
    [
        ("[htp]\nport = 1", "1:2", "htp", "http"),
        ("[http]\nProt = 1", "2:1", "http.Prot", "port"),
        ("http.prot = 1", "1:6", "http.prot", "port"),
        ("http = { prot = 1 }", "1:10", "http.prot", "port"),
        ('[http]\n"po\\u0072tt" = 1', "2:1", "http.portt", "port"),
        ("[http]\nlevel = 1", "2:1", "http.level", "log.level"),
        ("data_folder = 'x'", "1:1", "data_folder", "node.data_folder"),
        ("[http]\nzebra = 1", "2:1", "http.zebra", ""),
        ("[node.name.x]\n", "1:12", "node.name", ""),
        ('[[capabilities]]\npaht = "x"\nmodule = "os"', "2:1", "capabilities[0].paht", "path"),
        ('[[modules]]\nname = "a"\n[modules.match.not]\ntag = []', "4:1", "modules[0].match.not.tag", "tags"),
    ],
)
def test_an_unknown_key_names_the_nearest(project, text, place, key, nearest):
    fault = next(fault for fault in project.faults(text) if fault.key == key)
    if key != "node.name":
        assert f"{fault.line}:{fault.column}" == place
        assert fault.message.startswith("unknown key")
    assert fault.nearest == nearest


@pytest.mark.parametrize(
    "key", ["__class__", "model_config", "a.b", "", " ", "\\u0000", "\\u001b[31m", "\\u202e", "é" * 300]
)
def test_a_hostile_key_name_is_an_unknown_key_like_any_other(project, key):
    for text in (
        f'"{key}" = 1',
        f'[http]\n"{key}" = 1',
        f'[[modules]]\nname = "a"\n"{key}" = 1',
        f'["{key}"]',
    ):
        fault = the_fault(project, text)
        assert fault.message.startswith("unknown key")
        assert all(line.isprintable() for line in str(fault).split("\n"))


def test_a_missing_key_is_told_at_its_table(project, shows):
    assert project.refused('[[modules]]\nname = "a"\n\n[[modules]]\npriority = 3\n') == shows(
        """
        config/node.toml:4:1: missing key in module number 2
           4 | [[modules]]
             | ^^^^^^^^^^^
          key modules[1].name
          expected a name: a letter, then letters, digits, _ and - (64 at most), for example name = "desk"
        1 error
        """
    )


def test_two_modules_of_one_name_are_told_with_both_places(project, shows):
    assert project.refused('[[modules]]\nname = "tax"\n[[modules]]\nname = "tax"\n') == shows(
        """
        config/node.toml:4:8: two modules are called "tax", the other at config/node.toml:2:8
           4 | name = "tax"
             |        ^^^^^
          key modules[1].name   given "tax"
          expected a name of its own for each
          next: name = "tax_2" and module = "tax" run the same module twice
        1 error
        """
    )


def test_a_door_beyond_loopback_needs_the_word_insecure(project):
    fault = the_fault(project, '[http]\nhost = "0.0.0.0"')
    assert str(fault.place) == "config/node.toml:2:8"
    assert fault.message == "http would listen elsewhere than on loopback, and callers are not authenticated"
    assert fault.given == '"0.0.0.0"'
    assert "set insecure = true in [access]" in fault.next
    assert project.load('[http]\nhost = "0.0.0.0"\n[access]\ninsecure = true').config.http.host == "0.0.0.0"
    assert project.load('[http]\nhost = "0.0.0.0"\nenabled = false').config.http.enabled is False


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost", "LOCALHOST"])
def test_loopback_has_many_names(project, host):
    assert project.load(f'[tcp]\nhost = "{host}"').config.tcp.host == host


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "192.168.1.1", "localhost.example.org", "desk", "127.0.0.1.nip.io"]
)
def test_everything_else_is_not_loopback(project, host):
    assert the_fault(project, f'[tcp]\nhost = "{host}"').key == "tcp.host"


def test_two_doors_on_one_port(project):
    fault = the_fault(project, "[tcp]\nport = 9000\n[http]\nport = 9000\n")
    assert fault.message == "http and tcp have the same port, the other at config/node.toml:2:8"
    assert (fault.key, fault.line, fault.given) == ("http.port", 4, "9000")
    assert the_fault(project, "[tcp]\nport = 7421\n").line == 2  # http's is the default
    assert project.load("[tcp]\nport = 0\n[http]\nport = 0\n").config.http.port == 0


def test_a_missing_file_is_named_by_its_path_with_the_nearest(project):
    project.write("", "desk/capabilities.py")
    fault = the_fault(project, '[[capabilities]]\npath = "desk/capabilites.py"\n')
    assert str(fault.place) == "config/node.toml:2:8"
    assert fault.message == f"no such file or folder: {project.folder}/desk/capabilites.py"
    assert fault.nearest == "capabilities.py"
    assert fault.expected == f"an existing file or folder; relative paths begin at {project.folder}"


def test_module_path_names_folders(project):
    project.write("", "modules/tax.py")
    faults = project.faults('module_path = ["modules", "modles",\n "modules/tax.py"]')
    assert [(str(f.place), f.key, f.nearest, f.message.partition(":")[0]) for f in faults] == [
        ("config/node.toml:1:27", "module_path[1]", "modules", "no such folder"),
        ("config/node.toml:2:2", "module_path[2]", "tax.py", "no folder"),
    ]


def test_a_path_with_a_nul_is_a_fault(project):
    assert the_fault(project, '[[capabilities]]\npath = "a\\u0000b"').given == '"a\\u0000b"'


def test_a_capability_source_is_a_path_or_a_module(project):
    both = the_fault(project, '[[capabilities]]\npath = "."\nmodule = "os"')
    assert (both.message, both.line) == ("both path and module are given", 3)
    neither = the_fault(project, "\n[[capabilities]]\n")
    assert (neither.message, neither.line) == ("neither path nor module is given", 2)


def test_what_is_named_twice_is_told_with_both_places(project):
    twice = the_fault(project, '[[capabilities]]\npath = "."\n[[capabilities]]\npath = "./."\n')
    assert twice.message == '"./." is named twice, the other at config/node.toml:2:8'
    assert (twice.line, twice.key) == (4, "capabilities[1].path")
    folder = the_fault(project, '[catalogue]\nfolders = ["more", "b", "more/../more"]\n')
    assert folder.message.startswith('"more/../more" is named twice, the other at')
    assert folder.key == "catalogue.folders[2]"
    file = the_fault(project, '[catalogue]\nfiles = ["a.py", "a.py"]\n')
    assert (file.line, file.key) == (2, "catalogue.files[1]")


@pytest.mark.parametrize("name", ["system.health", "system.reload@1.0.0", "job.list"])
def test_the_nodes_own_capabilities_can_not_be_withheld(project, name):
    fault = the_fault(project, f'[catalogue]\nwithout = ["a.b", "{name}"]\n')
    assert (fault.message, fault.key) == (f"{name} is the node's own and stays", "catalogue.without[1]")


def test_faults_of_an_entry_do_not_hide_those_of_another(project):
    faults = project.faults('[[modules]]\nname = "a"\nx = 1\n[[modules]]\nname = "a"\ny = 1\n[nod]\n')
    assert [(fault.line, fault.key) for fault in faults] == [
        (3, "modules[0].x"),
        (5, "modules[1].name"),
        (6, "modules[1].y"),
        (7, "nod"),
    ]


def test_one_mistake_is_told_once(project):
    assert [
        f.key
        for f in project.faults('[timeouts]\nhook = "x"\n[[modules]]\nname = "a"\n[[modules]]\nname = "b"')
    ] == ["timeouts.hook"]
    assert [f.key for f in project.faults("[htp]\npassword = 'x'")] == ["htp"]
