"""`packetflow capability list`, `show`, `search`, `add` and `remove`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import click

from packetflow.cli.failures import usage
from packetflow.cli.invocation import Invocation
from packetflow.cli.leaf import leaf
from packetflow.cli.screen.painter import Painter, clean
from packetflow.cli.screen.table import Column, pad, plain, show_pairs, show_parts, show_table, show_wrapped
from packetflow.cli.screen.units import number, seconds
from packetflow.cli.typed import Schema, alternatives, kinds, resolve


@leaf(
    "list",
    document="packetflow.node.system.shapes:Catalogue",
    examples=["capability list", "capability list --tag ticket --json"],
)
@click.option("--tag", metavar="TAG", help="Only those with this tag.")
def list_(run: Invocation, tag: str | None) -> None:
    """What the node can do: every capability, or those of a tag."""
    document = run.ask("system.catalogue", {"tag": tag} if tag else {})
    run.answer(document, lambda out: show_catalogue(out, document["capabilities"]))
    if not document["capabilities"]:
        run.say(f'no capability has the tag "{tag}"' if tag else "the node serves no capability")


@leaf(
    "search",
    document="packetflow.node.system.shapes:Catalogue",
    examples=["capability search 'open ticket'", "capability search --requires customer_id --json"],
)
@click.argument("words", nargs=-1)
@click.option("--requires", metavar="FIELD", help="Only those that take this field.")
@click.option("--provides", metavar="FIELD", help="Only those that give this field.")
def search(run: Invocation, words: Sequence[str], requires: str | None, provides: str | None) -> None:
    """Capabilities that fit some words, the best first.

    Words are looked for in ids, tags, intents and the names of the fields that are taken and given.
    """
    if not (words or requires or provides):
        raise usage("nothing to search for: give words, --requires FIELD or --provides FIELD")
    wanted = {"words": " ".join(words), "requires": requires, "provides": provides}
    document = run.ask(
        "system.catalogue", {name: value for name, value in wanted.items() if value is not None}
    )
    run.answer(document, lambda out: show_catalogue(out, document["capabilities"]))
    if not document["capabilities"]:
        run.say("nothing fits; packetflow capability list shows all")


def show_catalogue(out: Painter, rows: Sequence[Mapping[str, Any]]) -> None:
    """Capabilities as a table."""
    layout = [
        Column("ID", "id"),
        Column("VERSION", "version", right=True, drop=1),
        Column("TAGS", "tags", shrink=True, drop=2),
        Column("WHAT", "intent", shrink=True),
    ]
    if any(row.get("deprecated") for row in rows):
        layout.insert(3, Column("DEPRECATED", "deprecated", shrink=True, drop=3))
    show_table(out, layout, rows)


@leaf(
    "show",
    document="packetflow.node.system.shapes:CapabilityDetail",
    examples=["capability show ticket.open", "capability show ticket.open@1 --json"],
)
@click.argument("id")
def show(run: Invocation, id: str) -> None:
    """One capability in full: what it takes and gives, examples, and its load."""
    document = run.ask("system.capability", {"id": id})
    run.answer(document, lambda out: show_capability(out, document))


def show_capability(out: Painter, one: Mapping[str, Any]) -> None:
    """A capability for people."""
    name = f"{one['id']}@{one['version']}" if one.get("version") not in (None, "") else str(one["id"])
    show_parts(out, [(name, ("bold",)), (str(one.get("intent") or ""), ())])
    description = str(one.get("description") or "").strip()
    if description and description != str(one.get("intent") or "").strip():
        for paragraph in description.splitlines():
            show_wrapped(out, paragraph.strip(), 2)
    pairs = []
    if one.get("tags"):
        pairs.append(("tags", plain(one["tags"])))
    if len(one.get("versions") or ()) > 1:
        pairs.append(("versions", ", ".join(str(version) for version in one["versions"])))
    if one.get("deprecated"):
        pairs.append(("deprecated", plain(one["deprecated"])))
    if one.get("owner"):
        pairs.append(("owner", plain(one["owner"])))
    if one.get("background"):
        pairs.append(("background", "answers with a job"))
    if one.get("runs") not in (None, "greenlet"):
        pairs.append(("runs in", plain(one["runs"])))
    if one.get("timeout") is not None:
        pairs.append(("timeout", seconds(one["timeout"])))
    if one.get("effects"):
        pairs.append(("effects", plain(one["effects"])))
    if one.get("authorize"):
        pairs.append(("needs", plain(one["authorize"])))
    if one.get("source"):
        pairs.append(("source", str(one["source"])))
    show_pairs(out, pairs)
    show_contract(out, "takes", one.get("requires") or {})
    gives = "gives a stream of" if one.get("streams") else "gives"
    show_contract(out, gives, one.get("provides") or {})
    if one.get("result"):
        show_contract(out, "its job gives", one["result"])
    if one.get("examples"):
        out.line(out.paint("examples", "bold"))
        for example in one["examples"]:
            word = "stream" if one.get("streams") else "call"
            out.line(clean(f"  {example_line(str(one['id']), example, word)}"))
    load = one.get("load")
    if isinstance(load, Mapping):
        counts = ", ".join(
            f"{number(load.get(key))} {word}"
            for key, word in (("calls", "calls"), ("errors", "errors"), ("in_flight", "now"))
        )
        times = f"p50 {seconds(load.get('p50'))}, p99 {seconds(load.get('p99'))}"
        show_parts(out, [("load", ("bold",)), (counts, ()), (times, ())])
        show_pairs(out, load_pairs(one, load))
        if load.get("last_error"):
            show_wrapped(out, f"last error: {plain(load['last_error'])}", 2)


def load_pairs(one: Mapping[str, Any], load: Mapping[str, Any]) -> list[tuple[str, str]]:
    """How it fares now, and how its pool and its cache do."""
    pairs = []
    if load.get("rate"):
        share = f", {load['error_rate']:.0%} failed" if load.get("error_rate") else ""
        pairs.append(("last minute", f"{load['rate']:.3g} a second{share}"))
    if one.get("health") not in (None, "ok"):
        pairs.append(("health", str(one["health"])))
    pool = load.get("pool")
    if isinstance(pool, Mapping):
        words = ", ".join(
            f"{number(pool[key])} {key}" for key in ("waiting", "lingering", "refused") if pool[key]
        )
        taken = f"{number(pool['running'])} of {number(pool['size'])} {pool['kind']} taken"
        pairs.append(("pool", f"{taken}, {words}" if words else taken))
    cache = load.get("cache")
    if isinstance(cache, Mapping):
        asked = cache["hits"] + cache["joined"] + cache["misses"]
        share = f", {(cache['hits'] + cache['joined']) / asked:.0%} of {number(asked)} hit" if asked else ""
        pairs.append(
            ("cache", f"{number(cache['entries'])} of {number(cache['max_entries'])} answers{share}")
        )
    return pairs


def show_contract(out: Painter, title: str, schema: Schema) -> None:
    """The fields of a contract: name, type, whether it has to be given, what else is asked of it."""
    whole = resolve(schema, schema)
    properties = whole.get("properties")
    if not isinstance(properties, Mapping) or not properties:
        out.line(f"{out.paint(title, 'bold')}  {type_text(schema, schema) if schema else 'nothing'}")
        return
    out.line(out.paint(title, "bold"))
    required = set(whole.get("required") or ())
    rows = []
    for name, field in properties.items():
        target = resolve(field, schema)
        about = [str(target.get("description") or field.get("description") or "")]
        rows.append((name, type_text(field, schema), field_note(name in required, field, title), *about))
    rooms = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        left = "  ".join(pad(row[column], rooms[column]) for column in range(3))
        line = clean(f"  {left}  {row[3]}".rstrip())
        out.line(line if out.width is None else out.cut(line, out.width))


def field_note(required: bool, field: Mapping[str, Any], title: str) -> str:
    """`required`, or the default."""
    if "default" in field:
        return f"default {json.dumps(field['default'], ensure_ascii=False)}"
    return "required" if required and title == "takes" else ""


def type_text(field: Any, root: Schema) -> str:
    """A field's type as a person says it: `text 1 to 4000`, `integer from 1`, `one of a, b`, `list of text`."""
    parts = []
    for one in alternatives(field, root):
        if "enum" in one:
            parts.append("one of " + ", ".join(str(value) for value in one["enum"]))
            continue
        if "const" in one:
            parts.append(json.dumps(one["const"]))
            continue
        words = {"string": "text", "array": "list", "object": str(one.get("title") or "object")}
        allowed = kinds(one, root)
        text = "anything" if len(allowed) > 6 else " or ".join(words.get(kind, kind) for kind in allowed)
        if "array" in allowed and len(allowed) == 1 and isinstance(one.get("items"), Mapping):
            text = f"list of {type_text(one['items'], root)}"
        if isinstance(one.get("format"), str):
            text = str(one["format"])
        parts.append(text + bounds_text(one))
    return " or ".join(dict.fromkeys(parts))


