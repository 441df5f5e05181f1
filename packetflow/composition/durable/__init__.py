"""Durable runs: each step's result is stored before the next begins, and what a crash leaves is taken up again."""
