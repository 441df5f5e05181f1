"""Three agents and a person: one finds what is known of a topic, one writes, one reviews, and nothing is published unapproved.

python examples/agent_workflow/agents.py "durable runs"            # asks on the terminal
python examples/agent_workflow/agents.py supervision --say yes     # or --say no, --say "another title"

The agents work on this repository's documentation and need no model: put one in their place by changing a function. The run is
durable; it waits for the person in the store, and not in memory.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

import gevent
from typing_extensions import TypedDict

from packetflow import Node, capability
from packetflow.composition.building import approval, composition, loop, pipeline, step
from packetflow.errors import RequestError
from packetflow.wire.values import Response

DOCUMENTS = Path(__file__).resolve().parents[2] / "docs"
ENOUGH = 60  # words of an article
NO_PROSE = re.compile(r"```.*?```|<!--.*?-->|^[|#][^\n]*$", re.DOTALL | re.MULTILINE)  # of a Markdown page


class Findings(TypedDict):
    """Sentences that say something of a topic, and how many of them an article is made of."""

    findings: list[str]
    wanted: int


class Draft(TypedDict):
    """An article."""

    title: str
    text: str


class Review(TypedDict):
    """What the reviewer thinks. wanted: sentences that the next draft should have."""

    verdict: str
    wanted: int


class Article(TypedDict):
    """What was published."""

    article: str


@capability("agent.research", blocking=True)
def research(topic: str) -> Findings:
    """Find sentences about a topic."""
    words = re.findall(r"\w+", topic.lower())
    found: list[str] = []
    for page in sorted(DOCUMENTS.glob("*.md")):
        text = " ".join(NO_PROSE.sub("", page.read_text("utf-8")).split())
        found += [
            re.sub(r"[*`\[\]]", "", sentence).strip("- ")
            for sentence in re.split(r"(?<=[.!?])\s+", text)
            if all(word in sentence.lower() for word in words) and 5 <= len(sentence.split()) <= 40
        ]
    return {"findings": found, "wanted": 1}


@capability("agent.write")
def write(topic: str, findings: list[str], wanted: int) -> Draft:
    """Write an article of some sentences."""
    return {"title": topic.capitalize(), "text": " ".join(findings[:wanted])}


@capability("agent.review")
def review(text: str, findings: list[str], wanted: int) -> Review:
    """Say whether an article is good, or what it lacks."""
    if len(text.split()) >= ENOUGH or wanted >= len(findings):
        return {"verdict": "good", "wanted": wanted}
    return {"verdict": f"too short: {len(text.split())} words", "wanted": wanted + 1}


@capability("editor.show")
def show(title: str, text: str) -> None:
    """Give the person the draft to read."""
    print(f"--- draft\n{title}\n\n{text}\n---")


@capability("article.publish")
def publish(title: str, text: str) -> Article:
    """Publish an article."""
    return {"article": f"{title}\n\n{text}"}


article = composition(
    "article.write",
    "Find what is known of a topic, write and review an article, and publish it when a person approves",
    pipeline(
        step("agent.research"),
        loop(
            pipeline(step("agent.write"), step("agent.review")),
            while_="verdict != 'good'",
            max_iterations=50,
        ),
        step("editor.show"),
        approval(["editor"], subject="An article is ready", deadline=3600.0),
        step("article.publish"),
    ),
    requires={"topic": str, "verdict": str},
    provides={"article": str},
    durable=True,
    timeout=3600.0,
)


def decide(node: Node, said: str | None) -> None:
    """The person: reads the draft, and says yes, no, or another title."""
    editor = node.session("editor", ["system.*"])
    while not (asked := node.call("system.approvals", session=editor)["approvals"]):
        gevent.sleep(0.05)
    if said is None:
        print(f"{asked[0]['subject']}. Publish it? yes, no, or another title: ", end="", flush=True)
        said = gevent.get_hub().threadpool.apply(sys.stdin.readline).strip()
    decision = {"id": asked[0]["id"], "decision": {"yes": "approved", "no": "rejected"}.get(said, "modified")}
    if decision["decision"] == "modified":
        decision["values"] = {"title": said}
    print(f"the editor: {decision['decision']}")
    node.call("system.approval.decide", decision, session=editor)


def main() -> int:
    """Run the three agents, with the person beside them."""
    words = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    words.add_argument("topic")
    words.add_argument("--say", help="what the person says: yes, no, or another title; asked if not given")
    given = words.parse_args()
    with Node(capabilities=[research, write, review, show, publish, article]) as node:
        running = gevent.spawn(node.request, "article.write", {"topic": given.topic, "verdict": ""})
        person = gevent.spawn(decide, node, given.say)
        answer: Response = running.get()
        person.kill()
    if answer.error is not None:
        print(f"not published: {answer.error}")
        return 1
    print(answer.value["article"])
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except RequestError as error:
        sys.exit(f"{error.code}: {error}")
