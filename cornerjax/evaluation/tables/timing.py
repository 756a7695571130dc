"""The times of an evaluation on the terminal."""

from rich.console import Console
from rich.table import Table

from cornerjax.evaluation.timing import Timing


def print_timing(timing: Timing) -> None:
    """Print a row for each phase, images a second, memory and what was measured."""
    table = Table("ms an image", "median", "mean")
    for name, ms in timing.phases.items():
        table.add_row(name, f"{ms.median:.2f}", f"{ms.mean:.2f}")
    table.add_row("sum", "", f"{sum(ms.mean for ms in timing.phases.values()):.2f}")
    Console().print(table)
    print(
        f"{timing.one_by_one:.1f} images/s if one phase waits for the other, {timing.as_it_runs:.1f} as it runs; "
        f"peak memory of the {timing.peak_of} {timing.peak_bytes / 1e9:.2f} GB"
    )
    padded = ", ".join(f"{count} in {bucket}" for bucket, count in timing.buckets.items())
    print(f"{timing.device}, batches of {timing.batch}, images: {padded}")
