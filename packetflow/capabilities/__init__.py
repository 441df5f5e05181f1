"""Layer 2: capabilities, their contracts, and the registry."""
