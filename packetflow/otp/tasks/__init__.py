"""Tasks: one function as an actor, its result awaited, streamed or supervised, as Elixir's Task has it."""
