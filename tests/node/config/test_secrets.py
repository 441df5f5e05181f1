"""Secrets: by reference only, seen by nobody but who reveals them."""

from __future__ import annotations

import copy
import json
import os
import pickle

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError

from packetflow.node.config import Secret, SecretError, check_module_config, module_config
from packetflow.node.config.secrets import FORMS, looks_secret
from packetflow.node.config.show import flatten, nested


class Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    password: Secret
    more: dict[str, Secret] = {}


def module(text: str) -> str:
    return f'[[modules]]\nname = "shop"\n[modules.config]\n{text}\n'


def made(project, text, environment=None):
    return check_module_config(project.load(module(text), environment=environment), 0, Config)


def the_fault(project, text, environment=None):
    (fault,) = made(project, text, environment)
    return fault


def test_a_secret_comes_from_a_file_without_its_last_line_end(project):
    project.write("hunter2\n", "run/password").chmod(0o600)
    config = made(project, 'password = { file = "run/password" }')
    assert config.password.reveal() == "hunter2"


def test_a_file_is_read_once_and_a_token_file_whenever_it_changes(project):
    path = project.write("one", "secret")
    path.chmod(0o600)
    config = made(project, 'password = { file = "secret" }\nmore = { t = { token_file = "secret" } }')
    assert (config.password.reveal(), config.more["t"].reveal()) == ("one", "one")
    new = project.write("second", "new")
    os.replace(new, path)
    assert (config.password.reveal(), config.more["t"].reveal()) == ("one", "second")
    path.unlink()
    with pytest.raises(SecretError, match="No such file"):
        config.more["t"].reveal()


def test_a_secret_comes_from_the_environment_that_the_node_was_given(project):
    config = made(project, 'password = { env = "SHOP" }', {"SHOP": "hunter2"})
    assert config.password.reveal() == "hunter2"


def test_a_secret_comes_from_a_program_that_runs_when_it_is_needed(project):
    script = project.write('#!/bin/sh\necho ran >> "$0.log"\necho "hunter2 $1"\n', "tool")
    script.chmod(0o700)
    config = made(project, 'password = { exec = ["./tool", "x"] }', {"PATH": os.environ["PATH"]})
    assert not (project.folder / "tool.log").exists()
    assert [config.password.reveal(), config.password.reveal()] == ["hunter2 x"] * 2
    assert (project.folder / "tool.log").read_text() == "ran\n"


def test_a_program_that_fails_does_not_show_what_it_said(project):
    script = project.write("#!/bin/sh\necho hunter2; echo hunter2 >&2; exit 3\n", "tool")
    script.chmod(0o700)
    config = made(project, 'password = { exec = ["./tool"] }', {"PATH": os.environ["PATH"]})
    with pytest.raises(SecretError, match=r"^the secret's program \./tool ended with 3$"):
        config.password.reveal()


def test_nothing_but_reveal_shows_it(project):
    config = made(project, 'password = { env = "SHOP" }', {"SHOP": "hunter2"})
    config.password.reveal()
    assert repr(config) == "Config(password=Secret(****), more={})"
    assert f"{config.password}" == "****"
    assert json.loads(config.model_dump_json()) == {"password": "****", "more": {}}
    assert copy.deepcopy(config).password.reveal() == "hunter2"
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(config.password)
    assert "hunter2" not in repr(vars(type(config.password)))
    assert repr(Secret.of("hunter2")) == "Secret(****)"
    assert Secret.of("hunter2").reveal() == "hunter2"


def test_its_json_schema_shows_the_forms():
    schema = Config.model_json_schema()["properties"]["password"]
    assert [next(iter(form["properties"])) for form in schema["oneOf"]] == [
        "file",
        "env",
        "exec",
        "token_file",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{ fil = 'x' }", "unknown way to a secret: fil, nearest file"),
        ("{ file = 'x', env = 'y' }", "a secret has exactly one way to it"),
        ("{}", "a secret has exactly one way to it"),
        ("{ env = '' }", "env takes a text that is not empty"),
        ("{ env = 3 }", "env takes a text that is not empty"),
        ("{ exec = 'pass x' }", "exec takes a list of texts: the program"),
        ("{ exec = [] }", "exec takes a list of texts: the program"),
        ("3", "a secret is written out"),
    ],
)
def test_a_malformed_reference_is_told_with_the_forms(project, text, message):
    fault = the_fault(project, f"password = {text}")
    assert fault.message.startswith(message)
    assert (str(fault.place), fault.key) == ("config/node.toml:4:12", "modules[0].config.password")
    assert fault.expected == FORMS


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ('{ file = "nothere" }', "the secret's file {folder}/nothere: No such file or directory"),
        ('{ token_file = "nothere" }', "the secret's file {folder}/nothere: No such file or directory"),
        ('{ file = "config" }', "the secret's file {folder}/config is no regular file"),
        ('{ file = "empty" }', "the secret's file {folder}/empty is empty"),
        ('{ file = "binary" }', "the secret's file {folder}/binary is not UTF-8"),
        ('{ file = "huge" }', "the secret's file {folder}/huge is larger than 64 KiB"),
        (
            '{ file = "a\\u0000" }',
            "the secret's file {folder}/a\\x00: its name holds a character that no file's name may hold",
        ),
        ('{ file = "open" }', "the secret's file {folder}/open can be written by everybody"),
        (
            '{ env = "SHOP_PASSWROD" }',
            "the secret's environment variable SHOP_PASSWROD is not set; nearest SHOP_PASSWORD",
        ),
        ('{ env = "EMPTY" }', "the secret's environment variable EMPTY is empty"),
        (
            '{ exec = ["no-such-program-xyz"] }',
            "the secret's program no-such-program-xyz is not there or may not be run",
        ),
    ],
)
def test_a_secret_that_can_not_be_had_is_a_fault_at_its_place(project, reference, message):
    for name, data in (("empty", b"\n"), ("binary", b"\xff"), ("huge", b"x" * 70_000), ("open", b"x")):
        project.write(data, name).chmod(0o606 if name == "open" else 0o600)
    fault = the_fault(project, f"password = {reference}", {"SHOP_PASSWORD": "x", "EMPTY": "", "PATH": "/bin"})
    assert fault.message == message.format(folder=project.folder)
    assert (str(fault.place), fault.key) == ("config/node.toml:4:12", "modules[0].config.password")


