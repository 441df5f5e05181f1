"""Changes at run time: kept on disk, laid over the files, dropped when the file's value was edited since."""

from __future__ import annotations

import errno
import json
import os
import stat
from datetime import UTC, datetime

import pytest

from packetflow.node.config import Overlay, OverlayError, load_with_overlay
from packetflow.node.config.show import flatten

WHEN = datetime(2026, 3, 4, 13, 25, tzinfo=UTC)
FILE = '[[modules]]\nname = "tax"\npriority = 150\n[log]\nlevel = "info"\n'


@pytest.fixture
def overlay(project):
    return Overlay(project.folder / "run" / "overlay.json")


def change(project, overlay, key, value, **kwargs):
    overlay.set(key, value, who="ana", when=WHEN, file_value=project.load(**kwargs).file_value(key))


def test_a_change_survives_a_restart_and_says_who_made_it_and_when(project, overlay):
    project.write(FILE)
    change(project, overlay, "modules.tax.enabled", False)
    loaded, again = load_with_overlay(None, {}, folder=project.folder)
    assert loaded.config.modules[0].enabled is False
    assert loaded.origins["modules.tax.enabled"] == "overlay by ana at 2026-03-04T13:25:00+00:00"
    assert again["modules.tax.enabled"].who == "ana"
    assert project.file.read_text() == FILE


def test_an_entry_whose_file_value_is_unchanged_is_kept_and_one_that_was_edited_is_dropped_by_name(
    project, overlay
):
    project.write(FILE)
    change(project, overlay, "modules.tax.priority", 120)
    change(project, overlay, "log.level", "debug")
    loaded = project.load(FILE.replace("150", "160"), overlay=overlay)
    assert loaded.config.modules[0].priority == 160
    assert loaded.config.log.level == "debug"
    (dropped,) = loaded.dropped
    assert (dropped.key, dropped.reason, dropped.entry.value) == (
        "modules.tax.priority",
        "the file was edited since",
        120,
    )


def test_an_entry_is_kept_when_modules_change_their_order_and_dropped_with_its_module(project, overlay):
    project.write(FILE)
    change(project, overlay, "modules.tax.priority", 120)
    loaded = project.load('[[modules]]\nname = "new"\n' + FILE, overlay=overlay)
    assert [(m.name, m.priority) for m in loaded.config.modules] == [("new", 500), ("tax", 120)]
    loaded = project.load('[[modules]]\nname = "new"\n', overlay=overlay)
    assert [(d.key, d.reason) for d in loaded.dropped] == [
        ("modules.tax.priority", "the files no longer have it")
    ]


def test_a_key_that_the_file_gained_since_is_dropped(project, overlay):
    project.write(FILE)
    change(project, overlay, "modules.tax.enabled", False)
    loaded = project.load(FILE.replace("priority", "enabled = true\npriority"), overlay=overlay)
    assert [dropped.key for dropped in loaded.dropped] == ["modules.tax.enabled"]


def test_a_list_is_kept_as_a_list(project, overlay):
    project.write("[access]\nlocal = ['a']\n")
    change(project, overlay, "access.local", ["b", "c"])
    assert project.load(overlay=overlay).config.access.local == ("b", "c")


def test_environment_and_flags_are_stronger(project, overlay):
    project.write(FILE)
    change(project, overlay, "log.level", "debug")
    loaded, _ = load_with_overlay(None, {"PACKETFLOW_LOG__LEVEL": "error"}, folder=project.folder)
    assert next(r for r in flatten(loaded) if r.key == "log.level").value == "error"


def test_a_value_that_does_not_fit_is_told_with_the_overlays_key(project, overlay):
    project.write(FILE)
    change(project, overlay, "log.level", "loud")
    assert project.refused(overlay=overlay).startswith(
        "overlay log.level: unknown word in [log]\n  key log.level"
    )


def test_removing_what_is_not_there_writes_nothing(overlay):
    overlay.remove("a", "b")
    assert not overlay.path.exists()
    overlay.set("log.level", "debug", who="ana", when=WHEN)
    overlay.remove("log.level", "x")
    assert dict(Overlay(overlay.path)) == {}


def test_the_file_is_the_owners_alone(overlay):
    overlay.set("log.level", "debug", who="ana", when=WHEN)
    assert stat.S_IMODE(overlay.path.stat().st_mode) == 0o600


def test_a_secret_is_not_taken(overlay):
    with pytest.raises(OverlayError, match="use a reference"):
        overlay.set("modules.tax.config.password", "hunter2", who="ana", when=WHEN)
    overlay.set("modules.tax.config.password", {"env": "TAX_PASSWORD"}, who="ana", when=WHEN)


def test_a_full_disk_leaves_the_old_overlay_and_says_so(overlay, monkeypatch):
    overlay.set("log.level", "debug", who="ana", when=WHEN)
    before = overlay.path.read_bytes()

    def full(number: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OverlayError, match="No space left on device; nothing was changed, make room"):
        overlay.set("log.level", "error", who="ana", when=WHEN)
    monkeypatch.undo()
    assert overlay.path.read_bytes() == before
    assert overlay["log.level"].value == "debug"
    assert [path.name for path in overlay.path.parent.iterdir()] == ["overlay.json"]  # no litter


def test_a_folder_that_can_not_be_made_says_so(project):
    project.write("", "file")
    overlay = Overlay(project.folder / "run" / "overlay.json")
    overlay.path = project.folder / "file" / "overlay.json"
    with pytest.raises(OverlayError, match=r"can't write .*file/overlay.json: .*; nothing was changed"):
        overlay.set("log.level", "debug", who="ana", when=WHEN)
    assert dict(overlay) == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ":1:1: not JSON"),
        ('{"version": 1,\n "entries": {', ":2:14: not JSON"),
        ("[]", "no overlay of version 1"),
        ('{"version": 2}', "no overlay of version 1"),
        ('{"version": 1}', 'expected "entries" to be an object'),
        ('{"version": 1, "entries": {"a": 3}}', "entry a expected value, who and when"),
        (
            '{"version": 1, "entries": {"a": {"value": 1, "who": 3, "when": ""}}}',
            "entry a expected value, who and when",
        ),
        ("[" * 100_000, "not JSON"),
        ("\xff", "not JSON"),
    ],
)
def test_a_damaged_overlay_is_named_with_the_cure(overlay, text, message):
    overlay.path.parent.mkdir(parents=True)
    overlay.path.write_bytes(text.encode("latin-1"))
    with pytest.raises(OverlayError) as raised:
        Overlay(overlay.path)
    assert message in str(raised.value)
    assert str(overlay.path) in str(raised.value)
    assert "move" in str(raised.value)


def test_an_entry_for_a_key_that_never_was_is_dropped(project, overlay):
    overlay.path.parent.mkdir(parents=True)
    entry = {"value": 1, "who": "ana", "when": "now", "file_value": None}
    overlay.path.write_text(json.dumps({"version": 1, "entries": {"no.such key!": entry, "http.prt": entry}}))
    loaded, _ = load_with_overlay(None, {}, folder=project.folder)
    assert [dropped.key for dropped in loaded.dropped] == ["no.such key!", "http.prt"]
