"""`python -m packetflow.cli` is the command line without its installed script."""

from packetflow.cli.program import main

main()
