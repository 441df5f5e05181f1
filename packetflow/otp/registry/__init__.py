"""Registries: keys for actors, and what is known by a key, as Elixir's Registry has them."""
