"""Other tools' attacks on the targets of ``attack_comparison.py``; they live in an environment of their own."""
