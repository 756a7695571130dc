"""The part of an example's making that `data.render="device"` moves into the jitted step."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from cornerjax.config import Config
from cornerjax.ops.pixels import finish_image

DRAWS = ("flip", "jitter_order", "jitter", "lighting")


def finish_batch(batch: dict[str, Any], config: Config, render: Callable) -> dict[str, Any]:
    """Turn a batch of render="device" into that of render="host": float images and heat maps; pure, jit-able.

    Args:
        batch: as make_batches yields it; that of render="host" is returned as it is.
        config: the one it was made with.
        render: the detector's function.
    """
    if config.data.render == "host":
        return batch
    batch = dict(batch)
    image, image_id = batch.pop("image"), batch.pop("image_id")
    draws = [batch.pop(name) for name in DRAWS]
    images = jax.vmap(functools.partial(finish_image, xp=jnp))(image, *draws)
    heats = jax.vmap(lambda encoded: render(encoded, config, jnp))(batch)
    return {"image": images, "image_id": image_id} | batch | heats
