"""Who wins, and that every value knows where it came from."""

from __future__ import annotations

from pathlib import Path

import pytest

from packetflow.node.config import UnknownKey, load_config
from packetflow.node.config.show import diff, flatten


def test_flag_environment_overlay_project_file_user_file_default(project, tmp_path):
    user = tmp_path / "home" / ".config" / "packetflow" / "config.toml"
    user.parent.mkdir(parents=True)
    user.write_text(
        '[http]\nport = 1\nhost = "127.0.0.2"\n[log]\nlevel = "error"\n[limits]\nqueue = 1\ndepth = 1\n'
    )
    project.write("[http]\nport = 2\n[log]\nlevel = 'warning'\n[limits]\nqueue = 2\n")
    loaded = project.load(
        environment={
            "HOME": str(tmp_path / "home"),
            "PACKETFLOW_HTTP__PORT": "4",
            "PACKETFLOW_LOG__LEVEL": "debug",
        },
        flags={"http.port": 5},
        overlay={"http.port": 3, "log.level": "info", "limits.queue": 3},
    )
    config, origins = loaded.config, loaded.origins
    assert (config.http.port, origins["http.port"]) == (5, "flag http.port")
    assert (config.log.level, origins["log.level"]) == ("debug", "environment PACKETFLOW_LOG__LEVEL")
    assert (config.limits.queue, origins["limits.queue"]) == (3, "overlay limits.queue")
    assert (config.http.host, origins["http.host"]) == ("127.0.0.2", f"{user}:3")
    assert (config.limits.depth, origins["limits.depth"]) == (1, f"{user}:8")
    assert config.tcp.port == 7420
    assert "tcp.port" not in origins
    assert loaded.files == (user, project.file)
    assert loaded.variables == ("PACKETFLOW_HTTP__PORT", "PACKETFLOW_LOG__LEVEL")


def test_each_value_knows_its_line(project):
    loaded = project.load('[http]\nport = 1\n\n[[modules]]\nname = "tax"\n[modules.config]\nrate = 2\n')
    assert loaded.origins == {
        "http.port": "config/node.toml:2",
        "modules.tax.name": "config/node.toml:5",
        "modules.tax.config.rate": "config/node.toml:7",
    }


def test_an_override_keeps_what_it_does_not_name(project):
    loaded = project.load(
        "[http]\nport = 1\nallowed_hosts = ['a']", environment={"PACKETFLOW_HTTP__PORT": "2"}
    )
    assert loaded.config.http.allowed_hosts == ("a",)
    assert loaded.values == {"http": {"port": 2, "allowed_hosts": ["a"]}}


# Finding the file


def test_without_a_path_the_nearest_file_above_counts(project):
    project.write("[http]\nport = 1\n")
    inner = project.folder / "a" / "b"
    inner.mkdir(parents=True)
    loaded = load_config(None, {}, folder=inner)
    assert (loaded.file, loaded.folder) == (project.file, project.folder)
    (project.folder / "a" / "node.toml").write_text("[http]\nport = 2\n")
    loaded = load_config(None, {}, folder=inner)
    assert (loaded.config.http.port, loaded.folder) == (2, project.folder / "a")


def test_without_any_file_there_are_defaults(tmp_path):
    loaded = load_config(None, {}, folder=tmp_path)
    assert (loaded.file, loaded.files, loaded.folder) == (None, (), tmp_path)
    assert loaded.config.node.data_folder == tmp_path / "run"


def test_the_file_may_be_named_by_a_variable(project):
    project.write("[http]\nport = 3\n", "other.toml")
    loaded = project.load(environment={"PACKETFLOW_CONFIG": "other.toml", "PACKETFLOW_NODE": "whatever"})
    assert (loaded.config.http.port, loaded.variables) == (3, ("PACKETFLOW_CONFIG",))
    assert "nothere.toml: no such file" in project.refused(environment={"PACKETFLOW_CONFIG": "nothere.toml"})


def test_relative_paths_begin_at_the_project_folder(project, monkeypatch, tmp_path):
    project.write("", "desk/capabilities.py")
    project.write("", "modules/x")
    monkeypatch.chdir(tmp_path)
    project.write(
        'module_path = ["modules"]\n[[capabilities]]\npath = "desk/capabilities.py"\n[node]\ndata_folder="d"'
    )
    config = load_config(project.file, {}).config
    assert config.module_path == (project.folder / "modules",)
    assert config.capabilities[0].path == project.folder / "desk" / "capabilities.py"
    assert config.node.data_folder == project.folder / "d"


# Environment and flags


