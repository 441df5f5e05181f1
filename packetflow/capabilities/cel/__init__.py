"""The Common Expression Language (github.com/google/cel-spec), as far as conditions need it: reading, checking, evaluating.

`packetflow.capabilities.conditions` is the way in. tree.py holds the nodes, tokens.py and parser.py make them from text,
compiling.py makes functions of them, values.py and functions.py say what the operators and functions do.
"""
