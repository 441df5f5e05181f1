"""Layer 3: compositions. A plan is data, a tree of nodes; the engine runs it, and each of its steps is a request."""
