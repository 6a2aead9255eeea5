"""Small models in the formats that people bring, made in the test."""

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

SHAPE = (5, 6, 7)
"""Voxels of the volumes, on unequal axes."""


class MeanNet(nn.Module):
    """Says 60 years plus ten times the mean voxel of the front half; ``dropout`` and ``norm`` to go wrong."""

    def __init__(self, *, dropout: float = 0.0, norm: bool = False, outputs: int = 1) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(10.0))
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.BatchNorm3d(1) if norm else nn.Identity()
        self.outputs = outputs

    def forward(self, volumes: torch.Tensor) -> torch.Tensor:
        means = self.dropout(self.norm(volumes))[:, :, :3].flatten(1).mean(dim=1, keepdim=True)
        return (60.0 + self.scale * means).repeat(1, self.outputs)


def expected(batch: np.ndarray) -> np.ndarray:
    """Return what ``MeanNet`` says, by another route."""
    return 60.0 + 10.0 * batch[:, 0, :3].astype(np.float64).mean(axis=(1, 2, 3))


def volumes(scans: int, seed: int = 0, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((scans, 1, *shape)).astype(np.float32)


def write_onnx(path: Path, *, batch: int | str = "n", kind: int = TensorProto.FLOAT, inputs: int = 1) -> Path:
    """Write ``MeanNet`` as ONNX: a product with fixed weights."""
    size = int(np.prod(SHAPE))
    weights = np.zeros((1, *SHAPE))
    weights[:, :3] = 10.0 / (3 * SHAPE[1] * SHAPE[2])
    numbers = np.float32 if kind == TensorProto.FLOAT else np.float64
    parts = [
        numpy_helper.from_array(weights.reshape(size, 1).astype(numbers), "w"),
        numpy_helper.from_array(np.array([60.0], numbers), "b"),
    ]
    nodes = [
        helper.make_node("Flatten", ["scan0"], ["flat"], axis=1),
        helper.make_node("Gemm", ["flat", "w", "b"], ["age"]),
    ]
    given = [helper.make_tensor_value_info(f"scan{k}", kind, [batch, 1, *SHAPE]) for k in range(inputs)]
    age = helper.make_tensor_value_info("age", kind, [batch, 1])
    graph = helper.make_graph(nodes, "net", given, [age], parts)
    return _save(graph, path)


def write_linear_onnx(path: Path, weights: np.ndarray, start: float) -> Path:
    """Write a linear model of features as ONNX."""
    parts = [
        numpy_helper.from_array(weights.reshape(-1, 1).astype(np.float32), "w"),
        numpy_helper.from_array(np.array([start], np.float32), "b"),
    ]
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["age"])]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", len(weights)])
    age = helper.make_tensor_value_info("age", TensorProto.FLOAT, ["n", 1])
    return _save(helper.make_graph(nodes, "net", [x], [age], parts), path)


def _save(graph: onnx.GraphProto, path: Path) -> Path:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, str(path))
    return path


def write_torchscript(path: Path, net: nn.Module) -> Path:
    torch.jit.script(net).save(str(path))
    return path


def write_exported(path: Path, net: nn.Module, *, batch: int | None = None) -> Path:
    """Write an exported program; ``batch`` fixes how many scans it takes."""
    example = torch.from_numpy(volumes(batch or 4))
    shapes = None if batch else ({0: torch.export.Dim("n", min=1)},)
    torch.export.save(torch.export.export(net.eval(), (example,), dynamic_shapes=shapes), str(path))
    return path
