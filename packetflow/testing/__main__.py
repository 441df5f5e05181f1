"""`python -m packetflow.testing FILE --seed N`: one seed of the programs in a file, as a JSON line each on stdout.

A process of its own for each seed, so that what Python draws at its start (the order in sets of texts) is drawn by the
seed too: who starts it sets PYTHONHASHSEED.
"""

from packetflow.testing.running import main

main()
