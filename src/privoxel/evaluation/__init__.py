"""From scores to estimates with intervals, and to a verdict."""
