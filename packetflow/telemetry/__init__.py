"""What a node records: traces, logs, what changed on the way."""
