"""The first capability: a plain typed function with one decorator."""

from packetflow import capability


@capability("greeting.hello", examples=[{"name": "Ana"}])
def hello(name: str, times: int = 1) -> list[str]:
    """Greet somebody, as often as you like."""
    return [f"hello {name}"] * times