def test_a_file_that_others_can_read_is_a_warning(project):
    project.write("hunter2", "password").chmod(0o644)
    loaded = project.load(module('password = { file = "password" }'))
    config, faults = module_config(loaded, 0, Config)
    assert config.password.reveal() == "hunter2"
    assert [(f.severity, f.message, f.next) for f in faults] == [
        (
            "warning",
            f"the secret's file {project.folder}/password can be read by others",
            f"chmod 600 {project.folder}/password",
        )
    ]


@pytest.mark.parametrize(
    "line",
    [
        'password = "hunter2"',
        'db-password = "hunter2"',
        'apiKey = "hunter2"',
        'x = { auth_token = "hunter2" }',
        'tokens = ["hunter2"]',
        'url = "postgres://ana:hunter2@db/shop"',
        'urls = ["redis://:hunter2@cache"]',
        'password = """\nhunter2\nhunter2"""',
    ],
)
def test_a_secret_that_is_written_out_is_refused_and_not_shown(project, line):
    text = project.refused(module(line))
    assert "hunter2" not in text
    assert "config/node.toml:4:" in text
    assert "written out in the config of module" in text
    assert f"expected {FORMS}" in text
    assert "given ****" in text


def test_it_is_not_shown_in_the_excerpts_of_other_faults_either(project):
    text = project.refused(
        module('x = { password = "hunter2" }') + '[[modules]]\nname = { password = "hunter2" }\n'
    )
    assert "hunter2" not in text
    assert "name = { password = *********" in text
    assert "hunter2" not in project.refused('[http]\npasswrd = "hunter2"\npassword = "hunter2"\n')
    assert "hunter2" not in project.refused("", flags={"modules.x.config.password": "hunter2"})
    assert "hunter2" not in project.refused("", environment={"PACKETFLOW_PASSWORD": "hunter2"})


def test_flags_may_not_carry_secrets_since_everybody_sees_them(project):
    (fault,) = project.faults(module("x = 1"), flags={"modules.shop.config.password": "hunter2"})
    assert (fault.file, fault.given) == ("flag modules.shop.config.password", "****")


def test_a_variable_may_carry_one_and_becomes_a_reference_to_itself(project):
    name = "PACKETFLOW_MODULES__SHOP__CONFIG__PASSWORD"
    loaded = project.load(module("[modules.config.more]"), environment={name: "hunter2"})
    assert loaded.config.modules[0].config["password"] == {"env": name}
    assert check_module_config(loaded, 0, Config).password.reveal() == "hunter2"
    assert "hunter2" not in f"{nested(loaded)} {flatten(loaded)} {loaded.config!r} {loaded!r}"


@pytest.mark.parametrize(
    "key", ["password", "db_password", "apiKey", "api-key", "API_KEY", "authToken", "client_secret"]
)
def test_what_looks_like_a_secret(key):
    assert looks_secret(key)


@pytest.mark.parametrize(
    "key", ["token_file", "max_token_count", "key", "keys", "secretary", "password_hint", "", "monkey"]
)
def test_what_does_not(key):
    assert not looks_secret(key)


def test_numbers_and_switches_under_such_a_key_are_no_secrets(project):
    assert (
        project.load(module("tokens = 3\npassword = false\nsecret = ''")).config.modules[0].config["tokens"]
        == 3
    )


def test_a_capabilitys_config_gets_secrets_without_a_schema(project):
    source = '[[capabilities]]\nmodule = "os"\n[capabilities.config]\nretries = 3\n'
    loaded = project.load(source + 'db.password = { env = "DB" }\n', environment={"DB": "hunter2"})
    config = loaded.config.capabilities[0].config
    assert config["db"]["password"].reveal() == "hunter2"
    assert config["retries"] == 3
    assert "hunter2" not in f"{nested(loaded)} {flatten(loaded)} {loaded!r}"
    (fault,) = project.faults(source + 'password = { env = "DB" }\n')
    assert (str(fault.place), fault.key) == ("config/node.toml:5:12", "capabilities[0].config.password")
    (fault,) = project.faults(source + 'password = { envi = "DB" }\n')
    assert fault.message == "unknown way to a secret: envi, nearest env"


def test_pydantics_own_text_does_not_show_a_literal():
    class Quiet(BaseModel):
        model_config = ConfigDict(hide_input_in_errors=True)
        password: Secret

    with pytest.raises(ValidationError) as raised:
        Quiet.model_validate({"password": "hunter2"})
    assert "hunter2" not in str(raised.value)
    assert "a secret is never written out" in str(raised.value)
