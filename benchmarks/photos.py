"""Photos for benchmarks that read files: made of noise, as large as COCO's."""

import json
from pathlib import Path

import cv2
import numpy as np


def write_photos(folder: Path, count: int = 64) -> str:
    """A COCO-format folder of 640x480 JPEGs of the size that COCO's have, about 150 KB, with 7 boxes each."""
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for i in range(1, count + 1):
        photo = np.zeros((480, 640, 3), np.float32)
        for octave in range(3, 10):  # about the spectrum of photos: each finer layer is weaker
            layer = rng.standard_normal((2**octave * 3 // 4, 2**octave, 3)).astype(np.float32)
            photo += cv2.resize(layer, (640, 480), interpolation=cv2.INTER_CUBIC) * 90 / 1.5 ** (octave - 3)
        cv2.imwrite(
            str(folder / f"{i}.jpg"), np.clip(photo + 128, 0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 90]
        )
        images.append({"id": i, "file_name": f"{i}.jpg", "height": 480, "width": 640})
        for _ in range(7):
            width, height = (float(side) for side in rng.uniform(20, 250, 2))
            box = [float(rng.uniform(0, 640 - width)), float(rng.uniform(0, 480 - height)), width, height]
            annotations.append(
                {"id": len(annotations) + 1, "image_id": i, "category_id": int(rng.integers(1, 81)), "bbox": box}
            )
    categories = [{"id": i, "name": str(i)} for i in range(1, 81)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "train.json").write_text(json.dumps(content))
    print(f"{count} photos of {sum(p.stat().st_size for p in folder.glob('*.jpg')) / count / 1000:.0f} KB")
    return str(folder)
