"""The schema itself: documented, exported, in step with the documentation and with the shipped files."""

from __future__ import annotations

import ast
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from packetflow import Module
from packetflow.node.config import ConfigError, NodeConfig, check_module_config, json_schema, load_config
from packetflow.node.config.checks import expected_of
from packetflow.node.config.json_schema import sections_of
from packetflow.node.config.layers import known_variables
from packetflow.node.config.quantities import duration_text, parse_duration, parse_size, size_text
from packetflow.node.config.reference import written_into

ROOT = Path(__file__).parents[3]


def models(model: type[BaseModel] = NodeConfig):
    yield model
    for part in sections_of(model).values():
        yield from models(part)


def test_every_key_says_what_it_means_and_what_it_takes():
    for model in models():
        for name, field in model.model_fields.items():
            assert field.description, f"{model.__name__}.{name} has no description"
            assert expected_of(field, ()) is not None, (
                f"{model.__name__}.{name} does not say what is expected"
            )


def test_the_documentation_lists_every_key_as_the_schema_has_it():
    text = (ROOT / "docs" / "configuration.md").read_text()
    assert written_into(text) == text, "run: python -m packetflow.node.config.reference docs/configuration.md"


def test_a_document_without_marks_is_refused():
    with pytest.raises(ValueError, match="the document lacks"):
        written_into("# Configuration")


def test_the_json_schema_is_exported_whole_and_by_section():
    whole = json_schema()
    assert whole["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert whole["additionalProperties"] is False
    assert json.loads(json.dumps(whole)) == whole
    assert json_schema("http")["properties"]["port"]["maximum"] == 65535
    assert "priority" in json_schema("modules")["properties"]
    assert "not" in json_schema("modules.match")["properties"]
    with pytest.raises(KeyError, match="no section 'htp', nearest http"):
        json_schema("htp")
    with pytest.raises(KeyError, match=r"no section 'http\.port'"):
        json_schema("http.port")


def test_defaults_are_those_of_the_rulings():
    config = NodeConfig()
    assert (config.timeouts.request, config.timeouts.hook, config.timeouts.start) == (30, 1, 30)
    assert (config.timeouts.shutdown, config.timeouts.drain) == (5, 30)
    assert (config.limits.frame, config.limits.payload, config.limits.depth) == (2**20, 2**20, 32)
    assert (config.limits.string, config.limits.collection) == (2**18, 10_000)
    assert (config.limits.in_flight_session, config.limits.in_flight_node, config.limits.queue) == (
        64,
        1024,
        256,
    )
    assert (config.traces.keep, config.traces.memory) == (1000, 64 * 2**20)
    module = NodeConfig.model_validate({"modules": [{"name": "a"}]}).modules[0]
    assert (module.module, module.priority, module.scope, module.on_error) == ("a", 500, "all", None)
    assert (module.match.capabilities, module.max_concurrency, module.timeout) == (("*",), 1, 1.0)


def test_a_configuration_made_in_code_is_held_to_the_same_rules():
    with pytest.raises(ValidationError, match="callers are not authenticated"):
        NodeConfig.model_validate({"http": {"host": "0.0.0.0"}})
    with pytest.raises(ValidationError, match='two modules are called "a"'):
        NodeConfig.model_validate({"modules": [{"name": "a"}, {"name": "a"}]})


@pytest.mark.parametrize("name", ["node", "development", "production"])
def test_the_shipped_files_load_without_a_warning(name):
    loaded = load_config(ROOT / "config" / f"{name}.toml", {}, folder=ROOT)
    assert loaded.warnings == ()
    assert [module.name for module in loaded.config.modules] == ["request_log", "rate_limit", "pii_redaction"]
    assert [module.priority for module in loaded.config.modules] == [50, 100, 200]
    assert loaded.folder == ROOT


def test_each_key_has_a_variable_that_sets_it(tmp_path):
    names = list(known_variables(load_config(None, {}, folder=tmp_path).layers))
    assert "PACKETFLOW_HTTP__PORT" in names
    assert len(names) == len(set(names))
    for name in names:
        if name == "PACKETFLOW_CONFIG":
            continue
        assert "unknown variable" not in complaint({name: "1"}, tmp_path)
    assert "unknown variable" in complaint({"PACKETFLOW_X": "1"}, tmp_path)


def complaint(environment: dict[str, str], folder: Path) -> str:
    try:
        load_config(None, environment, folder=folder)
    except ConfigError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("text", "size"),
    [("64 MiB", 2**26), ("1kb", 1000), ("1.5KiB", 1536), ("7", 7), ("7 b", 7), (9, 9), (" 2 GiB ", 2**31)],
)
def test_sizes(text, size):
    assert parse_size(text) == size
    assert parse_size(size_text(size)) == size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("250 us", 0.00025), ("5m", 300), ("1.5h", 5400), ("2d", 172800), ("3", 3), (4, 4)],
)
def test_durations(text, seconds):
    assert parse_duration(text) == seconds
    assert parse_duration(duration_text(seconds)) == pytest.approx(seconds)


def test_importing_it_loads_neither_gevent_nor_the_rest_of_the_node():
    code = "import sys, packetflow.node.config; print([name for name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = ast.literal_eval(done.stdout)
    assert not [name for name in loaded if name.partition(".")[0] in ("gevent", "structlog", "msgpack")]
    ours = {
        name
        for name in loaded
        if name.startswith("packetflow.")
        and not name.startswith(("packetflow.node.config", "packetflow.documents"))
    }
    storage = {"packetflow.storage", "packetflow.storage.disk"}  # the overlay is written by it
    wire = {"packetflow.wire", "packetflow.wire.ids"}  # which ids are the node's own
    assert ours - storage - wire <= {
        "packetflow._version",
        "packetflow.node",
        "packetflow.otp",
        "packetflow.otp.errors",
    }


def test_the_shipped_modules_take_the_configs_that_the_default_file_gives_them(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    loaded = load_config(ROOT / "config" / "node.toml", {}, folder=ROOT)
    for index, entry in enumerate(loaded.config.modules):
        code = importlib.import_module(f"modules.{entry.module}.{entry.module}")
        (author,) = [
            kind
            for kind in vars(code).values()
            if isinstance(kind, type) and kind.__module__ == code.__name__ and issubclass(kind, Module)
        ]
        config = check_module_config(loaded, index, author.Config)
        assert isinstance(config, author.Config), config