@pytest.mark.parametrize(
    ("name", "text", "key", "value"),
    [
        ("HTTP__ENABLED", "false", "http.enabled", False),
        ("NODE__NAME", "n8080", "node.name", "n8080"),
        ("LIMITS__FRAME", "2 MiB", "limits.frame", 2 * 1024 * 1024),
        ("TIMEOUTS__HOOK", "250ms", "timeouts.hook", 0.25),
        ("TIMEOUTS__REQUEST", "5", "timeouts.request", 5.0),
        ("ACCESS__LOCAL", "a.*, b.*", "access.local", ["a.*", "b.*"]),
        ("ACCESS__LOCAL", '["a.*"]', "access.local", ["a.*"]),
        ("ACCESS__LOCAL", "", "access.local", []),
        ("MODULES__RATE_LIMIT__PRIORITY", "3", "modules.rate-limit.priority", 3),
        ("MODULES__0__PRIORITY", "3", "modules.rate-limit.priority", 3),
        ("MODULES__RATE_LIMIT__CONFIG__RATE", "2.5", "modules.rate-limit.config.Rate", 2.5),
        ("MODULES__RATE_LIMIT__CONFIG__NEW__DEEP", "word", "modules.rate-limit.config.new.deep", "word"),
        ("MODULES__RATE_LIMIT__CONFIG", "{a = 1}", "modules.rate-limit.config.a", 1),
        ("MODULES__RATE_LIMIT__MATCH", "a.*,b.*", "modules.rate-limit.match.capabilities", ["a.*", "b.*"]),
        ("MODULES__RATE_LIMIT__MATCH__NOT__TAGS", "x", "modules.rate-limit.match.not.tags", ["x"]),
        ("MODULES__RATE_LIMIT__ON_ERROR", "skip", "modules.rate-limit.on_error", "skip"),
        ("CAPABILITIES__0__MODULE", "json", "capabilities[0].module", "json"),
    ],
)
def test_a_variable_sets_a_key_by_the_type_of_its_field(project, name, text, key, value):
    loaded = project.load(
        '[[modules]]\nname = "rate-limit"\nconfig = { Rate = 1 }\n[[capabilities]]\nmodule = "os"\n',
        environment={f"PACKETFLOW_{name}": text},
    )
    row = next(row for row in flatten(loaded) if row.key == key)
    assert row.value == value
    assert row.origin == f"environment PACKETFLOW_{name}"


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("PACKETFLOW_HTTP_PORT", "PACKETFLOW_HTTP__PORT"),
        ("PACKETFLOW_HTTP__PROT", "PACKETFLOW_HTTP__PORT"),
        ("PACKETFLOW_HTTP", ""),
        ("PACKETFLOW_LOGLEVEL", "PACKETFLOW_LOG__LEVEL"),
        ("PACKETFLOW_CONFG", "PACKETFLOW_CONFIG"),
        ("PACKETFLOW_MODULES__TX__PRIORITY", "PACKETFLOW_MODULES__TAX__PRIORITY"),
        ("PACKETFLOW_MODULES__9__PRIORITY", "PACKETFLOW_MODULES__TAX__PRIORITY"),
        ("PACKETFLOW_MODULES", ""),
        ("PACKETFLOW_INCLUDE", ""),
        ("PACKETFLOW_", ""),
        ("PACKETFLOW___", ""),
        ("PACKETFLOW_HTTP__PORT__X", "PACKETFLOW_HTTP__PORT"),
    ],
)
def test_a_variable_that_is_no_key_is_a_fault_with_the_nearest(project, name, nearest):
    (fault,) = project.faults('[[modules]]\nname = "tax"\n', environment={name: "8080"})
    assert (fault.message, fault.file, fault.line) == ("unknown variable", f"environment {name}", 0)
    assert fault.given == "8080" or fault.given == '"8080"'
    if nearest:
        assert fault.nearest == nearest


def test_a_variables_wrong_value_is_told_with_its_name(project):
    assert project.refused("", environment={"PACKETFLOW_HTTP__PORT": "eighty"}) == (
        "environment PACKETFLOW_HTTP__PORT: wrong type in [http]\n"
        '  key http.port   given "eighty" (a string)\n'
        "  expected a port from 0 to 65535 (0: any free one), for example 7420\n1 error"
    )


def test_flags_that_were_not_given_are_none(project):
    loaded = project.load(
        "[http]\nport = 1\n", flags={"http.port": None, "log.level": "debug", "tcp.port": "0"}
    )
    assert (loaded.config.http.port, loaded.config.log.level, loaded.config.tcp.port) == (1, "debug", 0)


def test_an_unknown_flag_is_a_fault(project):
    (fault,) = project.faults("", flags={"log.levl": "info"})
    assert (fault.file, fault.key, fault.nearest) == ("flag log.levl", "log.levl", "log.level")
    for malformed in ("", ".", "a..b", "http.", "[0]", 'a."', "http.port.x", "modules", "http"):
        assert project.faults("", flags={malformed: 1})[0].message == "unknown key"


