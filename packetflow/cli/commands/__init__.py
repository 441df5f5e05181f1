"""The commands, a file for each noun or verb; `packetflow.cli.tree` says where each is."""
