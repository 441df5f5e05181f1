"""Layer 5: the module protocol, the chain, and how modules are hosted and loaded."""
