"""What the tests of registries share: an actor that does something, and what that gives or raises."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from packetflow.otp import Ref, Registry, System, call
from tests.otp.actors import Puppet


def do(actor: Ref, action: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
    """Has an actor do something in its own turn. What that raises is raised here, and the actor lives on."""

    def request(server: Any, caller: Any) -> Any:
        try:
            return True, action(*arguments, **keywords)
        except Exception as error:  # noqa: BLE001 - raised again where the test sees it
            return False, error

    worked, value = call(actor, request)
    if worked:
        return value
    raise value


def puppet(system: System, **options: Any) -> Ref:
    ref = Puppet.start(system=system, **options)
    assert ref is not None
    return ref


def registry_of(kind: Any, system: System, name: str = "r", **options: Any) -> Registry:
    return Registry.start(kind, name=name, system=system, **options)
