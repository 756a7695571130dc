"""What data.root names, and the options beside it."""

import pytest

from cornerjax.check.annotations import read_split
from cornerjax.check.findings import Findings
from cornerjax.config import Data
from cornerjax.data.source import open_source
from cornerjax.errors import InputError


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": "photos"}, r"^data\.images is 'photos', .*with data\.root tfds:some/set, .*accepted is ''$"),
        ({"exif": "ignore"}, r"^data\.exif is 'ignore', which is for folders; .*accepted is 'turn'$"),
    ],
    ids=["images", "exif"],
)
def test_options_of_folders_are_refused_with_a_set_of_tfds(options, message):
    data = Data(root="tfds:some/set", **options)
    with pytest.raises(InputError, match=message):
        open_source(data, "train")
    with pytest.raises(InputError, match=message):
        read_split(data, "train", Findings())
