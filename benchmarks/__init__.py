"""Figures, each against its floor on the same machine in the same run: ``python -m benchmarks``."""
