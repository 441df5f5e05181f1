"""Supervision: what a child is, who starts and restarts it, and the routers that share work among children."""
