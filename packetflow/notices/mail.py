"""Mail by SMTP: a notice as a plain text message."""

from __future__ import annotations

import smtplib
from collections.abc import Callable, Sequence
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Any, Literal

import gevent.socket
import gevent.ssl

from packetflow.notices.notice import NotDelivered, Notice
from packetflow.otp.clock import Clock

SUBJECT = 200  # characters of a subject


class Mail:
    """Delivers by SMTP. security: `none`, `starttls` (refused where the server does not offer it) or `tls` from the start.

    login: gives user and password, or None.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        sender: str,
        recipients: Sequence[str],
        clock: Clock,
        security: Literal["none", "starttls", "tls"] = "none",
        login: Callable[[], tuple[str, str]] | None = None,
        timeout: float = 10.0,
    ) -> None:
        self._host, self._port = host, port
        self._sender = sender
        self._recipients = tuple(recipients)
        self._clock = clock
        self._security = security
        self._login = login
        self._timeout = timeout

    def where(self) -> str:
        """The recipients."""
        return f"{', '.join(self._recipients)} by {self._host}:{self._port}"

    def deliver(self, notice: Notice) -> None:
        """Send it. Raises NotDelivered."""
        try:
            with _Connection(self._host, self._port, self._timeout, self._security == "tls") as server:
                if self._security == "starttls":
                    server.starttls(context=gevent.ssl.create_default_context())
                if self._login is not None:
                    server.login(*self._login())
                server.send_message(self._message(notice), self._sender, self._recipients)
        except smtplib.SMTPResponseException as error:
            text = (
                error.smtp_error.decode(errors="replace")
                if isinstance(error.smtp_error, bytes)
                else error.smtp_error
            )
            raise NotDelivered(
                f"{self._host}:{self._port} answered {error.smtp_code} {text}",
                again=400 <= error.smtp_code < 500,
            ) from error
        except smtplib.SMTPRecipientsRefused as error:
            codes = [code for code, _ in error.recipients.values()]
            raise NotDelivered(
                f"{self._host}:{self._port} took none of the recipients: {codes}",
                again=any(400 <= code < 500 for code in codes),
            ) from error
        except smtplib.SMTPNotSupportedError as error:
            raise NotDelivered(f"{self._host}:{self._port}: {error}", again=False) from error
        except (OSError, smtplib.SMTPException) as error:
            raise NotDelivered(f"{self._host}:{self._port}: {type(error).__name__}: {error}") from error

    def _message(self, notice: Notice) -> EmailMessage:
        message = EmailMessage()
        message["From"] = self._sender
        message["To"] = ", ".join(self._recipients)
        # A header ends at its line's end: what a caller sent must not begin another one.
        subject = " ".join((notice.subject or notice.text).split())
        message["Subject"] = subject if len(subject) <= SUBJECT else subject[:SUBJECT] + "..."
        message["Date"] = format_datetime(self._clock.utc())
        message["Message-ID"] = f"<{notice.id}@{self._sender.rpartition('@')[2] or 'packetflow'}>"
        message.set_content(notice.text)
        return message


class _Connection(smtplib.SMTP):
    """One that gives way while it waits, also where the standard library is not patched."""

    def __init__(self, host: str, port: int, timeout: float, secure: bool) -> None:
        self._secure = secure
        try:
            super().__init__(host, port, timeout=timeout, local_hostname="packetflow")
        except BaseException:  # it is ended while it waits for the greeting, too
            self.close()
            raise

    def __exit__(self, *failed: Any) -> None:
        """Take leave; where something went wrong there is nobody to wait for."""
        if failed[0] is None:
            super().__exit__(*failed)
        else:
            self.close()

    def _get_socket(self, host: str, port: int, timeout: float) -> Any:
        found: Any = gevent.socket.create_connection((host, port), timeout)
        if not self._secure:
            return found
        try:
            return gevent.ssl.create_default_context().wrap_socket(found, server_hostname=host)
        except BaseException:
            found.close()
            raise
