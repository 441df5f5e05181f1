"""Actors as plain functions: what a function receives and answers, and the system that hosts them as servers."""
