"""The generated data sets: circles, rectangles and triangles on noisy backgrounds, as COCO-format folders."""

import dataclasses
import json
import shutil
import tempfile
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

from cornerjax.errors import InputError
from cornerjax.progress import progress

SHAPES = ("circle", "rectangle", "triangle")  # category ids 1, 2, 3
SPLITS = ("train", "val")
MAX_OVERLAP = 0.25  # intersection of two boxes, as a part of the smaller
CONTRAST = 90  # least distance of a shape's BGR colour from what it covers, on average


@dataclasses.dataclass(frozen=True)
class Style:
    """What the pictures of a generated set look like; a pair is the least and the largest of what is drawn.

    Attributes:
        name: of the style.
        side_px: of a picture.
        object_px: sides of a box.
        mostly_small: the longer side is log-uniform, the shorter at least 0.6 of it; otherwise both are uniform.
        objects: wanted in a picture.
        cells: of the background's colour noise, along a side of the picture.
        period_px: of the stripes.
        grain: standard deviation of the noise over everything, of 255.
        lines, dots: most in a picture; too thin and too small for objects.
        train, val: pictures of each split, unless told otherwise.
    """

    name: str
    side_px: int
    object_px: tuple[int, int]
    mostly_small: bool
    objects: tuple[int, int]
    cells: tuple[int, int]
    period_px: tuple[int, int]
    grain: tuple[int, int]
    lines: int
    dots: int
    train: int
    val: int


STYLES = {
    "shapes": Style(
        name="shapes",
        side_px=127,
        object_px=(20, 63),
        mostly_small=False,
        objects=(1, 5),
        cells=(2, 6),
        period_px=(6, 40),
        grain=(4, 14),
        lines=0,
        dots=0,
        train=4000,
        val=200,
    ),
    "scenes": Style(
        name="scenes",
        side_px=511,
        object_px=(10, 160),
        mostly_small=True,
        objects=(1, 6),
        cells=(3, 10),
        period_px=(24, 160),
        grain=(3, 9),
        lines=8,
        dots=30,
        train=1500,
        val=150,
    ),
}


def write_shapes(
    folder: Path, *, seed: int, train: int | None = None, val: int | None = None, style: Style = STYLES["shapes"]
) -> Path:
    """Write the data set `folder/images/{train,val}/` and `folder/annotations/instances_{train,val}.json`.

    A picture is a pure function of (seed, split, index). A complete folder is left as it is; an interrupted
    call leaves no folder.

    Args:
        folder: created, with its parents.
        seed: at least 0.
        train, val: number of pictures of each split; None: as the style says.
        style: one of STYLES.
    Returns: the folder.
    Raises: InputError: the seed is negative, or the folder is there and holds something else or cannot be written.
    """
    if seed < 0:
        raise InputError(f"the seed of the generated {style.name} must be 0 or more, got {seed}")
    recipe = {
        "seed": seed,
        "train": style.train if train is None else train,
        "val": style.val if val is None else val,
    }
    try:
        if not _is_complete(folder, recipe, style):
            _write_set(folder, recipe, style)
    except OSError as e:
        raise InputError(f"cannot write {folder}: {e.strerror}") from None
    return folder


def _write_set(folder: Path, recipe: dict[str, int], style: Style) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        unfinished.chmod(0o755)  # mkdtemp's folders are private
        (unfinished / "annotations").mkdir()
        for split in SPLITS:
            _write_split(unfinished, recipe["seed"], split, recipe[split], style)
        (unfinished / f"{style.name}.json").write_text(json.dumps(recipe))
        try:
            unfinished.rename(folder)
        except OSError:  # another process was faster
            if not _is_complete(folder, recipe, style):
                raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _is_complete(folder: Path, recipe: dict[str, int], style: Style) -> bool:
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    made_by = folder / f"{style.name}.json"
    there = made_by.read_text() if made_by.is_file() else "something else"
    if there != json.dumps(recipe):
        raise InputError(
            f"{folder} holds {there}, not the {style.name} {json.dumps(recipe)}: remove it or name another folder"
        )
    return True


