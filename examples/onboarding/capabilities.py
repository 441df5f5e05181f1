"""Creating accounts: five small capabilities, and a composition of them."""

from __future__ import annotations

from typing_extensions import TypedDict

from packetflow import capability
from packetflow.composition.building import branch, composition, parallel, pipeline, step
from packetflow.composition.nodes import Value

ACCOUNTS = {"ana@example.org": 1}


class Found(TypedDict):
    """Whose an address is; null if it is nobody's."""

    user_id: int | None


@capability("email.validate")
def validate(email: str) -> dict[str, str]:
    """Write an address as all are written."""
    return {"email": email.strip().lower()}


@capability("user.find")
def find(email: str) -> Found:
    """Whose address is this?"""
    return {"user_id": ACCOUNTS.get(email)}


@capability("user.create")
def create(email: str) -> Found:
    """A new account."""
    return {"user_id": ACCOUNTS.setdefault(email, len(ACCOUNTS) + 1)}


@capability("user.remove")
def remove(email: str) -> None:
    """No account any more."""
    ACCOUNTS.pop(email, None)


@capability("mail.send")
def send(user_id: int, text: str) -> dict[str, str]:
    """A mail to a user."""
    return {"sent": text}


onboarding = composition(
    "user.onboarding",
    "Create an account, or greet the one that is there",
    pipeline(
        step("email.validate", outputs={"email": "address"}),
        step("user.find", inputs={"email": "address"}),
        branch(
            "user_id != null",
            then=step("mail.send", inputs={"text": Value("welcome back")}),
            otherwise=pipeline(
                step(
                    "user.create",
                    inputs={"email": "address"},
                    compensate=step("user.remove", inputs={"email": "address"}),
                ),
                parallel(
                    step("mail.send", inputs={"text": Value("welcome")}, name="mail"),
                    step(
                        "mail.send",
                        inputs={"text": Value("how to begin")},
                        outputs={"sent": "guide"},
                        name="guide",
                    ),
                ),
            ),
        ),
    ),
    requires={"email": str},
    provides={"user_id": int, "sent": str},
)
