"""Whole pieces of work: the audit, its plan, its parts."""
