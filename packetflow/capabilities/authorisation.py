"""Who may call a capability, as data: roles, conditions over payload and context, and what is put together from them.

A rule only ever takes away: it is asked after the caller's rights. What depends on the roles alone is decided when a route is
compiled; the rest when the request is there, after its contract. An error in a rule denies.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from packetflow.capabilities.conditions import Condition, Names
from packetflow.capabilities.context import Context
from packetflow.security.access import Session

#: What a condition may ask of its `context`. `user_id` is another word for `principal`.
CONTEXT = (
    "principal",
    "user_id",
    "tenant",
    "roles",
    "door",
    "peer",
    "capability",
    "version",
    "parent",
    "trace_id",
)


class RuleError(ValueError):
    """A rule that can't be one."""


class Rule:
    """A rule. words: what it asks for, for people. by_payload: whether the payload decides too."""

    __slots__ = ("by_payload", "words")

    def __init__(self, words: str, by_payload: bool) -> None:
        self.words = words
        self.by_payload = by_payload

    def for_roles(self, roles: frozenset[str]) -> Rule:
        """What is left of the rule for a caller of these roles: ALLOWED, a Denied, or what must be asked of each request."""
        return self

    def refusal(self, payload: Any, context: Mapping[str, Any], given: Any) -> str | None:
        """None if it allows the request, else the words of what was not met. Raises what its code raises.

        payload: the parsed fields. context: the names of CONTEXT. given: the Context itself.
        """
        raise NotImplementedError

    def bound(self, names: Names) -> Rule:
        """The rule for a capability whose payload has these fields. Raises RuleError, ConditionError."""
        return self

    def __repr__(self) -> str:
        return f"<rule {self.words}>"


class Allowed(Rule):
    """Nothing is asked."""

    __slots__ = ()

    def refusal(self, payload: Any, context: Mapping[str, Any], given: Any) -> str | None:
        """None."""
        return None


class Denied(Rule):
    """Refused, whatever is asked."""

    __slots__ = ()

    def refusal(self, payload: Any, context: Mapping[str, Any], given: Any) -> str | None:
        """Why."""
        return self.words


ALLOWED = Allowed("nothing", False)


class Roles(Rule):
    """The caller has one of some roles."""

    __slots__ = ("names",)

    def __init__(self, names: Iterable[str]) -> None:
        self.names = frozenset(names)
        listed = ", ".join(sorted(self.names))
        super().__init__(
            f"the role {listed}" if len(self.names) == 1 else f"one of the roles {listed}", False
        )

    def for_roles(self, roles: frozenset[str]) -> Rule:
        """Decided."""
        return Denied(self.words, False) if self.names.isdisjoint(roles) else ALLOWED

    def refusal(self, payload: Any, context: Mapping[str, Any], given: Any) -> str | None:
        """By the roles in the context."""
        return self.words if self.names.isdisjoint(context["roles"]) else None


class When(Rule):
    """A CEL condition over `payload` and `context` holds."""

    __slots__ = ("_condition", "text")

    def __init__(self, text: str, names: Names | None = None) -> None:
        known: Names = {"payload": names, "context": dict.fromkeys(CONTEXT)}
        self._condition = Condition(text, known)
        self.text = text
        super().__init__(" ".join(text.split()), "payload" in self._condition.names)

    def bound(self, names: Names) -> Rule:
        """Compiled again over the contract's fields."""
        return When(self.text, names)

    def refusal(self, payload: Any, context: Mapping[str, Any], given: Any) -> str | None:
        """By the condition."""
        return None if self._condition.holds({"payload": payload, "context": context}) else self.words


