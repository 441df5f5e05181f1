"""The first module: sees every greeting, refuses what is too much, and mends manners."""

from packetflow import Context, Intercept, Module, Reject, Request


class Politeness(Module):
    """Greets people by their name's capital letter, and nobody too often."""

    class Config(Module.Config):
        """most: how many greetings at once."""

        most: int = 3

    def handle_request(self, request: Request, context: Context) -> Intercept | Reject:
        """Refuse more greetings than `most`; capitalise the name."""
        if request.payload["times"] > self.config.most:
            return Reject("too_many", f"{self.config.most} greetings are enough")
        return Intercept(request.with_payload(name=request.payload["name"].title()))
