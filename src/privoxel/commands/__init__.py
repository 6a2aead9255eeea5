"""Commands that are too long for ``cli``, one file each; ``cli`` gives them their names."""
