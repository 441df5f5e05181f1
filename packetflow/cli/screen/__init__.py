"""How results look: colour, tables, units and values, for people on a terminal and for programs in a pipe."""
