"""The part of an example's making that `data.render="device"` moves into the jitted step."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from cornerjax.config import Config
from cornerjax.data.crop import DRAWS
from cornerjax.ops.pixels import finish_image


def finish_batch(batch: dict[str, jax.Array], config: Config, render: Callable) -> dict[str, jax.Array]:
    """Turn a batch of render="device" into that of render="host": float images and heat maps; pure, jit-able.

    Args:
        batch: as make_batches yields it; that of render="host" is returned as it is. Its "image_id" is of no use on a
            device: it may be missing, and the result has none.
        config: the one it was made with.
        render: the detector's function.
    """
    if config.data.render == "host":
        return batch
    batch = dict(batch)
    batch.pop("image_id", None)
    image = batch.pop("image")
    draws = [batch.pop(name) for name in DRAWS]
    images = jax.vmap(functools.partial(finish_image, xp=jnp))(image, *draws)
    heats = jax.vmap(lambda encoded: render(encoded, config, jnp))(batch)
    return {"image": images} | batch | heats