class Predicate(Rule):
    """A function (payload, context) says True."""

    __slots__ = ("function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
            raise RuleError(
                "a rule's function answers at once: expected a plain function, not async, no generator"
            )
        try:
            inspect.signature(function).bind(None, None)
        except (TypeError, ValueError):
            raise RuleError("a rule's function takes (payload, context)") from None
        self.function = function
        name = getattr(function, "__name__", type(function).__name__)
        says = (inspect.getdoc(function) or "").partition("\n")[0] if name != "<lambda>" else ""
        super().__init__(
            f"{'a function' if name == '<lambda>' else name}{f' ({says})' if says else ''}", True
        )

    def refusal(self, payload: Any, context: Mapping[str, Any], given: Any) -> str | None:
        """By the function, which must say True or False: anything else might be a mistake that lets everybody in."""
        answer = self.function(payload, given)
        if answer is True:
            return None
        if answer is False:
            return self.words
        raise TypeError(f"the rule {self.words} answered {type(answer).__name__}; expected True or False")


class Together(Rule):
    """Several rules: all of them, or any."""

    __slots__ = ("parts", "whole")

    def __init__(self, parts: tuple[Rule, ...], whole: bool) -> None:
        self.parts = parts
        self.whole = whole
        word = " and " if whole else " or "
        words = word.join(f"({part.words})" if isinstance(part, Together) else part.words for part in parts)
        super().__init__(words, any(part.by_payload for part in parts))

    def for_roles(self, roles: frozenset[str]) -> Rule:
        """What is left of the parts; one that decides alone decides."""
        left = []
        denied: list[Rule] = []
        for part in self.parts:
            found = part.for_roles(roles)
            if isinstance(found, Denied):
                if self.whole:
                    return found
                denied.append(found)
            elif isinstance(found, Allowed):
                if not self.whole:
                    return found
            else:
                left.append(found)
        if not left:
            return ALLOWED if self.whole else Denied(self.words, False)
        return left[0] if len(left) == 1 and self.whole else Together((*left, *denied), self.whole)

    def bound(self, names: Names) -> Rule:
        """Each part."""
        return Together(tuple(part.bound(names) for part in self.parts), self.whole)

    def refusal(self, payload: Any, context: Mapping[str, Any], given: Any) -> str | None:
        """Of all: the first that is not met. Of any: the whole, if none is met; one that fails does not count as met."""
        if self.whole:
            for part in self.parts:
                found = part.refusal(payload, context, given)
                if found is not None:
                    return found
            return None
        failed: Exception | None = None
        for part in self.parts:
            try:
                if part.refusal(payload, context, given) is None:
                    return None
            except Exception as error:  # noqa: BLE001 - raised below if no other part allows the request
                failed = error
        if failed is not None:
            raise failed
        return self.words


class Not(Rule):
    """A rule is not met."""

    __slots__ = ("part",)

    def __init__(self, part: Rule) -> None:
        self.part = part
        super().__init__(f"not ({part.words})", part.by_payload)

    def for_roles(self, roles: frozenset[str]) -> Rule:
        """Decided if the part is."""
        found = self.part.for_roles(roles)
        if isinstance(found, Denied):
            return ALLOWED
        return Denied(self.words, False) if isinstance(found, Allowed) else Not(found)

    def bound(self, names: Names) -> Rule:
        """Its part."""
        return Not(self.part.bound(names))

    def refusal(self, payload: Any, context: Mapping[str, Any], given: Any) -> str | None:
        """The opposite; an error stays one, and denies."""
        return self.words if self.part.refusal(payload, context, given) is None else None


# ---- what people write ------------------------------------------------------------------------------------------------


def roles(*names: str) -> Rule:
    """Allows callers that have one of these roles. Raises RuleError for none, or for what is no name."""
    if not names or not all(isinstance(name, str) and name.strip() for name in names):
        raise RuleError(f"roles{names!r}; expected one or more names of roles, such as roles('admin')")
    return Roles(names)


def all_of(*given: Any) -> Rule:
    """Allows what all of these allow: rules, CEL texts, functions. Raises RuleError, ConditionError."""
    return Together(_several(given, "all_of"), True)


def any_of(*given: Any) -> Rule:
    """Allows what one of these allows: rules, CEL texts, functions. Raises RuleError, ConditionError."""
    return Together(_several(given, "any_of"), False)


def not_(given: Any) -> Rule:
    """Allows what this does not allow. Raises RuleError, ConditionError."""
    return Not(rule(given))


def rule(given: Any) -> Rule:
    """A rule of what may stand in `authorize=`. Raises RuleError, ConditionError."""
    if isinstance(given, Rule):
        return given
    if isinstance(given, str):
        return When(given)
    if callable(given) and not isinstance(given, type):
        return Predicate(given)
    raise RuleError(
        f"{given!r} is no rule; expected roles(...), a condition in CEL, or a function (payload, context)"
    )


def _several(given: tuple[Any, ...], word: str) -> tuple[Rule, ...]:
    if not given:
        raise RuleError(f"{word}() is empty; expected one or more rules")
    return tuple(rule(one) for one in given)


# ---- what the door asks -----------------------------------------------------------------------------------------------


def caller_of(session: Session, capability: str, version: str) -> dict[str, Any]:
    """What conditions know of a caller before there is a request."""
    return {
        "principal": session.principal,
        "user_id": session.principal,
        "tenant": session.tenant,
        "roles": sorted(session.roles),
        "door": session.door,
        "peer": session.peer,
        "capability": capability,
        "version": version,
        "parent": None,
        "trace_id": None,
    }


def context_of(context: Context) -> dict[str, Any]:
    """What conditions know of a request's context: the names of CONTEXT. parent: the capability that made the request."""
    known = caller_of(context.session, context.capability, context.version)
    known["parent"] = None if context.parent is None else context.parent.capability
    known["trace_id"] = context.id
    return known
