"""``privoxel defend``: many settings trained and attacked, and what each costs and protects."""
