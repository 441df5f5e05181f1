"""Request and Response: what passes through the chain. Immutable by slots and a frozen class, because both are made
for every request."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NoReturn

from packetflow.wire.errors import RequestError
from packetflow.wire.stream import Progress

MASK = "***"
EMPTY: Mapping[str, Any] = MappingProxyType({})


class Metadata:
    """What a caller says about a request beside its payload. Seconds throughout; None means not said.

    timeout: how long the caller waits; for each item, if it is a stream. idempotency_key: two requests of one key are one.
    traceparent: W3C trace context. credit: the items that a caller by wire takes before it says more; None: it takes no
    stream. progress: told how far the request is, by the greenlet or thread that knows; it must not block.
    step_key: what a capability can tell a repeated step of a run by; nothing on the node looks at it. run: the composition is to
    run durably, and this is told of the run (`id`); nobody waits for it.
    """

    __slots__ = ("credit", "idempotency_key", "progress", "run", "step_key", "timeout", "traceparent")

    def __init__(
        self,
        timeout: float | None = None,
        idempotency_key: str | None = None,
        traceparent: str | None = None,
        credit: int | None = None,
        progress: Callable[[Progress], None] | None = None,
        step_key: str | None = None,
        run: Any = None,
    ) -> None:
        self.timeout = timeout
        self.idempotency_key = idempotency_key
        self.traceparent = traceparent
        self.credit = credit
        self.progress = progress
        self.step_key = step_key
        self.run = run

    def over_http(self, streams: bool, progress: Callable[[Progress], None] | None) -> Metadata:
        """A copy of which the `Accept` header was heard: whether the caller takes a stream, and who is told of progress."""
        credit = 0 if streams else None
        return Metadata(self.timeout, self.idempotency_key, self.traceparent, credit, progress)


NO_METADATA = Metadata()


class _Request:
    """Filled as this class, then made a `Request`: as frozen as a dataclass at a quarter of the price."""

    __slots__ = ("capability", "hints", "intent", "metadata", "payload", "plan")

    capability: str
    payload: Mapping[str, Any]
    intent: str | None
    hints: Mapping[str, Any]
    metadata: Metadata
    plan: object | None


class Request(_Request):
    """What somebody asks: a capability by id, with a payload that has passed the contract.

    capability: the id without version. payload: the contract's values by name, to be read only; values inside it must
    not be changed either. intent: what the caller said it wants, in words. hints: what modules tell each other and the
    engine. plan: the composition to run instead of the capability alone (opaque here).

    A changed request is a new one: `with_payload`, `with_capability`, `with_hints`.
    """

    __slots__ = ()

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a request is immutable: use with_payload({name}=...) to make a changed one")

    __delattr__ = __setattr__  # type: ignore[assignment]

    def with_payload(self, **changes: Any) -> Request:
        """A copy with these payload fields set."""
        return make_request(
            self.capability, {**self.payload, **changes}, self.intent, self.hints, self.metadata, self.plan
        )

    def without(self, *names: str) -> Request:
        """A copy without these payload fields."""
        left = {key: value for key, value in self.payload.items() if key not in names}
        return make_request(self.capability, left, self.intent, self.hints, self.metadata, self.plan)

    def with_capability(self, capability: str, payload: Mapping[str, Any] | None = None) -> Request:
        """A copy that asks for another capability; it is looked up, authorised and validated as what it has become."""
        fields = self.payload if payload is None else payload
        return make_request(capability, dict(fields), self.intent, self.hints, self.metadata, self.plan)

    def with_hints(self, **hints: Any) -> Request:
        """A copy with these hints set."""
        merged = MappingProxyType({**self.hints, **hints})
        return make_request(
            self.capability, dict(self.payload), self.intent, merged, self.metadata, self.plan
        )

    def with_plan(self, plan: object) -> Request:
        """A copy that runs this composition instead of the capability alone."""
        return make_request(self.capability, dict(self.payload), self.intent, self.hints, self.metadata, plan)

    def __repr__(self) -> str:
        return f"<Request {self.capability} fields {', '.join(self.payload) or 'none'}>"


def make_request(
    capability: str,
    payload: dict[str, Any],
    intent: str | None = None,
    hints: Mapping[str, Any] = EMPTY,
    metadata: Metadata = NO_METADATA,
    plan: object | None = None,
) -> Request:
    """A frozen request around `payload`, which must not be changed by the caller afterwards."""
    request = _Request()
    request.capability = capability
    request.payload = MappingProxyType(payload)
    request.intent = intent
    request.hints = hints
    request.metadata = metadata
    request.plan = plan
    request.__class__ = Request
    return request  # type: ignore[return-value]


class Elsewhere:
    """The trace of a request that was answered by another process, or before: as far as it is seen here."""

    __slots__ = ("deprecated", "duration", "id")
    required_fields: frozenset[str] = frozenset()
    began = True

    def __init__(self, id: str, duration: float, deprecated: str | None = None) -> None:
        self.id = id
        self.deprecated = deprecated
        self.duration = duration


class Response:
    """What a request ended with: a value or a typed error, never both.

    value: what the capability gave, checked against its contract. error: why there is none. trace: the record of the
    way (its `id` finds it by `packetflow trace`).
    """

    __slots__ = ("error", "trace", "value")

    def __init__(self, value: Any, error: RequestError | None, trace: Any) -> None:
        self.value = value
        self.error = error
        self.trace = trace

    @property
    def ok(self) -> bool:
        """Whether there is a value."""
        return self.error is None

    @property
    def trace_id(self) -> str:
        """The trace's id: 32 lower hex digits, W3C's; empty if nothing was traced."""
        return self.trace.id if self.trace is not None else ""

    def unwrap(self) -> Any:
        """The value. Raises the error if there is one."""
        if self.error is not None:
            raise self.error
        return self.value

    def with_value(self, value: Any) -> Response:
        """A copy with another value."""
        return Response(value, self.error, self.trace)

    def without(self, *names: str) -> Response:
        """A copy whose value lacks these fields: optional ones are removed, required ones masked as `***`.

        A value without fields, and an error, stay as they are.
        """
        if self.error is not None or self.value is None:
            return self
        required = self.trace.required_fields if self.trace is not None else frozenset()
        value = self.value
        if isinstance(value, Mapping):
            masked = {name: MASK for name in names if name in value and name in required}
            return self.with_value({k: v for k, v in value.items() if k not in names} | masked)
        fields = getattr(type(value), "model_fields", None)
        if fields is None:
            return self
        changes = {
            name: MASK if fields[name].is_required() else fields[name].get_default(call_default_factory=True)
            for name in names
            if name in fields
        }
        return self.with_value(value.model_copy(update=changes))

    def __repr__(self) -> str:
        what = repr(self.value) if self.error is None else f"{self.error.code}: {self.error}"
        return f"<Response {what[:80]} trace {self.trace_id[:8]}>"
