"""The batches of one host: which examples are in them, and what becomes of images that cannot be read."""

import logging
import threading
from collections.abc import Callable

from cornerjax.config import Config
from cornerjax.data import order
from cornerjax.data.batch_memory import BatchMemory
from cornerjax.data.examples import Example, Make, Row
from cornerjax.data.records import Record, Source, is_gone
from cornerjax.data.workers import Processes, Threads, worker_count
from cornerjax.errors import InputError

log = logging.getLogger("cornerjax")
IN_A_ROW = 20  # so many images that cannot be read, one after the other: it is not the images
AT_ONCE = 8  # examples that a worker is asked for at a time, at most: a file that is slow to read holds up the others

Skip = Callable[[InputError], None]  # called with why an image cannot be read, when the next one takes its place


class Batches:
    """Batches filled by workers.

    Args:
        rows: of every global batch, those that are this host's.
        skip: None: an image that cannot be read is an error.
    """

    def __init__(self, source: Source, config: Config, rows: range, skip: Skip | None):
        self.source, self.config, self.rows, self._skip = source, config, rows, skip

    def fill(self, numbers: list[int], pool: Threads | Processes, memory: BatchMemory) -> Example:
        """The batch of the host's examples of these numbers.

        Raises: as pipeline.make_batches while iterating.
        """
        place, batch = memory.take()
        rows = [self._row(row, number) for row, number in enumerate(numbers)]
        at_once = request_size(len(rows), worker_count(self.config.data))
        parts = [rows[i : i + at_once] for i in range(0, len(rows), at_once)]
        futures = [pool.submit(place, batch, part) for part in parts]
        for part, future in zip(parts, futures, strict=True):
            for (row, position, _), error in zip(part, future.result(), strict=True):
                if error and not (self._skip and isinstance(error, InputError)):
                    raise error
                if error:

                    def attempt(record: Record, row: int = row, position: int = position) -> Exception | None:
                        return pool.submit(place, batch, [(row, position, record)]).result()[0]

                    self._until_readable(position, attempt, error)
        return batch

    def example(self, number: int, make: Make) -> Example:
        """The host's example of this number, made here.

        Raises: as pipeline.make_batches while iterating.
        """
        _, position, record = self._row(0, number)
        if not self._skip:
            return make(record, position)
        made: list[Example] = []

        def attempt(record: Record) -> Exception | None:
            try:
                made.append(make(record, position))
            except InputError as e:
                return e
            return None

        self._until_readable(position, attempt)
        return made[0]

    def _row(self, row: int, number: int) -> Row:
        position = order.host_position(number, self.config.data.batch, self.rows)
        return row, position, self.source.records[self._index(position)]

    def _index(self, position: int) -> int:
        return order.image_index(position, seed=self.config.seed, num_images=len(self.source.records))

    def _until_readable(
        self, position: int, attempt: Callable[[Record], Exception | None], known: Exception | None = None
    ) -> None:
        """Call `attempt`, which says what is wrong with the image of a position and the next ones, until nothing is.

        Args:
            known: what is wrong with the first of them, where that has been found out.
        Raises: InputError: nothing of many in a row could be read.
        """
        assert self._skip is not None
        bad: list[InputError] = []
        records, index = self.source.records, self._index(position)
        for i in range(index, index + min(IN_A_ROW, len(records))):
            record = records[i % len(records)]
            error, known = known or attempt(record), None
            if error is None:
                for reason in bad:
                    self._skip(reason)
                return
            if not isinstance(error, InputError) or is_gone(record.folder):
                raise error
            bad.append(error)
        raise InputError(
            f"none of {len(bad)} images in a row could be read, the first of them: {bad[0]}; "
            f"is the data directory {records[index].folder} still there?"
        )


def request_size(rows: int, workers: int) -> int:
    """How many examples of a batch a worker is asked for at a time: as nearly as possible an equal part of them.

    To ask costs this process a tenth of a millisecond, however much is asked for. Smaller parts are not needed to keep
    all workers busy at the end of a batch, as the next one is made at the same time; of larger ones there are too few.
    """
    return max(1, min(AT_ONCE, round(rows / workers)))


def skipping(skipped: set[str]) -> Skip:
    """What to do with an image that is skipped: log it, the first time, and how many there are."""
    lock = threading.Lock()  # several batches may meet the same image

    def skip(reason: InputError) -> None:
        with lock:
            if str(reason) in skipped:
                return
            skipped.add(str(reason))
            log.warning("%s; the next image takes its place, images skipped so far: %d", reason, len(skipped))

    return skip
