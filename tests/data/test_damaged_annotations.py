"""Annotation files with hostile values anywhere: opened, or refused in one sentence, and check says the same."""

import random

import pytest

from benchmarks.attacks import annotations
from cornerjax.config import Data
from cornerjax.data.source import open_source
from cornerjax.errors import InputError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return annotations.make_set(tmp_path_factory.mktemp("data") / "set")


@pytest.mark.parametrize("seed", range(4))
def test_a_damaged_file_is_opened_or_refused_in_a_sentence_and_check_and_evaluations_agree(folder, seed):
    outcome = annotations.attack(folder, 300, random.Random(seed))
    assert not outcome.failures, outcome.failures[:3]
    assert 150 < outcome.refused < 295


@pytest.mark.parametrize("text", ["", "[" * 100_000, '{"images": ' * 50_000, "\udcff", "1" * 5000, "nul\0"])
def test_what_is_no_json_is_refused_in_a_sentence(folder, text):
    (folder / "annotations/instances_train.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(
        InputError, match=r"instances_train\.json (is not JSON|has lists in lists).*; expected COCO's"
    ) as e:
        open_source(Data(root=str(folder)), "train")
    assert len(str(e.value)) < 500
