"""What becomes of an image that cannot be read, in a batch."""

import dataclasses
import threading

import numpy as np

from cornerjax.data.batch_memory import BatchMemory, layout_of
from cornerjax.data.batches import Batches
from cornerjax.data.records import Record, Source
from cornerjax.data.workers import Threads
from cornerjax.detectors.cornernet import CornerConfig
from cornerjax.errors import InputError


def test_an_image_that_cannot_be_read_is_read_once_for_a_place(tmp_path):
    """On a network drive that does not answer, each time takes a minute."""
    records = [
        Record(i, tmp_path / f"{i}.jpg", 8, 8, np.zeros((0, 4), np.float32), np.zeros(0, np.int64)) for i in range(4)
    ]
    config = CornerConfig()
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, batch=4, workers=1))
    read: list[int] = []
    lock = threading.Lock()

    def make(record: Record, position: int) -> dict[str, np.ndarray]:
        with lock:
            read.append(record.image_id)
        if record.image_id == 2:
            raise InputError("cannot read 2.jpg")
        return {"image_id": np.array(record.image_id, np.int64)}

    skipped: list[str] = []
    source = Source(records, ("a",), (1,), tmp_path / "instances_train.json")
    batches = Batches(source, config, range(4), lambda reason: skipped.append(str(reason)))
    memory = BatchMemory(layout_of({"image_id": np.zeros((), np.int64)}, 4))
    pool = Threads(1, make, memory)
    try:
        batch = batches.fill([0, 1, 2, 3], pool, memory)
    finally:
        pool.close()
        memory.close()
    assert sorted(batch["image_id"].tolist()) == [0, 1, 3, 3]
    assert read.count(2) == 1
    assert skipped == ["cannot read 2.jpg"]
