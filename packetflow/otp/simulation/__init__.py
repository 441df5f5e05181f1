"""Deterministic simulation: a program of actors in virtual time, in an order that a seed draws."""
