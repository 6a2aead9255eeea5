"""Defences of central training, one idea a file (docs/defences.md)."""
