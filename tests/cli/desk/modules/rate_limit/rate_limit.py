"""A module whose refusals a test can count on."""

from packetflow import Module, Reject


class RateLimit(Module):
    """Puts off every third request for work.limited."""

    class Config(Module.Config):
        every: int = 3

    def init(self, config):
        self.seen = 0

    def handle_request(self, request, context):
        if request.capability != "work.limited":
            return None
        self.seen += 1
        if self.seen % self.config.every == 0:
            return Reject("too_fast", "wait a moment", code="rate_limited", retry_after=0.01)
        return None
