"""The doors to the outside: tcp, HTTP, and the operator's Unix socket. Each takes a callable door and knows nothing above it."""
