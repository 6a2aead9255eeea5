"""What an adversary sees of a model: predictions, gradients, activations."""
