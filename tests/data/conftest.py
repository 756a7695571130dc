"""A small folder, the set that TFDS prepares of it, and a cache that is not the user's."""

import shutil

import pytest
import sets
import tensorflow_datasets as tfds


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """Where indices and parts of packs are kept."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("folder")
    sets.write_folder(root)
    return root


@pytest.fixture(scope="session")
def prepared(folder, tmp_path_factory):
    """A set that TFDS itself prepared, its examples shuffled; it takes a name once only."""

    class TinyBoxes(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            return tfds.core.DatasetInfo(builder=self, features=sets.features())

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            for example in sets.examples(folder):
                yield example["image/filename"], example

    data_dir = tmp_path_factory.mktemp("prepared")
    TinyBoxes(data_dir=str(data_dir), file_format="array_record").download_and_prepare()
    tfds.core.add_data_dir(str(data_dir))
    return data_dir / "tiny_boxes/1.0.0"


@pytest.fixture
def copied(prepared, tmp_path):
    """A copy of its own."""
    shutil.copytree(prepared, tmp_path / "set")
    return tmp_path / "set"