# Includes


def test_an_included_file_is_weaker_and_its_modules_count(project):
    project.write('[http]\nport = 1\n[log]\nlevel = "debug"\n[[modules]]\nname = "a"\n', "config/base.toml")
    loaded = project.load('include = ["base.toml"]\n[http]\nport = 2\n[[modules]]\nname = "b"\n')
    assert loaded.config.http.port == 2
    assert [module.name for module in loaded.config.modules] == ["a", "b"]
    assert loaded.origins["log.level"] == "config/base.toml:4"
    assert loaded.origins["modules.a.name"] == "config/base.toml:6"
    assert loaded.origins["modules.b.name"] == "config/node.toml:5"
    assert loaded.files == (project.folder / "config" / "base.toml", project.file)


def test_include_is_also_a_table_of_files(project):
    project.write("[http]\nport = 1\n", "more/base.toml")
    assert project.load('[include]\nfiles = ["../more/base.toml"]\n').config.http.port == 1


def test_files_that_include_each_other_are_refused_by_name(project, shows):
    project.write('include = ["b.toml"]\n', "config/a.toml")
    project.write('include = ["a.toml"]\n', "config/b.toml")
    assert project.refused('include = ["a.toml"]') == shows(
        """
        config/b.toml:1:12: files include each other: config/a.toml > config/b.toml > config/a.toml
           1 | include = ["a.toml"]
             |            ^^^^^^^^
          key include   given "a.toml"
        1 error
        """
    )
    assert "config/node.toml > config/node.toml" in project.refused('include = ["node.toml"]')


def test_a_file_included_twice_counts_once(project):
    project.write('[[modules]]\nname = "a"\n', "config/base.toml")
    project.write('include = ["base.toml"]\n', "config/more.toml")
    loaded = project.load('include = ["base.toml", "more.toml", "base.toml"]\n')
    assert [module.name for module in loaded.config.modules] == ["a"]


def test_a_missing_include_is_told_where_it_is_named(project):
    project.write("", "config/modules.toml")
    (fault,) = project.faults('include = [\n  "modles.toml",\n]\n')
    assert (fault.line, fault.column, fault.given, fault.nearest) == (2, 3, '"modles.toml"', "modules.toml")
    assert fault.message == f"no such file: {project.folder}/config/modles.toml"


def test_faults_in_an_included_file_are_told_there_with_those_of_the_rest(project):
    project.write("[htp]\n", "config/a.toml")
    project.write("x = \n", "config/b.toml")
    faults = project.faults('include = ["a.toml", "b.toml"]\n[tcp]\nprot = 1\n')
    assert sorted(str(fault.place) for fault in faults) == [
        "config/a.toml:1:2",
        "config/b.toml:1:4",
        "config/node.toml:3:1",
    ]


# Showing


def test_every_key_is_a_row_with_its_origin(project):
    rows = {
        row.key: row
        for row in flatten(project.load('[[modules]]\nname = "a"\nmatch = ["x.*"]\n[timeouts]\nhook = 2'))
    }
    assert rows["http.port"] == ("http.port", 7421, "default")
    assert rows["modules.a.match.capabilities"].origin == "config/node.toml:3"
    assert rows["modules.a.match.tags"].origin == "default"
    assert rows["modules.a.timeout"] == ("modules.a.timeout", 2.0, "config/node.toml:5")
    assert rows["node.data_folder"].value == str(project.folder / "run")


def test_the_difference_names_the_keys_that_changed(project):
    old = project.load('[http]\nport = 1\n[[modules]]\nname = "a"\n[[modules]]\nname = "b"\n')
    new = project.load('[http]\nport = 2\n[[modules]]\nname = "b"\n[[modules]]\nname = "a"\npriority = 3\n')
    assert diff(old, new) == [("http.port", 1, 2), ("modules.a.priority", 500, 3)]
    assert diff(new, new) == []


def test_file_value_is_what_the_files_say_whatever_wins(project):
    loaded = project.load(
        '[http]\nport = 1\n[[modules]]\nname = "a"\npriority = 3\n',
        environment={"PACKETFLOW_HTTP__PORT": "9"},
        overlay={"modules.a.priority": 7},
    )
    assert loaded.file_value("http.port") == 1
    assert loaded.file_value("modules.a.priority") == 3
    assert loaded.file_value("modules.a.enabled") is None
    with pytest.raises(UnknownKey):
        loaded.file_value("modules.b.enabled")


def test_a_loaded_configuration_is_immutable(project):
    loaded = project.load("")
    for change in (lambda: setattr(loaded, "file", Path()), lambda: setattr(loaded.config.http, "port", 1)):
        with pytest.raises((AttributeError, ValueError)):
            change()
