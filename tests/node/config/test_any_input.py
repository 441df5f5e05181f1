"""Whatever is in the files, the environment and the flags: a configuration, or faults. Never another exception."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from packetflow.node.config import ConfigError, LoadedConfig, Secret, load_config, module_config
from packetflow.node.config.show import diff, flatten, nested

ROOT = Path(__file__).parents[3]
GOOD = (ROOT / "config" / "node.toml").read_text() + (
    '\n[[modules]]\nname = "more"\nmatch = { tags = ["a"], not = { tenants = ["b"] } }\nmax_concurrency = "unlimited"\n'
    'config = { password = { env = "HOME" }, odd = [1, 2.5, "x\\n", { a = 1979-05-27T07:32:00Z }] }\n'
    '[limits]\nframe = "2 MiB"\n'
)
TOKENS = [
    "[", "]", "[[", "]]", "{", "}", "=", ".", ",", '"', "'", '"""', "#", "\n", "\r", "\r\n", "\t", "\\", "\x00", "\x1b[31m",
    "é", "\u202e", "nan", "inf", "-1", "1e999", "0x", "9" * 30, "true", "[http]\n", "[[modules]]\n", "modules = 3\n",
    "include = ['node.toml']\n", "password = 'x'\n", "1979-05-27", "\ufeff", '"a.b"', "[" * 40,
]  # fmt: skip


def hold(text: bytes, environment: dict[str, str] | None = None, flags: dict[str, Any] | None = None) -> None:
    """Load the text; if it is refused, every fault lies inside its file (or is no file's) and can be shown."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "node.toml").write_bytes(text)
        try:
            loaded = load_config(None, environment or {}, flags, folder=folder)
        except ConfigError as error:
            check_faults(error, text)
        else:
            check_loaded(loaded)


def check_faults(error: ConfigError, text: bytes) -> None:
    assert error.faults
    lines = text.decode("utf-8", "replace").removeprefix("\ufeff").replace("\r\n", "\n").split("\n")
    assert all(line.isprintable() for line in str(error).split("\n"))
    for fault in error.faults:
        assert fault.message
        assert fault.as_dict()["file"] == fault.file
        if not fault.line:
            assert fault.file.startswith(("environment ", "flag ", "node.toml", "the configuration"))
            continue
        assert fault.file == "node.toml"
        assert 1 <= fault.line <= len(lines)
        assert 1 <= fault.column <= len(lines[fault.line - 1]) + 2
        assert fault.column <= max(fault.end, fault.column)


def check_loaded(loaded: LoadedConfig) -> None:
    keys = [row.key for row in flatten(loaded)]
    assert len(keys) == len(set(keys))
    assert nested(loaded)
    assert diff(loaded, loaded) == []
    for index in range(len(loaded.config.modules)):
        module_config(loaded, index, Picky)


class Picky(BaseModel):
    rate: int = 1
    password: Secret | None = None
    odd: list[dict[str, int]] = []


@st.composite
def mutated(draw: st.DrawFn) -> str:
    text = GOOD
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        kind = draw(st.sampled_from(["insert", "delete", "double", "replace", "swap lines"]))
        end = min(len(text), start + draw(st.integers(0, 40)))
        if kind == "insert":
            text = text[:start] + draw(st.sampled_from(TOKENS)) + text[start:]
        elif kind == "delete":
            text = text[:start] + text[end:]
        elif kind == "double":
            text = text[:end] + text[start:end] + text[end:]
        elif kind == "replace":
            text = text[:start] + draw(st.text(max_size=5)) + text[end:]
        else:
            lines = text.split("\n")
            line = draw(st.integers(0, len(lines) - 1))
            lines.insert(draw(st.integers(0, len(lines) - 1)), lines.pop(line))
            text = "\n".join(lines)
    return text


@settings(max_examples=150, deadline=None)
@given(mutated())
def test_a_mutated_configuration_loads_or_is_told_with_places(text):
    hold(text.encode("utf-8", "replace"))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
@example(b"\xef\xbb\xbf")
@example(b"\xff\xfe")
def test_any_bytes_load_or_are_told_with_places(data):
    hold(data)


VALUES = st.recursive(
    st.one_of(
        st.integers(),
        st.booleans(),
        st.floats().map(str),
        st.sampled_from(['"x"', "''", "1979-05-27", '"64 MiB"', '"*"', '"/"']),
    ).map(lambda value: str(value).lower() if isinstance(value, bool) else str(value)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]"),
        st.dictionaries(st.sampled_from(["files", "tags", "name", "env", "x"]), inner, max_size=2).map(
            lambda pairs: "{" + ", ".join(f"{key} = {value}" for key, value in pairs.items()) + "}"
        ),
    ),
    max_leaves=5,
)
KEYS = [
    "include", "module_path", "node", "http", "modules", "capabilities", "access", "timeouts", "http.port", "node.name",
    "node.data_folder", "tcp.host", "limits.frame", "timeouts.hook", "access.local", "log.level", "password", '"a b"',
]  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=4))
def test_any_value_under_any_key_loads_or_is_told_with_places(pairs):
    hold("\n".join(f"{key} = {value}" for key, value in pairs.items()).encode())


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(
        st.one_of(
            st.sampled_from(
                ["HTTP__PORT", "MODULES__MORE__CONFIG__X", "MODULES__MORE", "MODULES__0__MATCH", "LOG", ""]
            ),
            st.text(st.sampled_from("ABC_012é\udcff"), max_size=12),
        ).map(lambda name: f"PACKETFLOW_{name}"),
        st.one_of(st.text(max_size=20), VALUES, st.sampled_from(["[" * 2000, "\udcff", "{a=1", "9" * 5000])),
        max_size=3,
    ),
    st.dictionaries(
        st.one_of(
            st.sampled_from(["http.port", "modules.more.config.x", "modules[1].match"]), st.text(max_size=10)
        ),
        st.one_of(st.none(), st.integers(), st.text(max_size=10), st.lists(st.integers(), max_size=2)),
        max_size=2,
    ),
)
def test_any_environment_and_flags_load_or_are_told_by_name(environment, flags):
    hold(GOOD.encode(), environment, flags)


@pytest.mark.parametrize(
    "text", ["a=1\n" * 2, "[" * 100, "]" * 100, "." * 100, '"' * 7, "'" * 7, "\\" * 9, "\x85 = 1"]
)
def test_odd_texts(text):
    hold(text.encode())
