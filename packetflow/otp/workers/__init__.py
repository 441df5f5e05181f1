"""Worker processes: actors that are operating-system processes, under supervision, and what they and we say to each other."""
