"""The networks that are measured: those of the published recipes, and what stands for them at small size."""

import functools
from typing import Any

import numpy as np
from on_accelerator.bench import ROOT

from cornerjax.config import Config, load_recipe
from cornerjax.data.crop import as_arrays, draw
from cornerjax.detectors import get_detector
from cornerjax.nn.backbones.hourglass import Hourglass
from cornerjax.nn.backbones.resnet import ResNet
from cornerjax.nn.functional import Tree
from cornerjax.training.setup import network_of
from cornerjax.validation import replaced

# By importance: the recipe, images a step that need little memory, images a step of the recipe or as many as may fit.
RECIPES = {
    "cornernet_squeeze": (16, 56),
    "cornernet": (16, 48),
    "centernet_points_resnet18": (32, 112),
    "cornernet_saccade": (16, 48),
    "centernet_points_dla34": (32, 128),
    "centernet_triplets": (16, 48),
    "extremenet": (16, 48),
    "centernet_points_resdcn18": (32, 112),
    "centernet_points_hourglass": (16, 48),
    "centernet_triplets_52": (16, 48),
    "centernet_points_resnet101": (32, 96),
    "centernet_points_resdcn101": (32, 96),
}
TINY: dict[str, dict[str, Any]] = {
    "cornernet": {
        "model": {
            "backbone": Hourglass(1, stem_dim=4, stem_kernel=3, dims=(8, 8), blocks=(1, 1), dim=8),
            "pool_dim": 4,
        },
        "data": {"crop_px": (63, 63), "max_objects": 8},
        "test": {"top_k": 8, "max_pairs": 16, "max_detections": 8},
    },
    "centernet_points_resnet18": {
        "model": {"backbone": ResNet(width=4, up_dims=(8, 8, 8)), "head_dim": 8},
        "data": {"crop_px": (64, 64), "max_objects": 8},
        "test": {"top_k": 8, "max_detections": 8},
    },
}


def recipe(name: str, *, small: bool, **compute: str) -> Config:
    """The recipe, for COCO's classes, its pixels finished on the device; computed as told."""
    config = load_recipe(ROOT / "configs" / f"{name}.py")
    changes = {"model.num_classes": 3 if small else 80, "data.render": "device", "compute": compute}
    return replaced(replaced(config, TINY[name] if small else {}), changes)


@functools.cache
def weights(name: str, small: bool) -> tuple[Tree, Tree]:
    """params and model_state of a recipe's network, as training starts with, on the host."""
    _, params, model_state = network_of(recipe(name, small=small), np.random.default_rng(0))
    return params, model_state


def examples(config: Config) -> dict[str, np.ndarray]:
    """A batch of training examples as the pipeline makes them: noise with boxes in it, a few different ones in turn."""
    detector, (height, width) = get_detector(config.model.detector), config.data.crop_px
    made = []
    for seed in range(min(4, config.data.batch)):
        rng = np.random.default_rng(seed)
        first = rng.uniform(0, 0.7, (20, 2)) * (width, height)
        last = np.minimum(first + rng.uniform(0.05, 0.5, (20, 2)) * (width, height), (width, height))
        (x1, y1), (x2, y2) = first.T, last.T
        points = np.stack([[(x1 + x2) / 2, y1], [x1, (y1 + y2) / 2], [(x1 + x2) / 2, y2], [x2, (y1 + y2) / 2]])
        objects = {
            "boxes": np.concatenate([first, last], 1).astype(np.float32),
            "classes": rng.integers(0, config.model.num_classes, 20).astype(np.int32),
            "extreme_points": np.moveaxis(points, 2, 0).astype(np.float32),
        }
        image = {"image": rng.integers(0, 256, (height, width, 3), np.uint8)}
        made.append(detector.encode(objects, config) | as_arrays(draw(rng, height, width, config.data)) | image)
    return {name: np.stack([made[i % len(made)][name] for i in range(config.data.batch)]) for name in made[0]}
