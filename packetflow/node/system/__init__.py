"""The `system.*` capabilities: what a node tells about itself, and how its operator changes it. Requests like any other."""
