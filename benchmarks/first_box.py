"""How long does predict.py take from its imports to the boxes of a first photo, without a cache, cold and warm?

Each call is a process of its own on one photo, with first weights: without a cache of compiled programs, with an empty
one, and with the one that the call before has filled. Seconds from the end of the imports on, in turn; where others
use the cores too, those of CPU time are steadier.

python benchmarks/first_box.py [--networks points_shapes cornernet_squeeze] [--rounds 3]
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import jax.numpy as jnp
import numpy as np
import tyro

from cornerjax.checkpoint import Checkpoints
from cornerjax.commands.cli import run
from cornerjax.config import load_recipe
from cornerjax.detectors import get_detector
from cornerjax.detectors.base import make_network
from cornerjax.new_workdir import create_workdir
from cornerjax.validation import replaced

CONFIGS = Path(__file__).parents[1] / "configs"
CLASSES = 80
# Takes the arguments of predict.py; its last line says how long that took, its two parts, and the CPU time of all.
CALL = """
import json, sys, time
from cornerjax.commands import predict
from cornerjax.inference import folder, predictor
parts = {}
def timed(module, name, call):
    def taken(*args, **options):
        start = time.perf_counter()
        try:
            return call(*args, **options)
        finally:
            parts[name] = time.perf_counter() - start
    setattr(module, name, taken)
timed(predictor, "load", predictor.load)
timed(folder, "predict_to_folder", folder.predict_to_folder)
start, cpu = time.perf_counter(), time.process_time()
predict.main(sys.argv[1:])
print(json.dumps({"all": time.perf_counter() - start, "CPU": time.process_time() - cpu} | parts))
"""


def write_run(recipe: str, workdir: Path) -> tuple[int, int]:
    """A run with first weights; the size of photo that it was made for."""
    config = replaced(load_recipe(CONFIGS / f"{recipe}.py"), {"model.num_classes": CLASSES})
    names = tuple(f"class {i}" for i in range(CLASSES))
    create_workdir(workdir, config, names, tuple(range(CLASSES)), recipe=recipe)
    _, params, model_state = make_network(get_detector(config.model.detector), config, np.random.default_rng(0))
    with Checkpoints(workdir) as checkpoints:
        checkpoints.save(1, {"params": params, "model_state": model_state}, {"step": jnp.int32(1)})
    return config.data.crop_px


def call(workdir: Path, photo: Path, out: Path, cache: Path | None) -> dict[str, float]:
    """Seconds of one call, by part."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache), "JAX_ENABLE_COMPILATION_CACHE": str(cache is not None)}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    command = [sys.executable, "-c", CALL, str(photo), "--workdir", str(workdir), "--out", str(out)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main(networks: tuple[str, ...] = ("points_shapes", "cornernet_squeeze"), rounds: int = 3) -> None:
    """Measure; see the top of the file.

    Args:
        networks: recipes, by their names in configs/.
        rounds: of which the median is taken.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for network in networks:
            side = write_run(network, folder / network)[0]
            photo = folder / f"{network}.png"
            cv2.imwrite(str(photo), np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8))
            taken: dict[str, list[dict[str, float]]] = {"no cache": [], "cold": [], "warm": []}
            for number in range(rounds):
                cache = folder / f"cache-{network}-{number}"
                for way, of_way in taken.items():
                    of_way.append(call(folder / network, photo, folder / "out", None if way == "no cache" else cache))
            print(f"{network}, one photo of {side}x{side} pixels")
            for way, of_way in taken.items():
                report(way, of_way, taken["no cache"])


def report(way: str, taken: list[dict[str, float]], before: list[dict[str, float]]) -> None:
    medians = {part: float(np.median([of_call[part] for of_call in taken])) for part in taken[0]}
    ratio = np.median([ours["all"] / theirs["all"] for ours, theirs in zip(taken, before, strict=True)])
    parts = ", ".join(f"{part} {seconds:.2f} s" for part, seconds in medians.items())
    print(f"  {way:8s} {parts}; {ratio:.2f} x the time without a cache")


if __name__ == "__main__":
    run(lambda: tyro.cli(main))
