"""The parts of a configuration about effects: audit records, channels for notices, backends of one's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, Strict, StringConstraints

from packetflow.node.config.fields import (
    MIB,
    Count,
    Duration,
    Expect,
    File,
    Name,
    Port,
    Section,
    Size,
    Switch,
    Table,
    Word,
    Words,
)
from packetflow.node.config.secrets import Secret

Reference = Annotated[Secret, Expect("a reference to a secret", '{ env = "OPS_TOKEN" }')]
Address = Annotated[
    str,
    StringConstraints(pattern=r"^https?://[^\s/]+\S*$", max_length=2_000),
    Expect("an address", '"https://ops.example.org/hook"'),
]


class AuditSection(Section):
    """Audit records, kept in the data folder."""

    mask: Annotated[Words, Expect("a list of fields", '["card", "customer.phone"]')] = Field(
        default=(),
        description="Fields that audit records, traces and notices show as `***`, wherever they stand, beside those that "
        "contracts mark as secret; a path (`customer.phone`) hides a field below another only.",
    )
    refusals: Switch = Field(
        default=True,
        description="Whether refusals by rights, rules and modules are recorded for capabilities that declare no audit.",
    )
    anchor: File | None = Field(
        default=None,
        description="A file elsewhere to which every signed head of the chain is added, for `audit verify --head`; relative "
        "to the project folder.",
    )
    file_size: Size = Field(default=64 * MIB, description="Size of a file, after which the next is begun.")


class ChannelEntry(Section):
    """Where `notify(...)` sends to."""

    name: Name = Field(description="The channel's name, as `notify` names it.")
    kind: Annotated[Literal["webhook", "mail"], Expect("webhook or mail")] = Field(
        description="`webhook`: an HTTP POST of JSON. `mail`: a message by SMTP."
    )
    queue: Count = Field(default=1_000, description="Notices that may wait; more are dropped and counted.")
    attempts: Annotated[int, Strict(), Field(ge=1, le=100), Expect("an integer from 1 to 100", "5")] = Field(
        default=5, description="How often one is tried: again after 1 s, 2 s, 4 s, ... up to 60 s."
    )
    timeout: Duration = Field(default=10.0, description="How long one try may take.")
    url: Address | None = Field(default=None, description="Of a webhook: where to.")
    url_secret: Reference | None = Field(
        default=None,
        description="Of a webhook whose address is a secret itself: a reference to it, instead of `url`.",
    )
    signing_key: Reference | None = Field(
        default=None,
        description="Of a webhook: signs each body (`X-PacketFlow-Signature`, HMAC-SHA-256). A reference to a secret.",
    )
    host: Annotated[Word, Expect("a host name or address", '"mail.example.org"')] | None = Field(
        default=None, description="Of mail: the SMTP server."
    )
    port: Port = Field(default=25, description="Of mail: the server's port.")
    security: Annotated[Literal["none", "starttls", "tls"], Expect("none, starttls or tls")] = Field(
        default="none",
        description="Of mail: `starttls` (refused where the server has none), or `tls` from the start.",
    )
    sender: Annotated[Word, Expect("a mail address", '"node@example.org"')] | None = Field(
        default=None, description="Of mail: from whom."
    )
    recipients: Annotated[Words, Expect("a list of mail addresses", '["ops@example.org"]')] = Field(
        default=(), description="Of mail: to whom."
    )
    user: Word | None = Field(default=None, description="Of mail: the name to log in with.")
    password: Reference | None = Field(default=None, description="Of mail: a reference to the password.")


class EffectEntry(Section):
    """A backend for effects of a kind of your own."""

    kind: Name = Field(description="The kind, as `effect(kind, ...)` names it.")
    backend: Annotated[
        str,
        StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*$", max_length=255),
        Expect("an importable class", '"shop.effects:Sms"'),
    ] = Field(description="An `EffectBackend`, as `package.module:Class`.")
    config: Table = Field(default_factory=dict, description="What the class is made with, by keyword.")


def channel_faults(entry: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """What a channel of its kind lacks, or has too much: (key, what is wrong, what is expected)."""
    faults = []
    if entry.get("kind") == "webhook":
        given = [key for key in ("url", "url_secret") if entry.get(key) is not None]
        if len(given) != 1:
            wrong = "url and url_secret are both given" if given else "a webhook without its address"
            faults.append(("url", wrong, 'one of the two, for example url = "https://ops.example.org/hook"'))
    elif entry.get("kind") == "mail":
        for key, example in (("host", '"mail.example.org"'), ("sender", '"node@example.org"')):
            if entry.get(key) is None:
                faults.append((key, f"mail without its {key}", f"{key} = {example}"))
        if not entry.get("recipients"):
            faults.append(("recipients", "mail to nobody", 'recipients = ["ops@example.org"]'))
        if (entry.get("user") is None) != (entry.get("password") is None):
            faults.append(("user", "user and password go together", "both or none"))
    return faults
