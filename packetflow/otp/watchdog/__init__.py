"""The watchdog: who holds the hub, for how long, and where a handler may be broken."""
