"""`python -m packetflow`: the command line."""

import sys

from packetflow.cli import main

if __name__ == "__main__":
    sys.exit(main())
