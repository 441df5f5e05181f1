"""Files that are no configuration: each is told with its place, nothing else ever comes out."""

from __future__ import annotations

import os

import pytest


def test_an_empty_file_is_a_node_of_defaults(project):
    loaded = project.load("")
    assert loaded.config.http.port == 7421
    assert loaded.origins == {}


def test_a_file_that_begins_with_a_byte_order_mark_loads_and_its_places_hold(project):
    assert project.load(b"\xef\xbb\xbf[http]\nport = 1\n").config.http.port == 1
    assert project.refused(b'\xef\xbb\xbfport = 1\n[http]\nport = "x"\n').startswith(
        "config/node.toml:1:1: unknown key\n   1 | port = 1\n"
    )


def test_line_ends_of_windows_load_and_places_hold(project):
    assert project.load(b"[http]\r\nport = 1\r\n").config.http.port == 1
    (fault,) = project.faults(b'[http]\r\n\r\nport = "x"\r\n')
    assert (fault.line, fault.column, fault.end, fault.excerpt) == (3, 8, 11, 'port = "x"')


def test_a_named_file_must_exist(project):
    assert project.refused(path="config/prodction.toml") == (
        f"{project.folder}/config/prodction.toml: no such file\n"
        f"  next: packetflow init, or name another file: {project.folder}/config/prodction.toml\n1 error"
    ).replace(f"{project.folder}/", "")


def test_a_folder_instead_of_a_file(project):
    assert project.refused(path="config") == (
        "config: this is a folder\n  expected a TOML file\n  next: name a file in it: config/node.toml\n1 error"
    )


def test_a_pipe_without_a_writer_is_refused_not_waited_for(project):
    os.mkfifo(project.folder / "pipe")
    assert "pipe: this is no regular file" in project.refused(path="pipe")


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is unreadable to root")
def test_an_unreadable_file(project):
    project.write("").chmod(0)
    assert "config/node.toml: can't read the file: Permission denied" in project.refused(
        path="config/node.toml"
    )


def test_a_path_that_can_not_be_one(project):
    project.write("", "file")
    assert "file/node.toml: can't read the file: Not a directory" in project.refused(path="file/node.toml")
    assert "can't read the file: File name too long" in project.refused(path="x" * 5000)
    assert "can't read the file: its name holds a character that no file's name may hold" in project.refused(
        path="a\0b"
    )
    (project.folder / "loop").symlink_to("loop")
    assert "can't read the file: Too many levels of symbolic links" in project.refused(path="loop")


def test_a_file_that_is_not_utf8_is_told_with_the_byte_and_its_place(project):
    assert project.refused(b'[node]\n# caf\xe9\nname = "x"\n') == (
        "config/node.toml:2:6: the file is not UTF-8: byte 0xe9\n  expected UTF-8\n  next: save it as UTF-8\n1 error"
    )
    assert "the file is UTF-16" in project.refused('name = "x"'.encode("utf-16"))
    assert "not a TOML" in project.refused(b"\x00\x01\x02") or "syntax" in project.refused(b"\x00\x01\x02")


def test_a_file_of_a_megabyte_is_refused_by_its_size(project):
    assert project.refused(b"# " + b"x" * 1_000_000) == (
        "config/node.toml: the file is larger than 256 KiB\n  expected a configuration of at most 256 KiB\n"
        "  next: keep data in files of its own and name them here\n1 error"
    )


def test_a_very_wide_table_is_refused(project):
    lines = "".join(f"key_{number} = 1\n" for number in range(1001))
    assert "config/node.toml:1001:1: a table of 1001 keys" in project.refused(lines)


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 5000,
        "a = " + "[" * 40 + "]" * 40,
        "a = " + "{a = " * 40 + "1" + "}" * 40,
        ".".join(["a"] * 50) + " = 1",
        "[" + ".".join(["a"] * 50) + "]",
    ],
)
def test_deep_nesting_is_refused(project, text):
    (fault,) = project.faults(text)
    assert fault.message == "nested deeper than 32 levels"
    assert fault.line == 1
    assert fault.expected == "at most 32 levels"


def test_an_integer_of_thousands_of_digits(project):
    (fault,) = project.faults("[http]\nport = " + "9" * 6000)
    assert (fault.line, fault.column) == (2, 8)
    assert fault.message == "an integer of thousands of digits"


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("a", "1:2", "syntax: no value for this key, at the end of the file"),
        ("[http]\nport", "2:5", "syntax: no value for this key, at the end of the file"),
        ("[http]\nport 80\n", "2:6", "syntax: no value for this key"),
        ("[http]\nport = \nhost = 1", "2:8", "syntax: not a TOML value"),
        ("[log]\nlevel = info\n", "2:9", "syntax: a text without quotes"),
        ('[log]\nlevel = "info\n', "2:14", "syntax: a string without its closing quote"),
        ('[log]\nlevel = """info\n', "2:16", "syntax: a string without its closing quote"),
        ("a = [1,\n2", "2:2", "syntax: a list without its closing ]"),
        ("a = {b = 1", "1:11", "syntax: a table without its closing }"),
        ("a = {b = 1, b = 2}", "1:18", "syntax: key b stands twice"),
        ("[http\n", "1:6", "syntax: expected ']' at the end of a table declaration, at the end of the file"),
        ("a = 1 b = 2", "1:7", "syntax: something follows the value on its line"),
        ("= 1", "1:1", "syntax: neither a key nor a [table]"),
        ("{}", "1:1", "syntax: neither a key nor a [table]"),
        ("[http]\nport = 1\nhost = 'x'\nport = 2\n", "4:1", "syntax: key port stands twice, first in line 2"),
        ("[http]\nport = 1\n[log]\n[http]\n", "4:1", "syntax: table [http] stands twice, first in line 1"),
        ("modules = 1\n[[modules]]\n", "2:1", "syntax: table [[modules]] stands twice"),
        ('a = "\\q"', "1:6", "syntax: an unknown escape in a string"),
    ],
)
def test_what_is_no_toml_is_told_with_its_place(project, text, place, message):
    fault, *more = project.faults(text)
    assert not more
    assert (f"{fault.line}:{fault.column}", fault.message) == (place, message)
    assert fault.file == "config/node.toml"


def test_a_syntax_fault_shows_the_way_to_write_it(project, shows):
    assert project.refused("[log]\nlevel = info\n") == shows(
        """
        config/node.toml:2:9: syntax: a text without quotes
           2 | level = info
             |         ^^^^
          expected "info"
        1 error
        """
    )


def test_an_excerpt_of_a_broken_line_does_not_show_the_secret_on_it(project):
    text = project.refused('[a]\nx = {password = "hunter2", b\n')
    assert "hunter2" not in text
    assert "x = {password = *********, b" in text
