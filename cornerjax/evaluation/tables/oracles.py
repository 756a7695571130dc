"""Oracles on the terminal."""

import math
from collections.abc import Sequence

from rich.console import Console
from rich.table import Column, Table

from cornerjax.evaluation.oracles import COLUMNS, Oracle, by_name, verdict


def print_oracles(oracles: Sequence[Oracle]) -> None:
    """Print a table, a row for each combination, and the verdict."""
    table = Table(Column("true", no_wrap=True), *(Column(key.replace("_", " "), justify="right") for key in COLUMNS))
    for name, metrics in by_name(oracles).items():
        table.add_row(name, *("-" if math.isnan(value) else f"{value:.3f}" for value in metrics.values()))
    Console().print(table)
    print(verdict(oracles))
