from __future__ import annotations

import pytest

from packetflow.intelligence.loader import available
from tests.modules.starting import MODULES, loaded

SHIPPED = ("pii_redaction", "rate_limit", "request_log")


def test_the_shipped_modules_are_found_on_the_module_path() -> None:
    assert set(SHIPPED) <= set(available([MODULES]))


@pytest.mark.parametrize("name", SHIPPED)
def test_a_module_loads_and_its_manifest_tells_its_hooks(name: str) -> None:
    found = loaded(name)  # refuses a manifest that does not fit the class
    assert found.manifest.name == name
    assert found.manifest.hooks
    assert found.manifest.description


@pytest.mark.parametrize("name", SHIPPED)
def test_a_readme_explains_every_key_of_the_configuration(name: str) -> None:
    text = (MODULES / name / "README.md").read_text(encoding="utf-8")
    for key in loaded(name).cls.Config.model_fields:
        assert f"`{key}`" in text
