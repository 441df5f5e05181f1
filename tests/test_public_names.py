"""The public names: one import gives them, each has a docstring, and the list changes only on purpose."""

from __future__ import annotations

import inspect

import packetflow
import packetflow.errors
from packetflow.errors import PacketFlowError

NAMES = [
    "Change", "Client", "Context", "Continue", "EffectBackend", "Intercept", "Module", "Node", "Optimize", "Pool", "Progress",
    "Reject", "Request", "ResourceSettings", "Respond", "Response", "Secret", "Stream", "Transform", "__version__", "all_of",
    "any_of", "audit", "capability", "counter", "effect", "emit", "gauge", "histogram", "not_", "notify", "resource", "roles",
    "ttl",
]  # fmt: skip


def test_the_common_names_are_these() -> None:
    assert sorted(packetflow.__all__) == NAMES


def test_each_can_be_had_and_says_what_it_is() -> None:
    for name in NAMES:
        value = getattr(packetflow, name)
        assert name == "__version__" or inspect.getdoc(value), name


def test_the_stub_and_the_lazy_root_name_the_same() -> None:
    from pathlib import Path

    stub = Path(packetflow.__file__).with_suffix(".pyi").read_text()
    for name in NAMES:
        assert f" as {name}" in stub or f"{name}:" in stub, name


def test_one_import_gives_every_error_and_all_have_one_base_and_a_code() -> None:
    def below(kind: type) -> set[type]:
        return {kind}.union(*(below(sub) for sub in kind.__subclasses__()))

    ours = {kind for kind in below(PacketFlowError) if kind.__module__.startswith("packetflow.")}
    named = {getattr(packetflow.errors, name) for name in packetflow.errors.__all__}
    assert ours - named == set(), "errors that packetflow.errors does not show"
    assert all(isinstance(kind.code, str) and kind.code for kind in ours)
