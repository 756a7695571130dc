"""EXIF data that says to turn an image: minded in folders and packs, not where the boxes are those of a TFDS set."""

import json

import numpy as np
import pytest
import sets
from PIL import Image

from cornerjax.check.annotations import read_split
from cornerjax.check.findings import Findings
from cornerjax.check.images import inspect_image
from cornerjax.config import Data
from cornerjax.data.pack import pack
from cornerjax.data.records import read_image
from cornerjax.data.source import open_source
from cornerjax.errors import InputError
from cornerjax.evaluation.options import Options


@pytest.fixture
def turned(tmp_path):
    """A folder whose first image says that it is to be turned by 90 degrees, the second by 180."""
    sets.write_folder(tmp_path / "turned")
    for image_id, orientation in ((7, 6), (1_000_000, 3)):
        path = next((tmp_path / "turned/train").glob(f"*_{image_id}.jpg"))
        exif = Image.Exif()
        exif[0x0112] = orientation
        with Image.open(path) as image:
            image.save(path, exif=exif)
    return tmp_path / "turned"


def test_images_of_an_index_are_not_turned_by_their_exif_data(turned, tmp_path):
    """TFDS does not turn them, so sizes and boxes are those of the image as it is stored."""
    written = sets.write_set(tmp_path / "set", sets.features(), sets.examples(turned))
    records = {record.image_id: record for record in open_source(Data(root=f"tfds:{written}"), "train").records}
    split = read_split(Data(root=f"tfds:{written}"), "train", Findings())
    checked = {record.image_id: inspect_image(record) for record in split.records}
    for image_id in (7, 1_000_000):
        with Image.open(next((turned / "train").glob(f"*_{image_id}.jpg"))) as image:
            stored = np.asarray(image)[..., ::-1]  # Pillow does not turn
        np.testing.assert_array_equal(read_image(records[image_id]), stored)
        assert (checked[image_id].size, checked[image_id].turned) == (stored.shape[:2], False)


def test_images_of_a_pack_are_turned_as_those_of_its_folder(turned, tmp_path):
    file = turned / "annotations/instances_train.json"
    content = json.loads(file.read_text())
    first = content["images"][0]
    first["height"], first["width"] = first["width"], first["height"]
    content["annotations"] = [o | {"bbox": [1, 2, 20, 30]} for o in content["annotations"]]
    file.write_text(json.dumps(content))
    pack(Data(root=str(turned)), ["train"], str(tmp_path / "pack"))
    ours, theirs = (open_source(Data(root=root), "train") for root in (f"tfds:{tmp_path}/pack", str(turned)))
    for a, b in zip(ours.records, theirs.records, strict=True):
        np.testing.assert_array_equal(read_image(a), read_image(b))


def test_a_pack_knows_that_its_images_are_not_to_be_turned(turned, tmp_path):
    with pytest.raises(InputError, match=r"_7\.jpg is 61x90 pixels, but the annotation file says 90x61$"):
        pack(Data(root=str(turned)), ["train"], str(tmp_path / "pack"))
    pack(Data(root=str(turned), exif="ignore"), ["train"], str(tmp_path / "pack"))
    theirs = open_source(Data(root=str(turned), exif="ignore"), "train").records
    for exif in ("turn", "ignore"):
        data = Data(root=f"tfds:{tmp_path}/pack", exif=exif)
        for ours in (open_source(data, "train"), open_source(data, "train[:5]"), read_split(data, "train", Findings())):
            for a, b in zip(ours.records, theirs, strict=True):
                np.testing.assert_array_equal(read_image(a), read_image(b))
    assert len(Options(exif="ignore").open_source(Data(root=f"tfds:{tmp_path}/pack"), "train").records) == 5
    with pytest.raises(InputError, match=r"--exif is turn, but the boxes of tfds:.* are those of the images"):
        Options(exif="turn").open_source(Data(root=f"tfds:{tmp_path}/pack"), "train")
    (tmp_path / "pack/cornerjax.json").write_text('{"exif": "no"}')
    with pytest.raises(InputError, match=r"cornerjax\.json has exif 'no'; expected turn or ignore"):
        open_source(Data(root=f"tfds:{tmp_path}/pack"), "train")


def test_a_pack_of_turned_images_is_not_read_as_stored(tmp_path):
    sets.write_folder(tmp_path / "folder")
    pack(Data(root=str(tmp_path / "folder")), ["train"], str(tmp_path / "pack"))
    with pytest.raises(
        InputError, match=r"^exif is ignore, but the boxes of tfds:.*pack are those of images turned as"
    ):
        open_source(Data(root=f"tfds:{tmp_path}/pack", exif="ignore"), "train")