def bounds_text(one: Mapping[str, Any]) -> str:
    """` 1 to 4000` for a schema with bounds, ` matching ...` for a pattern."""
    low = next(
        (one[key] for key in ("minLength", "minimum", "minItems", "exclusiveMinimum") if key in one), None
    )
    high = next(
        (one[key] for key in ("maxLength", "maximum", "maxItems", "exclusiveMaximum") if key in one), None
    )
    text = ""
    if low is not None and high is not None:
        text = f" {low} to {high}"
    elif low is not None:
        text = f" from {low}"
    elif high is not None:
        text = f" up to {high}"
    return text + (f" matching {one['pattern']}" if "pattern" in one else "")


def example_line(id: str, example: Any, word: str = "call") -> str:
    """The command that an example payload means."""
    import shlex

    payload = example.get("payload", example) if isinstance(example, Mapping) else example
    if not isinstance(payload, Mapping):
        return json.dumps(example, ensure_ascii=False)
    words = [
        f"{key}={value}"
        if isinstance(value, str) and value not in ("-",) and not value.startswith("@")
        else f"{key}:={json.dumps(value, ensure_ascii=False)}"
        for key, value in payload.items()
    ]
    return " ".join([f"packetflow {word}", id, *(shlex.quote(word) for word in words)])


