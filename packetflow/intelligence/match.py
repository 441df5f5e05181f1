"""What a module sees: patterns of capabilities, tags, principals and tenants. Lists are or, keys are and (design ruling 15)."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping
from typing import Any

from packetflow.security.access import Session, matches


class Match:
    """A compiled `match`. Empty keys match everything; what `exclude` matches is left out."""

    __slots__ = ("capabilities", "exclude", "principals", "tags", "tenants")

    def __init__(
        self,
        capabilities: Iterable[str] = ("*",),
        tags: Iterable[str] = (),
        principals: Iterable[str] = (),
        tenants: Iterable[str] = (),
        exclude: Match | None = None,
    ) -> None:
        self.capabilities = tuple(capabilities)
        self.tags = tuple(tags)
        self.principals = tuple(principals)
        self.tenants = tuple(tenants)
        self.exclude = exclude

    @classmethod
    def of(cls, written: Any) -> Match:
        """From what stands in a configuration: a list of capability patterns, or a table of such lists."""
        if written is None:
            return cls()
        if isinstance(written, Match):
            return written
        if isinstance(written, Mapping):
            table = dict(written)
            exclude = table.pop("not", None) or {}
            keys = {key: value for key, value in table.items() if value}
            return cls(**keys, exclude=cls.of(exclude) if any(exclude.values()) else None)
        return cls(capabilities=written)

    def capability(self, id: str, tags: Iterable[str]) -> bool:
        """Whether a capability may match at all, whoever asks."""
        if not any(matches(id, pattern) for pattern in self.capabilities):
            return False
        if self.tags and not set(self.tags) & set(tags):
            return False
        exclude = self.exclude
        return not (exclude is not None and not exclude.depends_on_session and exclude.capability(id, tags))

    @property
    def depends_on_session(self) -> bool:
        """Whether who asks decides too."""
        return bool(self.principals or self.tenants) or (
            self.exclude is not None and self.exclude.depends_on_session
        )

    def session(self, session: Session, id: str, tags: Iterable[str]) -> bool:
        """Whether it matches for this session, a capability that may match given."""
        if self.principals and not _any(session.principal, self.principals):
            return False
        if self.tenants and not _any(session.tenant, self.tenants):
            return False
        exclude = self.exclude
        return not (
            exclude is not None
            and exclude.depends_on_session
            and exclude.capability(id, tags)
            and exclude.session(session, id, tags)
        )

    def as_data(self) -> Any:
        """As written in a configuration."""
        keys = {name: list(getattr(self, name)) for name in ("capabilities", "tags", "principals", "tenants")}
        table: dict[str, Any] = {name: value for name, value in keys.items() if value}
        if self.exclude is not None:
            table["not"] = self.exclude.as_data()
        return table["capabilities"] if list(table) == ["capabilities"] else table


def _any(word: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(word, pattern) for pattern in patterns)
