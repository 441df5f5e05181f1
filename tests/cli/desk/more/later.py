"""What is not served until somebody adds it."""

from packetflow import capability


@capability("later.hello")
def hello() -> str:
    """Say hello."""
    return "hello"