@leaf(
    "add",
    document="packetflow.node.system.shapes:CatalogueChanged",
    examples=["capability add more/reports.py", "capability add ticket.close --dry-run"],
    changes=("dry_run",),
)
@click.argument("file")
def add(run: Invocation, file: str) -> None:
    """Serves the capabilities of a Python file too, now and after restarts.

    FILE may also be the id of a capability that `capability remove` took away. What does not load changes nothing.
    """
    change(run, "add", file)


@leaf(
    "remove",
    document="packetflow.node.system.shapes:CatalogueChanged",
    examples=["capability remove ticket.close --yes", "capability remove ticket.close@1.0.0 --dry-run"],
    changes=("dry_run", "yes"),
)
@click.argument("id")
def remove(run: Invocation, id: str) -> None:
    """Serves a capability no more, now and after restarts; calls under way finish on it.

    ID may also be a file that `capability add` added. `capability add` brings either back.
    """
    run.confirm(f"serve {id} no more?")
    change(run, "remove", id)


def change(run: Invocation, verb: str, name: str) -> None:
    """Asks for the change and shows what it came to."""
    from pathlib import Path

    is_path = "/" in name or name.endswith(".py")
    payload: dict[str, Any] = {"name": str(Path(name).absolute()) if is_path else name}
    if run.dry_run:
        payload["dry_run"] = True
    document = run.ask(f"system.capability.{verb}", payload)
    run.answer(document, lambda out: show_change(out, document))


def show_change(out: Painter, document: Mapping[str, Any]) -> None:
    """What changed, or would."""
    if not document["changed"]:
        out.line("nothing would change" if document["dry_run"] else "nothing to do")
    for words in document["changed"]:
        out.line(f"would be: {words}" if document["dry_run"] else str(words))
