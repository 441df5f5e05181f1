"""The modules that ship, each by itself: an instance, a clock that the test turns, and requests and responses."""
