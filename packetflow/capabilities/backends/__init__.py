"""What does the effects: a backend for each kind."""
