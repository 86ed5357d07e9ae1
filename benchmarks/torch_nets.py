"""The same net in PyTorch, for a process of its own: see `workers`."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.cases import Case
from benchmarks.timing import THREADS

LAYOUTS = ("eager", "channels_last")


def make(
    case: Case, weights: list[np.ndarray], dtype: str = "float32"
) -> dict[str, Callable[[], Any]]:
    """Training steps and inference of each layout, from the same weights."""
    torch.set_num_threads(THREADS)
    calls = {}
    for layout in LAYOUTS:
        calls[f"train {layout}"] = _train(case, weights, layout, dtype)
        calls[f"predict {layout}"] = _predict(case, weights, layout, dtype)
    return calls


def net(case: Case, weights: list[np.ndarray]) -> nn.Sequential:
    """Layers in the order of Keras' weights, which are a kernel and a bias each."""
    channels = case.shape[-1]
    parts: list[nn.Module] = []
    for filters in case.filters:
        parts += [nn.Conv2d(channels, filters, 3, padding=1), nn.ReLU()]
        parts += [nn.MaxPool2d(2)]
        channels = filters
    for filters in case.decoder_filters():
        parts += [nn.Upsample(scale_factor=2, mode="nearest")]
        parts += [nn.Conv2d(channels, filters, 3, padding=1), nn.ReLU()]
        channels = filters
    parts += [nn.Conv2d(channels, case.shape[-1], 3, padding=1), nn.Sigmoid()]
    model = nn.Sequential(*parts)
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), weights, strict=True):
            axes = (3, 2, 0, 1) if value.ndim == 4 else (0,)
            parameter.copy_(torch.from_numpy(value.transpose(axes).copy()))
    return model


def _placed(case: Case, weights: list[np.ndarray], layout: str):
    """Net and images in the memory layout, on the device that there is."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    images = torch.from_numpy(case.images().transpose(0, 3, 1, 2).copy())
    model = net(case, weights)
    if layout == "channels_last":
        model = model.to(memory_format=torch.channels_last)
        images = images.contiguous(memory_format=torch.channels_last)
    return model.to(device), images.to(device)


def _train(case: Case, weights: list[np.ndarray], layout: str, dtype: str):
    model, images = _placed(case, weights, layout)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, eps=1e-7)  # Keras' own

    def step() -> float:
        optimizer.zero_grad()
        with _precision(images, dtype):
            loss = nn.functional.mse_loss(model(images).float(), images)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def _predict(case: Case, weights: list[np.ndarray], layout: str, dtype: str):
    model, images = _placed(case, weights, layout)

    @torch.inference_mode()
    def run() -> np.ndarray:
        with _precision(images, dtype):
            return model(images).float().cpu().numpy()

    return run


def _precision(images: torch.Tensor, dtype: str):
    enabled = dtype == "bfloat16"
    return torch.autocast(images.device.type, torch.bfloat16, enabled=enabled)
