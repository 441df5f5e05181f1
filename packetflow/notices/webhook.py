"""Webhooks: a notice as an HTTP POST with a JSON body.

The same notice always carries the same `Idempotency-Key`, so that one sent again can be told. With a secret, the header
`X-PacketFlow-Signature: sha256=<hex>` is the HMAC of the body. Redirects are not followed.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import gevent.socket
import gevent.ssl

from packetflow.notices.notice import NotDelivered, Notice

READ = 4_096  # bytes of an answer that are looked at
LATER = (408, 425, 429)  # answers after which trying again makes sense, as after any from 500 on


class Webhook:
    """Delivers by POST. url: may hold a secret and is never shown. secret: gives the key of the signature, or None."""

    def __init__(
        self,
        url: Callable[[], str],
        *,
        headers: Mapping[str, str] | None = None,
        secret: Callable[[], str] | None = None,
        timeout: float = 10.0,
    ) -> None:
        self._url = url
        self._headers = dict(headers or {})
        self._secret = secret
        self._timeout = timeout

    def where(self) -> str:
        """Scheme and host alone: a path is often a secret."""
        try:
            parts = urlsplit(self._url())
            return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}"
        except Exception as error:  # noqa: BLE001 - for people only; `deliver` tells it as its own fault
            return f"(no address: {type(error).__name__})"

    def deliver(self, notice: Notice) -> None:
        """POST it. Raises NotDelivered for everything but an answer of 200 to 299."""
        parts = urlsplit(self._url())
        body = json.dumps(
            {"id": notice.id, "text": notice.text, "subject": notice.subject, **notice.about},
            ensure_ascii=False,
        ).encode()
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "packetflow",
            "Idempotency-Key": notice.id,
            **self._headers,
        }
        if self._secret is not None:
            signature = hmac.new(self._secret().encode(), body, hashlib.sha256).hexdigest()
            headers["X-PacketFlow-Signature"] = f"sha256={signature}"
        target = f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}"
        connection = _Connection(parts.scheme == "https", str(parts.hostname), parts.port, self._timeout)
        try:
            connection.request("POST", target, body, headers)
            answer = connection.getresponse()
            answer.read(READ)
        except OSError as error:
            raise NotDelivered(f"{self.where()}: {type(error).__name__}: {error}") from error
        except (
            http.client.HTTPException,
            ValueError,
        ) as error:  # its text may hold the address, which may be a secret
            raise NotDelivered(f"{self.where()}: {type(error).__name__}") from None
        finally:
            connection.close()
        status = answer.status
        if not 200 <= status < 300:
            after = answer.getheader("Retry-After") or ""
            raise NotDelivered(
                f"{self.where()} answered {status}",
                again=status >= 500 or status in LATER,
                after=float(after) if after.isdecimal() else None,
            )


class _Connection(http.client.HTTPConnection):
    """One that gives way while it waits, also where the standard library is not patched."""

    def __init__(self, secure: bool, host: str, port: int | None, timeout: float) -> None:
        super().__init__(host, port or (443 if secure else 80), timeout=timeout)
        self._secure = secure

    def connect(self) -> None:
        """Connect by gevent's socket."""
        found: Any = gevent.socket.create_connection((self.host, self.port), self.timeout)
        if self._secure:
            try:
                found = gevent.ssl.create_default_context().wrap_socket(found, server_hostname=self.host)
            except BaseException:
                found.close()
                raise
        self.sock = found
