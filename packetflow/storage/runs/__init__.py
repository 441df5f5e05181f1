"""The runs of compositions in the store: records, what a store of them can do, and the one on SQLite."""
