"""Which capability ids are the node's own."""

from __future__ import annotations

# A pattern reaches these only by naming them (`system.*`, `system.health`): `*` alone does not (design ruling 7).
RESERVED = ("system.",)
# Where the ids of the node's own capabilities begin; they can't be withheld, and nobody means them by "the last requests".
OWN = (*RESERVED, "job.")