def _write_split(folder: Path, seed: int, split: str, count: int, style: Style) -> None:
    images = folder / "images" / split
    images.mkdir(parents=True)
    image_entries: list[dict] = []
    annotations: list[dict] = []
    for index in progress(range(count), total=count, what=f"drawing {style.name}, {split}"):
        image, classes, boxes, areas = make_picture(seed, split, index, style)
        name = f"{index + 1:06d}.jpg"
        _, jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])
        (images / name).write_bytes(jpeg.tobytes())  # cv2.imwrite does not say what went wrong
        image_entries.append({"id": index + 1, "file_name": name, "height": style.side_px, "width": style.side_px})
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
    seed: int, split: str, index: int, style: Style
) -> tuple[UInt8[np.ndarray, "side side 3"], list[int], list[tuple[int, int, int, int]], list[int]]:
    """Draw one picture.

    Returns: the BGR image; of each shape the index in SHAPES, the box x, y, width, height and the area, in pixels.
    """
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    canvas = _background(style, rng)
    fewest, most = style.objects
    wanted = int(rng.integers(fewest, most + 1))
    classes: list[int] = []
    boxes: list[tuple[int, int, int, int]] = []
    areas: list[int] = []
    for _ in range(60):  # places to try; a crowded picture ends with fewer shapes than wanted, never with none
        if len(boxes) == wanted:
            break
        shape = int(rng.integers(len(SHAPES)))
        mask = _mask(SHAPES[shape], style, rng)
        height, width = mask.shape
        x, y = int(rng.integers(style.side_px - width + 1)), int(rng.integers(style.side_px - height + 1))
        box = (x, y, width, height)
        if any(_overlap(box, other) > MAX_OVERLAP for other in boxes):
            continue
        _paint(canvas[y : y + height, x : x + width], mask, rng)
        classes.append(shape)
        boxes.append(box)
        areas.append(int(mask.sum()))
    canvas += rng.standard_normal(canvas.shape, np.float32) * np.float32(rng.uniform(*style.grain))
    return np.clip(canvas, 0, 255).astype(np.uint8), classes, boxes, areas


def _background(style: Style, rng: np.random.Generator) -> np.ndarray:
    """Colour noise of low frequency, stripes and what is no object."""
    fewest, most = style.cells
    cells = int(rng.integers(fewest, most + 1))
    blobs = rng.uniform(40, 215, (cells, cells, 3)).astype(np.float32)
    canvas = cv2.resize(blobs, (style.side_px, style.side_px), interpolation=cv2.INTER_CUBIC)
    angle, period, phase = rng.uniform(0, np.pi), rng.uniform(*style.period_px), rng.uniform(0, 2 * np.pi)
    x = np.arange(style.side_px)
    waves = np.sin((np.cos(angle) * x + np.sin(angle) * x[:, None]) * 2 * np.pi / period + phase)
    canvas += waves[..., None].astype(np.float32) * rng.uniform(-25, 25, 3).astype(np.float32)
    _clutter(canvas, style, rng)
    return canvas


def _clutter(canvas: np.ndarray, style: Style, rng: np.random.Generator) -> None:
    """Draw, in place, thin lines and dots of 3 or 5 px."""
    for _ in range(int(rng.integers(style.lines + 1))):
        start, end = rng.integers(0, style.side_px, (2, 2)).tolist()
        cv2.line(canvas, start, end, rng.uniform(20, 235, 3).tolist(), int(rng.integers(1, 3)))
    for _ in range(int(rng.integers(style.dots + 1))):
        centre = rng.integers(0, style.side_px, 2).tolist()
        cv2.circle(canvas, centre, int(rng.integers(1, 3)), rng.uniform(20, 235, 3).tolist(), cv2.FILLED)


def _sides(style: Style, rng: np.random.Generator) -> list[int]:
    """Two sides of a box."""
    least, most = style.object_px
    if not style.mostly_small:
        return rng.integers(least, most + 1, 2).tolist()
    longer = round(least * (most / least) ** rng.random())
    shorter = max(least, round(longer * rng.uniform(0.6, 1)))
    return [longer, shorter] if rng.random() < 0.5 else [shorter, longer]


def _mask(shape: str, style: Style, rng: np.random.Generator) -> Bool[np.ndarray, "height width"]:
    """The pixels of a shape in its own box: it touches all four sides."""
    width, height = _sides(style, rng)
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
