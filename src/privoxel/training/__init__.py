"""Training models, and the snapshots it leaves."""
