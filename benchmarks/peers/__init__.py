"""Other tools' attacks on the targets of ``attack_comparison.py``, in an environment of their own."""
