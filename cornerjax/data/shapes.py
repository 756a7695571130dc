"""The generated data set: circles, rectangles and triangles on noisy backgrounds, as a COCO-format folder.

python -m cornerjax.data.shapes --out data/shapes-0 --seed 0
"""

import json
import shutil
import tempfile
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

from cornerjax import cli
from cornerjax.config import InputError

SIDE_PX = 127  # of a picture
SHAPES = ("circle", "rectangle", "triangle")  # category ids 1, 2, 3
SPLITS = ("train", "val")
MIN_PX, MAX_PX = 20, 63  # sides of a box
MAX_OVERLAP = 0.25  # intersection of two boxes, as a part of the smaller
CONTRAST = 90  # least distance of a shape's BGR colour from what it covers, on average


def write_shapes(folder: Path, *, seed: int, train: int = 4000, val: int = 200) -> Path:
    """Write the data set `folder/images/{train,val}/` and `folder/annotations/instances_{train,val}.json`.

    A picture is a pure function of (seed, split, index). A complete folder is left as it is; an interrupted
    call leaves no folder.

    Args:
        folder: created, with its parents.
        seed: at least 0.
        train, val: number of pictures of each split.
    Returns: the folder.
    Raises: InputError: the seed is negative, or the folder is there and holds something else or cannot be written.
    """
    if seed < 0:
        raise InputError(f"the seed of the generated shapes must be 0 or more, got {seed}")
    recipe = {"seed": seed, "train": train, "val": val}
    try:
        if not _is_complete(folder, recipe):
            _write_set(folder, recipe)
    except OSError as e:
        raise InputError(f"cannot write {folder}: {e.strerror}") from None
    return folder


def _write_set(folder: Path, recipe: dict[str, int]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        unfinished.chmod(0o755)  # mkdtemp's folders are private
        (unfinished / "annotations").mkdir()
        for split in SPLITS:
            _write_split(unfinished, recipe["seed"], split, recipe[split])
        (unfinished / "shapes.json").write_text(json.dumps(recipe))
        try:
            unfinished.rename(folder)
        except OSError:  # another process was faster
            if not _is_complete(folder, recipe):
                raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _is_complete(folder: Path, recipe: dict[str, int]) -> bool:
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    made_by = folder / "shapes.json"
    there = made_by.read_text() if made_by.is_file() else "something else"
    if there != json.dumps(recipe):
        raise InputError(
            f"{folder} holds {there}, not the shapes {json.dumps(recipe)}: remove it or name another folder"
        )
    return True


def _write_split(folder: Path, seed: int, split: str, count: int) -> None:
    images = folder / "images" / split
    images.mkdir(parents=True)
    image_entries: list[dict] = []
    annotations: list[dict] = []
    for index in range(count):
        image, classes, boxes, areas = make_picture(seed, split, index)
        name = f"{index + 1:06d}.jpg"
        _, jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])
        (images / name).write_bytes(jpeg.tobytes())  # cv2.imwrite does not say what went wrong
        image_entries.append({"id": index + 1, "file_name": name, "height": SIDE_PX, "width": SIDE_PX})
        for shape, (x, y, width, height), area in zip(classes, boxes, areas, strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": index + 1,
                    "category_id": shape + 1,
                    "bbox": [x, y, width, height],
                    "area": area,
                    "iscrowd": 0,
                }
            )
    categories = [{"id": i + 1, "name": name} for i, name in enumerate(SHAPES)]
    content = {"images": image_entries, "annotations": annotations, "categories": categories}
    (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))


def make_picture(
    seed: int, split: str, index: int
) -> tuple[UInt8[np.ndarray, "127 127 3"], list[int], list[tuple[int, int, int, int]], list[int]]:
    """Draw one picture.

    Returns: the BGR image; of each shape the index in SHAPES, the box x, y, width, height and the area, in pixels.
    """
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    canvas = _background(rng)
    wanted = int(rng.integers(1, 6))
    classes: list[int] = []
    boxes: list[tuple[int, int, int, int]] = []
    areas: list[int] = []
    for _ in range(60):  # places to try; a crowded picture ends with fewer shapes than wanted, never with none
        if len(boxes) == wanted:
            break
        shape = int(rng.integers(len(SHAPES)))
        mask = _mask(SHAPES[shape], rng)
        height, width = mask.shape
        x, y = int(rng.integers(SIDE_PX - width + 1)), int(rng.integers(SIDE_PX - height + 1))
        box = (x, y, width, height)
        if any(_overlap(box, other) > MAX_OVERLAP for other in boxes):
            continue
        _paint(canvas[y : y + height, x : x + width], mask, rng)
        classes.append(shape)
        boxes.append(box)
        areas.append(int(mask.sum()))
    canvas += rng.standard_normal(canvas.shape, np.float32) * np.float32(rng.uniform(4, 14))  # grain
    return np.clip(canvas, 0, 255).astype(np.uint8), classes, boxes, areas


def _background(rng: np.random.Generator) -> np.ndarray:
    """Colour noise of low frequency and stripes."""
    cells = int(rng.integers(2, 7))
    blobs = rng.uniform(40, 215, (cells, cells, 3)).astype(np.float32)
    canvas = cv2.resize(blobs, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_CUBIC)
    angle, period, phase = rng.uniform(0, np.pi), rng.uniform(6, 40), rng.uniform(0, 2 * np.pi)
    x = np.arange(SIDE_PX)
    waves = np.sin((np.cos(angle) * x + np.sin(angle) * x[:, None]) * 2 * np.pi / period + phase)
    return canvas + waves[..., None].astype(np.float32) * rng.uniform(-25, 25, 3).astype(np.float32)


def _mask(shape: str, rng: np.random.Generator) -> Bool[np.ndarray, "height width"]:
    """The pixels of a shape in its own box: it touches all four sides."""
    width, height = (int(side) for side in rng.integers(MIN_PX, MAX_PX + 1, 2))
    if shape == "circle":
        height = width
        from_centre = np.arange(width) - (width - 1) / 2
        return from_centre**2 + from_centre[:, None] ** 2 <= (width / 2) ** 2
    if shape == "rectangle":
        return np.ones((height, width), bool)
    apex = int(rng.integers(width // 5, width - width // 5))
    mask = np.zeros((height, width), np.uint8)
    cv2.fillConvexPoly(mask, np.array([[0, height - 1], [width - 1, height - 1], [apex, 0]], np.int32), 1)
    mask = mask[::-1] if rng.random() < 0.5 else mask
    return mask.astype(bool)


def _overlap(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> float:
    """Intersection of two boxes x, y, width, height as a part of the smaller one."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    return max(width, 0) * max(height, 0) / min(a[2] * a[3], b[2] * b[3])


def _paint(canvas: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> None:
    """Fill the shape, in place, with a colour that stands out from what it covers."""
    covered = canvas[mask].mean(0)
    colour = rng.uniform(20, 235, 3)
    while np.linalg.norm(colour - covered) < CONTRAST:
        colour = rng.uniform(20, 235, 3)
    canvas[mask] = colour


def main(out: Path, seed: int = 0) -> None:
    """Write the generated data set.

    Args:
        out: folder to write.
        seed: another one gives other pictures.
    """
    print(write_shapes(out, seed=seed))


if __name__ == "__main__":
    import tyro

    cli.run(lambda: tyro.cli(main))
