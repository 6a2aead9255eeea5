"""``python -m privoxel`` is the command ``privoxel``."""

from privoxel.cli import main

main()
