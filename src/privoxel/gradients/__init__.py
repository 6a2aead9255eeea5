"""Per-sample gradients, shared by signals, private training and gradient projection."""
