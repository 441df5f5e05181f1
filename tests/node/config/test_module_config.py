"""A module's own configuration, checked by its own class, with faults at the file's places."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, field_validator

from packetflow.node.config import Fault, check_module_config


class Limit(BaseModel):
    model_config = ConfigDict(extra="forbid")
    rate: float = 1.0


class Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    rate: Annotated[float, Field(gt=0)] = 50.0
    per: Literal["principal", "capability"] = "principal"
    names: tuple[str, ...] = ()
    overrides: dict[str, Limit] = {}
    target: str | list[int] = "x"
    odd: int = 1

    @field_validator("odd")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value == 0:
            raise RuntimeError("a validator's own fault")
        if value % 2 == 0:
            raise ValueError("an odd number, please")
        return value


def check(project, text):
    return check_module_config(
        project.load(f'[[modules]]\nname = "limit"\n[modules.config]\n{text}\n'), 0, Config
    )


def test_a_good_config_is_an_instance(project):
    config = check(project, 'rate = 2.5\nnames = ["a"]\noverrides = { "ticket.*" = { rate = 3.0 } }')
    assert isinstance(config, Config)
    assert (config.rate, config.names, config.overrides["ticket.*"].rate) == (2.5, ("a",), 3.0)


def test_a_module_without_a_config_table_has_its_defaults(project):
    assert check_module_config(project.load('[[modules]]\nname = "limit"\n'), 0, Config) == Config()


@pytest.mark.parametrize(
    ("text", "place", "key", "message", "given", "expected", "nearest"),
    [
        (
            "rat = 1",
            "4:1",
            "rat",
            'unknown key in the config of module "limit"',
            "1",
            "rate, per, names,",
            "rate",
        ),
        ("rate = 0", "4:8", "rate", "out of range in", "0", "greater than 0", ""),
        ('rate = "x"', "4:8", "rate", "wrong type in", '"x" (a string)', "a valid number", ""),
        (
            'per = "princpal"',
            "4:7",
            "per",
            "unknown word in",
            '"princpal"',
            "'principal' or 'capability'",
            "principal",
        ),
        ("names = ['a', 3]", "4:15", "names[1]", "wrong type in", "3 (an integer)", "a valid string", ""),
        ("odd = 2", "4:7", "odd", "an odd number, please in", "2", "an integer", ""),
        (
            'overrides = { "ticket.*" = { rte = 3.0 } }',
            "4:30",
            'overrides."ticket.*".rte',
            "unknown key in",
            "3.0",
            "rate",
            "rate",
        ),
        (
            '[modules.config.overrides.a]\nrate = "y"',
            "5:8",
            "overrides.a.rate",
            "wrong type in",
            '"y"',
            "a valid number",
            "",
        ),
    ],
)
def test_a_fault_is_told_at_the_place_in_the_file(
    project, text, place, key, message, given, expected, nearest
):
    (fault,) = check(project, text)
    assert f"{fault.line}:{fault.column}" == place
    assert fault.key == f"modules[0].config.{key}"
    assert fault.message.startswith(message)
    assert fault.given.startswith(given)
    assert fault.expected.startswith(expected)
    assert fault.nearest == nearest


def test_all_faults_are_told_in_order(project):
    assert [fault.line for fault in check(project, "odd = 4\nrate = 0\nx = 1")] == [4, 5, 6]


def test_a_unions_faults_are_told_at_the_value(project):
    faults = check(project, "target = { a = 1 }")
    assert {str(fault.place) for fault in faults} == {"config/node.toml:4:10"}


def test_what_a_validator_raises_is_a_fault_of_the_module(project):
    (fault,) = check(project, "odd = 0")
    assert isinstance(fault, Fault)
    assert fault.message == 'the Config of module "limit" raised RuntimeError: a validator\'s own fault'
    assert fault.line == 3


def test_a_missing_key_is_told_at_the_table(project):
    class Needs(BaseModel):
        target: str

    loaded = project.load('[[modules]]\nname = "limit"\n[modules.config]\n')
    (fault,) = check_module_config(loaded, 0, Needs)
    assert (fault.line, fault.key, fault.expected) == (3, "modules[0].config.target", "a string")
    loaded = project.load('\n[[modules]]\nname = "limit"\n')
    (fault,) = check_module_config(loaded, 0, Needs)
    assert (fault.line, fault.column) == (2, 1)
