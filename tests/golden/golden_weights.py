"""The weights and images with which the original networks were run to record the numbers in this folder.

Every array is a function of its PyTorch name, its PyTorch shape and a seed: nothing large needs to be stored.
"""

import zlib
from math import prod

import numpy as np


def draws(name: str, seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64([seed, zlib.crc32(name.encode())]))


def weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A parameter or statistic, float32; kernels keep the activations of deep networks of a size near 1."""
    n = draws(name).standard_normal(shape)
    if name.endswith(("running_mean", "bias")):
        value = 0.1 * n
        if name.endswith("conv_offset_mask.bias"):
            value[2 * len(value) // 3 :] += 2  # the masks
    elif name.endswith("running_var"):
        value = 1 + 0.1 * np.abs(n)
    elif len(shape) == 1:
        value = 1 + 0.1 * n
    elif ".up_" in name and shape[1] == 1:
        value = 0.3 + 0.2 * n
    else:
        fan_in = prod(shape[1:])
        if fan_in >= 64:
            n -= n.mean(axis=tuple(range(1, len(shape))), keepdims=True)
        value = 0.85 * n * np.sqrt(2 / fan_in) * scale_of(name)
    return value.astype(np.float32)


def scale_of(name: str) -> float:
    """Of kernels in networks whose signal would otherwise fade away, or be scattered by large offsets."""
    if "conv_offset_mask" in name:
        return 0.3
    return 2 if any(part in name for part in ("deconv_layers", ".proj_", ".node_")) else 1


def image(shape: tuple[int, int, int, int], seed: int = 0) -> np.ndarray:
    """A normalised network input (b, c, H, W), float32: plane waves and a little noise."""
    b, c, h, w = (int(side) for side in shape)
    rng = draws(f"image:{b},{c},{h},{w}", seed)
    y, x = np.mgrid[0:h, 0:w].astype(np.float64)
    planes = []
    for _ in range(b * c):
        frequency = rng.uniform(-0.35, 0.35, (8, 2))
        phase, amplitude = rng.uniform(0, 2 * np.pi, 8), rng.uniform(0.2, 0.8, 8)
        angle = frequency[:, :1, None] * y + frequency[:, 1:, None] * x + phase[:, None, None]
        planes.append((amplitude[:, None, None] * np.sin(angle)).sum(0) + 0.2 * rng.standard_normal((h, w)))
    return np.reshape(planes, (b, c, h, w)).astype(np.float32)
