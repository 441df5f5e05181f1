"""The supervision runtime, held to its specification."""
