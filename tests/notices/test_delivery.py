"""Webhooks and mail against real servers on this machine: what arrives, and what a refusal leads to."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator
from email import message_from_bytes, policy
from typing import Any

import pytest
from gevent.pywsgi import WSGIServer
from gevent.server import StreamServer

from packetflow.notices.mail import Mail
from packetflow.notices.notice import NotDelivered, Notice
from packetflow.notices.webhook import Webhook
from packetflow.otp.clock import Clock

NOTICE = Notice("4f2a-0", "order 12 by ana", "an order", {"capability": "order.place"})


class Hook:
    """An HTTP server that keeps what it gets."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.answer: tuple[str, list[tuple[str, str]]] = ("204 No Content", [])
        self.server = WSGIServer(("127.0.0.1", 0), self.serve, log=None)
        self.server.start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/hooks/t0ken?room=ops"

    def serve(self, environ: dict[str, Any], begin: Any) -> list[bytes]:
        body = environ["wsgi.input"].read()
        headers = {
            key.removeprefix("HTTP_"): value for key, value in environ.items() if isinstance(value, str)
        }
        self.got.append((headers, body))
        begin(*self.answer)
        return []


@pytest.fixture
def hook() -> Iterator[Hook]:
    made = Hook()
    yield made
    made.server.stop()


def test_a_webhook_gets_the_notice_as_json_signed_and_known_by_its_id(hook: Hook) -> None:
    Webhook(lambda: hook.url, secret=lambda: "key").deliver(NOTICE)
    [(headers, body)] = hook.got
    assert json.loads(body) == {
        "id": "4f2a-0", "text": "order 12 by ana", "subject": "an order", "capability": "order.place",
    }  # fmt: skip
    assert (headers["REQUEST_METHOD"], headers["PATH_INFO"], headers["QUERY_STRING"]) == (
        "POST",
        "/hooks/t0ken",
        "room=ops",
    )
    assert headers["CONTENT_TYPE"] == "application/json"
    assert headers["IDEMPOTENCY_KEY"] == "4f2a-0"
    assert headers["X_PACKETFLOW_SIGNATURE"] == "sha256=" + hmac.new(b"key", body, hashlib.sha256).hexdigest()


@pytest.mark.parametrize(
    ("answer", "again", "after"),
    [
        (("500 Oops", []), True, None),
        (("503 Later", [("Retry-After", "7")]), True, 7.0),
        (("429 Slow", [("Retry-After", "Wed, 21 Oct 2026 07:28:00 GMT")]), True, None),
        (("400 Bad", []), False, None),
        (("404 Gone", []), False, None),
        (("302 Found", [("Location", "http://127.0.0.1:1/")]), False, None),
    ],
)
def test_what_is_no_success_is_told_and_whether_again_makes_sense(
    hook: Hook, answer: Any, again: bool, after: float | None
) -> None:
    hook.answer = answer
    with pytest.raises(NotDelivered) as caught:
        Webhook(lambda: hook.url).deliver(NOTICE)
    assert (caught.value.again, caught.value.after) == (again, after)
    assert "t0ken" not in str(caught.value)


def test_nobody_there_is_worth_another_try() -> None:
    with pytest.raises(NotDelivered, match=r"127\.0\.0\.1:1: ConnectionRefusedError") as caught:
        Webhook(lambda: "http://127.0.0.1:1/t0ken").deliver(NOTICE)
    assert caught.value.again


def test_a_server_that_speaks_no_http_is_told() -> None:
    server = StreamServer(("127.0.0.1", 0), lambda sock, peer: sock.sendall(b"hello\r\n"))
    server.start()
    with pytest.raises(NotDelivered, match=r"BadStatusLine|RemoteDisconnected|Connection"):
        Webhook(lambda: f"http://127.0.0.1:{server.server_port}/").deliver(NOTICE)
    server.stop()


class Post:
    """As much of an SMTP server as a client needs. answers: what it says to a command instead of yes."""

    def __init__(self) -> None:
        self.answers: dict[str, str] = {}
        self.mails: list[tuple[str, list[str], bytes]] = []
        self.server = StreamServer(("127.0.0.1", 0), self.serve)
        self.server.start()

    def serve(self, sock: Any, peer: Any) -> None:
        stream = sock.makefile("rwb", buffering=0)
        sender, recipients = "", []
        stream.write(b"220 post ready\r\n")
        for raw in stream:
            line = raw.decode().strip()
            word = line.partition(" ")[0].upper()
            if word in self.answers:
                stream.write(self.answers[word].encode() + b"\r\n")
                continue
            if word == "MAIL":
                sender = line
            if word == "RCPT":
                recipients.append(line)
            if word == "DATA":
                stream.write(b"354 go on\r\n")
                lines = []
                for part in stream:
                    if part == b".\r\n":
                        break
                    lines.append(part)
                self.mails.append((sender, recipients, b"".join(lines)))
            stream.write(b"221 bye\r\n" if word == "QUIT" else b"250 yes\r\n")
            if word == "QUIT":
                break
        stream.close()
        sock.close()


@pytest.fixture
def post() -> Iterator[Post]:
    made = Post()
    yield made
    made.server.stop()


def mail(post: Post, **more: Any) -> Mail:
    return Mail(
        "127.0.0.1", post.server.server_port, sender="node@example.org", recipients=["ops@example.org", "b@example.org"],
        clock=Clock(), **more,
    )  # fmt: skip


def test_mail_arrives_as_a_message(post: Post) -> None:
    mail(post).deliver(Notice("4f2a-0", "grüße\n.\nend", "an\r\nBcc: evil@example.org order"))
    [(sender, recipients, text)] = post.mails
    assert "node@example.org" in sender
    assert len(recipients) == 2
    message = message_from_bytes(text, policy=policy.default)
    assert message["Subject"] == "an Bcc: evil@example.org order"
    assert message["Bcc"] is None
    assert message["Message-ID"] == "<4f2a-0@example.org>"
    assert "grüße" in message.get_content()


@pytest.mark.parametrize(
    ("answers", "again", "told"),
    [
        ({"MAIL": "451 later"}, True, "451"),
        ({"MAIL": "550 never"}, False, "550"),
        ({"RCPT": "550 unknown"}, False, "took none of the recipients"),
        ({"RCPT": "450 greylisted"}, True, "took none of the recipients"),
        ({"DATA": "554 no"}, False, "554"),
    ],
)
def test_what_the_server_refuses_for_now_is_tried_again(
    post: Post, answers: dict[str, str], again: bool, told: str
) -> None:
    post.answers = answers
    with pytest.raises(NotDelivered, match=told) as caught:
        mail(post).deliver(NOTICE)
    assert caught.value.again is again


def test_mail_that_must_be_encrypted_is_not_sent_otherwise(post: Post) -> None:
    with pytest.raises(NotDelivered, match="STARTTLS") as caught:
        mail(post, security="starttls", login=lambda: ("ana", "secret")).deliver(NOTICE)
    assert not caught.value.again
    assert post.mails == []
