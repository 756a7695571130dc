"""How many programs does XLA compile for a folder of photos of mixed sizes, and how long do they all take?

Photos of noise in the sizes that COCO's have, halved, so that they fall into as many buckets of the small recipe's
network as COCO's do of a large one's; in random order, with first weights.

python benchmarks/mixed_sizes.py [--count 800] [--scales 0.5 1 1.5]
"""

import collections
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import tyro
from compilations import Compilations

from cornerjax.commands.cli import run
from cornerjax.config import load_recipe
from cornerjax.detectors import get_detector
from cornerjax.detectors.base import make_network
from cornerjax.inference.files import predict_files
from cornerjax.inference.predictor import Predictor
from cornerjax.validation import replaced

RECIPE = Path(__file__).parents[1] / "configs" / "points_shapes.py"
# Height, width and share of COCO's photos, about; of the rest one side has 640 pixels, the other 240 to 640.
SIZES = ((480, 640, 0.45), (640, 480, 0.16), (427, 640, 0.16), (375, 500, 0.06), (640, 427, 0.05), (500, 375, 0.03))


def predictor_of(scales: tuple[float, ...]) -> Predictor:
    """The recipe's network with first weights."""
    config = replaced(load_recipe(RECIPE), {"model.num_classes": 3, "test.scales": scales})
    detector = get_detector(config.model.detector)
    weights = make_network(detector, config, np.random.default_rng(0))
    return Predictor(detector, *weights, config, ("a", "b", "c"))


def write_photos(folder: Path, count: int) -> list[Path]:
    rng = np.random.default_rng(0)
    shares = [share for *_, share in SIZES]
    paths = [folder / f"{i:04d}.png" for i in range(count)]
    for path, drawn in zip(paths, rng.choice(len(SIZES) + 1, count, p=[*shares, 1 - sum(shares)]), strict=True):
        height, width = SIZES[drawn][:2] if drawn < len(SIZES) else rng.permutation([640, rng.integers(240, 641)])
        small = rng.integers(0, 256, (height // 32, width // 32, 3), np.uint8)
        cv2.imwrite(str(path), cv2.resize(small, (width // 2, height // 2)))
    return paths


def main(count: int = 800, scales: tuple[float, ...] = (1.0,)) -> None:
    """Measure; see the top of the file.

    Args:
        count: photos.
        scales: at which the network sees each.
    """
    predictor, compilations = predictor_of(scales), Compilations()
    with tempfile.TemporaryDirectory() as name:
        photos = write_photos(Path(name), count)
        for number in ("first", "second"):
            before, start, cpu = compilations.count, time.perf_counter(), time.process_time()
            collections.deque(predict_files(predictor, photos), maxlen=0)
            taken, worked = time.perf_counter() - start, time.process_time() - cpu
            compiled = compilations.count - before
            print(f"{number} pass over {count} photos: {taken:.1f} s, CPU {worked:.1f} s, {compiled} compilations")


if __name__ == "__main__":
    run(lambda: tyro.cli(main))
