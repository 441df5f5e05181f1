"""An actor: python examples/otp/hello.py"""

from packetflow.otp import ActorContext, System, call, start_actor


def hello(context: ActorContext, name: str) -> str:
    return f"hello {name}"


system = System()
greeter = start_actor(hello, system=system)
print(call(greeter, "world"))
system.shutdown()
