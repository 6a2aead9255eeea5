"""Per-sample gradients one scan at a time: one backward pass per scan, one tensor after another."""

import torch
from torch import Tensor, nn


def gradient_loop(model: nn.Module, volumes: Tensor, ages: Tensor) -> tuple[Tensor, list[dict[str, Tensor]]]:
    """Return predictions and, per scan, the gradient of its squared error by parameter tensor."""
    predictions, gradients = [], []
    for row in range(len(volumes)):
        model.zero_grad(set_to_none=True)
        prediction = model(volumes[row : row + 1])
        loss = (prediction[0] - ages[row]) ** 2
        loss.backward()
        predictions.append(prediction.detach()[0])
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters()})
    model.zero_grad(set_to_none=True)
    return torch.stack(predictions), gradients
