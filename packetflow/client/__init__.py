"""The client library: `Client("tcp://127.0.0.1:7420").call("ticket.find", {...})`. Loads neither gevent nor pydantic."""

from packetflow.client.client import Client
from packetflow.client.replies import Pending, Reply
from packetflow.client.streams import ClientStream

__all__ = ["Client", "ClientStream", "Pending", "Reply"]
