"""Notices of a node: from `notify` by the configuration's channels to a real server, secrets hidden, requests not held."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Annotated, Any

import gevent
import pytest

from packetflow import Node, Secret, capability
from packetflow.capabilities.effects import notify
from packetflow.errors import DefinitionError
from packetflow.node.config import ConfigError, NodeConfig, load_config
from tests.notices.test_delivery import Hook


@capability(
    "order.place",
    effects=[
        notify(
            "ops",
            "order {value} of {payload.sku} by {context.principal}, card {payload.card}",
            subject="{payload.sku}",
        ),
        notify("ops", "failed: {outcome}", when="failure"),
    ],
)
def place(sku: str, card: Annotated[str, Secret]) -> int:
    """Place."""
    if sku == "none":
        raise LookupError(sku)
    return 12


def config(folder: Path, url: str) -> NodeConfig:
    return NodeConfig.model_validate(
        {
            "node": {"data_folder": folder},
            "tcp": {"enabled": False},
            "http": {"enabled": False},
            "timeouts": {"shutdown": 0.2},
            "channels": [{"name": "ops", "kind": "webhook", "url": url}],
        }
    )


def test_a_notice_is_delivered_after_the_answer_with_secrets_hidden(tmp_path: Path) -> None:
    hook = Hook()
    with Node(config(tmp_path, hook.url), capabilities=[place], log_stream=io.StringIO()) as node:
        assert node.call("order.place", {"sku": "a1", "card": "4111"}) == 12
        assert hook.got == []
        node.request("order.place", {"sku": "none", "card": "4111"})
        with gevent.Timeout(10):
            while len(hook.got) < 2:
                gevent.sleep(0.005)
        [row] = node.stats()["effects"]["channels"]
        assert (row["channel"], row["sent"], row["failed"]) == ("ops", 2, 0)
    hook.server.stop()
    first, second = (json.loads(body) for _, body in hook.got)
    assert first["text"] == "order 12 of a1 by local, card ***"
    assert (first["subject"], first["capability"], first["outcome"]) == ("a1", "order.place", "ok")
    assert second["text"] == "failed: execution_failed"
    assert "4111" not in str(hook.got)


def test_a_channel_that_does_not_deliver_makes_the_node_ill_and_nobody_waits(tmp_path: Path) -> None:
    with Node(
        config(tmp_path, "http://127.0.0.1:1/t0ken"), capabilities=[place], log_stream=io.StringIO()
    ) as node:
        assert node.call("order.place", {"sku": "a1", "card": "1"}) == 12
        with gevent.Timeout(10):
            while not node.health()["findings"]:
                gevent.sleep(0.005)
        [finding] = node.health()["findings"]
        assert "channel ops does not deliver" in finding["what"]
        assert "t0ken" not in str(node.stats())


@pytest.mark.parametrize(
    ("declared", "told"),
    [
        (notify("obs", "x"), "no channel 'obs' in the configuration; there is ops"),
        (notify("ops", "{payload.no}"), "'no' is no field of payload"),
        (notify("ops", "{"), "a '{' without its '}'"),
    ],
)
def test_a_wrong_notice_keeps_the_node_from_starting(tmp_path: Path, declared: Any, told: str) -> None:
    @capability("a.b", effects=[declared])
    def work(n: int) -> int:
        """Work."""
        return n

    node = Node(config(tmp_path, "http://127.0.0.1:1/"), capabilities=[work], log_stream=io.StringIO())
    with pytest.raises(DefinitionError) as caught:
        node.start()
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ('kind = "webhook"', "a webhook without its address"),
        ('kind = "webhook"\nurl = "https://a/"\nurl_secret = { env = "PATH" }', "are both given"),
        ('kind = "webhook"\nurl = "ftp://a/"', "url"),
        ('kind = "mail"', "mail without its host"),
        ('kind = "mail"\nhost = "h"\nsender = "a@b"\nrecipients = ["c@d"]\nuser = "u"', "go together"),
        (
            'kind = "mail"\nhost = "h"\nsender = "a@b"\nrecipients = ["c@d"]\nuser = "u"\npassword = "open"',
            "secret",
        ),
        ('kind = "webhook"\nurl_secret = { env = "NOT_THERE_AT_ALL" }', "NOT_THERE_AT_ALL"),
        ('kind = "pigeon"', "webhook or mail"),
        ('kind = "webhook"\nurl = "https://a/"\nretries = 3', "retries"),
    ],
)
def test_a_wrong_channel_is_told_at_its_place(tmp_path: Path, table: str, told: str) -> None:
    file = tmp_path / "node.toml"
    file.write_text(f'[[channels]]\nname = "ops"\n{table}\n')
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    assert told in str(caught.value)
    assert "open" not in str(caught.value).replace("node.toml", "")


def test_two_channels_of_one_name_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text('[[channels]]\nname = "ops"\nkind = "webhook"\nurl = "https://a/"\n' * 2)
    with pytest.raises(ConfigError, match='two channels are called "ops"'):
        load_config(file)
