"""Reads documents (Markdown, text, PDF) by a pipeline that stands in a JSON file, and says what they are about.

python examples/document_processing/process.py README.md docs report.pdf

A file that can't be read is told with its reason, and the others are processed all the same. PDFs need pypdf.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from packetflow import Node, capability
from packetflow.composition.files import read_file
from packetflow.errors import Rejected

WORKFLOW = Path(__file__).with_name("workflow.json")
KINDS = {".md": "text", ".txt": "text", ".rst": "text", ".pdf": "pdf"}
LARGEST = 20 * 2**20
# Words that say nothing of what a text is about.
SMALL_WORDS = """
    a about after all also an and any are as at be because been before both but by can each for from has
    have if in into is it its more most no not of on one only or other out over same so some such than
    that the their them then there these they this those to two was were what when where which while who
    whose will with without
"""
COMMON = frozenset(SMALL_WORDS.split())


class Text(TypedDict):
    """What stands in a document."""

    text: str
    kind: str


class Length(TypedDict):
    """How long a document is."""

    words: int
    lines: int


class Keywords(TypedDict):
    """What a document is about."""

    keywords: list[str]


class Joined(TypedDict):
    """All documents. failed: how many could not be read."""

    documents: list[dict[str, Any]]
    together: list[str]
    failed: int


@capability("document.read", blocking=True)
def read(path: str) -> Text:
    """The text of a document."""
    file = Path(path)
    kind = KINDS.get(file.suffix.lower())
    if kind is None:
        raise Rejected(f"no kind of document: {file.suffix or file.name}", {"expected": sorted(KINDS)})
    try:
        if file.stat().st_size > LARGEST:
            raise Rejected(f"larger than {LARGEST:,} bytes")
        text = _pdf(file) if kind == "pdf" else file.read_text(encoding="utf-8")
    except OSError as error:
        raise Rejected(error.strerror or "can't be read") from None
    except UnicodeDecodeError as error:
        raise Rejected(f"not UTF-8 at byte {error.start + 1}") from None
    if not text.strip():
        raise Rejected("there is no text in it")
    return {"text": text, "kind": kind}


def _pdf(file: Path) -> str:
    try:
        from pypdf import PdfReader
        from pypdf.errors import PyPdfError
    except ImportError:
        raise Rejected("reading PDF needs pypdf: pip install pypdf") from None
    try:
        return "\n".join(page.extract_text() for page in PdfReader(file).pages)
    except PyPdfError as error:
        raise Rejected(f"a damaged PDF: {error}") from None


def words_of(text: str) -> list[str]:
    """The words of a text that say what it is about."""
    found = re.findall(r"[a-z][a-z-]{2,}", text.lower())
    return [word for word in found if word not in COMMON]


@capability("document.count")
def count(text: str) -> Length:
    """How long a text is."""
    return {"words": len(text.split()), "lines": text.count("\n") + 1}


@capability("document.keywords")
def keywords(text: str, top: int) -> Keywords:
    """The words that a text uses most."""
    return {"keywords": [word for word, _ in Counter(words_of(text)).most_common(top)]}


@capability("document.unreadable")
def unreadable(path: str) -> dict[str, Any]:
    """What stands for a document that could not be read."""
    try:
        read(path)
    except Rejected as error:
        return {"unreadable": path, "because": str(error)}
    return {"unreadable": path, "because": "it failed, and can be read now"}


@capability("documents.join")
def join(documents: list[dict[str, Any]], paths: list[str], top: int) -> Joined:
    """All documents together: the words that most of them are about."""
    told = [{"path": path, **one} for path, one in zip(paths, documents, strict=True)]
    shared = Counter(word for one in documents for word in one.get("keywords", ()))
    return {
        "documents": told,
        "together": [word for word, _ in shared.most_common(top)],
        "failed": sum("unreadable" in one for one in documents),
    }


def files_of(names: list[str]) -> list[str]:
    """The documents that were named, and those in folders that were."""
    found: list[Path] = []
    for name in names:
        path = Path(name)
        found += sorted(one for one in path.rglob("*") if one.suffix in KINDS) if path.is_dir() else [path]
    return [str(path) for path in found]


def main() -> int:
    """Process the documents that the command line names."""
    paths = files_of(sys.argv[1:])
    if not paths:
        print("usage: process.py FILE_OR_FOLDER ...", file=sys.stderr)
        return 2
    with Node(capabilities=[read, count, keywords, unreadable, join, read_file(WORKFLOW)]) as node:
        answer = node.call("documents.process", {"paths": paths, "top": 5}, timeout=300.0)
    for one in answer["documents"]:
        if "unreadable" in one:
            print(f"{one['path']}: {one['because']}")
        else:
            print(f"{one['path']}: {one['words']:,} words, about {', '.join(one['keywords'])}")
    print(f"{len(paths)} documents, {answer['failed']} unreadable, about {', '.join(answer['together'])}")
    return 1 if answer["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
