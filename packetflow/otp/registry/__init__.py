"""Registries: keys for actors, and what is known by a key, as Elixir's Registry has them.

The room has the name of what it holds: `packetflow.otp.Registry` is the class.
"""
