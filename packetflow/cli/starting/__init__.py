"""`packetflow start`: settings, banner, signals, watching files, going to the background."""
