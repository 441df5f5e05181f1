"""Writes data/queries.jsonl from CLINC150's `data_full.json` or a part of it: `python make_queries.py FILE`.

Takes the intents that a desk of a bank, an airline or a shop hears, the same number of queries from each, spread evenly
over the file, and gives each a customer. The same file gives the same lines. See data/ATTRIBUTION.md.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

DATA = Path(__file__).parent / "data"
PER_TOPIC = 20
TOPICS = (
    "account_blocked",
    "application_status",
    "bill_balance",
    "bill_due",
    "cancel_reservation",
    "card_declined",
    "carry_on",
    "confirm_reservation",
    "credit_limit_change",
    "damaged_card",
    "direct_deposit",
    "expiration_date",
    "flight_status",
    "freeze_account",
    "interest_rate",
    "international_fees",
    "lost_luggage",
    "new_card",
    "order_checks",
    "order_status",
    "pay_bill",
    "pin_change",
    "redeem_rewards",
    "replacement_card_duration",
    "report_fraud",
    "report_lost_card",
    "rewards_balance",
    "transactions",
    "transfer",
    "travel_notification",
)


def choose(queries: list[tuple[str, str]], customers: list[str]) -> list[dict[str, str]]:
    """PER_TOPIC queries of each topic, topics in turn, as payloads of `ticket.open`. Raises ValueError if one is short."""
    columns = []
    for topic in TOPICS:
        # In the file's order, each text once.
        texts = list(dict.fromkeys(text for text, intent in queries if intent == topic))
        if len(texts) < PER_TOPIC:
            raise ValueError(f"{topic}: expected at least {PER_TOPIC} queries, got {len(texts)}")
        columns.append([(texts[i * len(texts) // PER_TOPIC], topic) for i in range(PER_TOPIC)])
    return [
        {"customer_id": _customer(text, customers), "text": text, "topic": topic}
        for row in zip(*columns, strict=True)
        for text, topic in row
    ]


def _customer(text: str, customers: list[str]) -> str:
    """A customer for a text, always the same. The earlier of two draws, so that some customers write more than others."""
    digest = hashlib.sha256(text.encode()).digest()
    draws = (int.from_bytes(part) % len(customers) for part in (digest[:8], digest[8:16]))
    return customers[min(draws)]


def main(arguments: list[str]) -> int:
    """Read CLINC150 from the file named, write the queries. Gives the exit code."""
    if len(arguments) != 1:
        print("usage: python make_queries.py CLINC150.json", file=sys.stderr)
        return 2
    parts: dict[str, list[tuple[str, str]]] = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    queries = [(text, intent) for part in ("train", "val") for text, intent in parts[part]]
    known = json.loads((DATA / "customers.json").read_text(encoding="utf-8"))
    customers = [customer["id"] for customer in known]
    lines = [json.dumps(line, ensure_ascii=False) + "\n" for line in choose(queries, customers)]
    (DATA / "queries.jsonl").write_text("".join(lines), encoding="utf-8")
    print(f"{len(lines)} queries on {len(TOPICS)} topics in {DATA / 'queries.jsonl'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
