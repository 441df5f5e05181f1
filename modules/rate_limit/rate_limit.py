"""A token bucket per principal and capability: refuses with `rate_limited` and says when to come back."""

from __future__ import annotations

import fnmatch
from collections import OrderedDict
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from packetflow import Context, Module, Reject, Request

# Seconds that a request may come before its token, so that who waits exactly `retry_after` is not refused for the last
# digit of a float.
GRACE = 1e-6


class Limit(BaseModel):
    """rate: requests a second in the long run. burst: how many may come at once after a rest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 50.0
    burst: Annotated[int, Field(ge=1)] = 100


class RateLimit(Module):
    """Refuses who asks too often. Counts by its own clock; nothing in it waits, so its counts are exact.

    A bucket is kept as the moment when it will be full again: with `burst` tokens in all, one that is full in d seconds
    holds burst - d * rate of them. One that is full is as good as none, and is dropped.
    """

    class Config(Module.Config):
        """rate, burst: the limit. per: what has a bucket of its own. overrides: other limits, by pattern of capability;

        the first that matches holds. With per = "principal", the capabilities of one limit share a bucket.
        """

        rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 50.0
        burst: Annotated[int, Field(ge=1)] = 100
        per: Literal["principal+capability", "principal", "capability"] = "principal+capability"
        overrides: Annotated[dict[str, Limit], Field(default_factory=dict)]

    def init(self, config: Config) -> None:
        """Start with all buckets full."""
        self._default = ("", Limit(rate=config.rate, burst=config.burst))
        self._limits: dict[str, tuple[str, Limit]] = {}
        self._by_principal = "principal" in config.per
        self._by_capability = "capability" in config.per
        # When each bucket is full again, by (limit, tenant, principal, capability); the longest untouched first.
        self._full_at: OrderedDict[tuple[str, ...], float] = OrderedDict()

    def handle_request(self, request: Request, context: Context) -> Reject | None:
        """Take a token, or refuse."""
        capability = request.capability
        pattern, limit = self._limits.get(capability) or self._limit_of(capability)
        key = (
            pattern,
            *((context.tenant, context.principal) if self._by_principal else ("", "")),
            capability if self._by_capability else "",
        )
        now = self.clock.monotonic()
        full_at = max(self._full_at.get(key, now), now) + 1 / limit.rate
        early = full_at - now - limit.burst / limit.rate
        if early > GRACE:
            return Reject(
                "rate_limit",
                f"{context.principal} asks {capability} too often: {limit.rate:g} a second, {limit.burst} at once;"
                f" try again in {early:.3g} s",
                code="rate_limited",
                retry_after=early,
                details={"rate": limit.rate, "burst": limit.burst},
            )
        self._full_at[key] = full_at
        self._full_at.move_to_end(key)
        self._drop_full(now)
        return None

    @property
    def buckets(self) -> int:
        """How many buckets are held in memory."""
        return len(self._full_at)

    def _drop_full(self, now: float) -> None:
        # Two a request, more than a request can add: what is held stays below about twice what is in use, without a pause.
        for _ in range(min(2, len(self._full_at))):
            key, full_at = self._full_at.popitem(last=False)
            if full_at > now:
                self._full_at[key] = full_at

    def _limit_of(self, capability: str) -> tuple[str, Limit]:
        for pattern, limit in self.config.overrides.items():
            if fnmatch.fnmatchcase(capability, pattern):
                found = (pattern, limit)
                break
        else:
            found = self._default
        self._limits[capability] = found
        return found
