"""What data.root names, and the options beside it."""

import pytest

from cornerjax.check.annotations import read_split
from cornerjax.check.findings import Findings
from cornerjax.config import Data
from cornerjax.data.source import open_source
from cornerjax.errors import InputError


def test_a_folder_of_images_is_refused_beside_a_set_of_tfds():
    data = Data(root="tfds:some/set", images="photos")
    message = r"^data\.images is 'photos', which is for folders; the images of tfds:some/set .* accepted is ''$"
    with pytest.raises(InputError, match=message):
        open_source(data, "train")
    with pytest.raises(InputError, match=message):
        read_split(data, "train", Findings())
