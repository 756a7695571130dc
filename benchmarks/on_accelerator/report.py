"""What was found, as one JSON file and one page of tables."""

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

from on_accelerator.bench import Row

from cornerjax.files import write_atomically


class Table(NamedTuple):
    """How a part is shown.

    Attributes:
        text: what a reader must know.
        columns: of each value of a row the heading and the format.
    """

    title: str
    text: str
    columns: dict[str, tuple[str, str]]


CHECKS = {
    "op": ("op", "{}"),
    "checks": ("checks", "{}"),
    "variant": ("nearest to its limit", "{}"),
    "error": ("error", "{:.1e}"),
    "limit": ("of at most", "{:.0e}"),
    "ok": ("", "{}"),
    "note": ("", "{}"),
}
TABLES = {
    "kernels": Table(
        "Pools against the reference",
        "Computed on the device: all directions and corners, values and gradients, compared with NumPy to the bit.",
        CHECKS,
    ),
    "ops": Table(
        "Other ops against references",
        "Computed on the device and compared with NumPy, or with recordings of the original programs where it says so. "
        "Errors are largest differences. Of each op the check that comes nearest to its limit, and those that fail.",
        CHECKS,
    ),
    "pools": Table(
        "Corner pooling against a copy",
        "Maps of 8x128x128x128; tl is the sum of two pools. `to copy` is the median of ratios to a plain copy of one "
        "map, timed in turn; GB/s are the fewest bytes that must pass over the time.",
        {
            "dtype": ("type", "{}"),
            "pool": ("pool", "{}"),
            "how": ("computed by", "{}"),
            "forward us": ("forward µs", "{:.1f}"),
            "forward to copy": ("to copy", "{:.2f}"),
            "forward GB/s": ("GB/s", "{:.3g}"),
            "with gradient us": ("with gradient µs", "{:.1f}"),
            "with gradient to copy": ("to copy", "{:.2f}"),
            "with gradient GB/s": ("GB/s", "{:.3g}"),
            "note": ("", "{}"),
        },
    ),
    "parity": Table(
        "Released networks against the originals",
        "Weights and images of the recordings. `times the original's`: the error as a multiple of that of the original "
        "itself in float32, map by map; at precision highest up to 10 is right. Boxes: those recorded that are found "
        "within half a cell and 0.002 in score.",
        {
            "network": ("network", "{}"),
            "dtype": ("type", "{}"),
            "precision": ("precision", "{}"),
            "heat error": ("largest error, heat logits", "{:.1e}"),
            "error": ("all maps", "{:.1e}"),
            "times noise": ("times the original's", "{:.1f}"),
            "boxes": ("boxes found", "{:.0%}"),
            "ok": ("", "{}"),
            "note": ("", "{}"),
        },
    ),
    "training": Table(
        "Training",
        "The step of each recipe, pixels finished in it, on a batch that is on the device. FLOPs are those of "
        "convolutions and matrix products, with what is computed again; the peak is that of dense products in "
        "bfloat16, for float32 in TF32. `state` is weights, optimiser and batch, `step` what XLA plans besides, `peak` "
        "what was in use at most, where a line exceeds all before it.",
        {
            "recipe": ("recipe", "{}"),
            "batch": ("batch", "{}"),
            "dtype": ("type", "{}"),
            "remat": ("remat", "{}"),
            "images/s": ("images/s", "{:.1f}"),
            "ms": ("ms a step", "{:.0f}"),
            "GFLOP an image": ("GFLOP an image", "{:.3g}"),
            "share of peak": ("of the peak", "{:.1%}"),
            "state GB": ("state GB", "{:.3g}"),
            "step GB": ("step GB", "{:.3g}"),
            "peak GB": ("peak GB", "{:.3g}"),
            "compile s": ("compiled in s", "{:.0f}"),
            "note": ("", "{}"),
        },
    ),
    "prediction": Table(
        "Prediction",
        "From photos of 640x480 in memory to boxes, at one scale, not mirrored, with what the host does for them. "
        "Saccade is made to look at every place that it may, 30 an image at most.",
        {
            "recipe": ("recipe", "{}"),
            "dtype": ("type", "{}"),
            "batch": ("batch", "{}"),
            "images/s": ("images/s", "{:.1f}"),
            "ms an image": ("ms an image", "{:.2f}"),
            "note": ("", "{}"),
        },
    ),
    "input": Table(
        "Input",
        "Training examples of CornerNet at 511 px from JPEGs of 640x480, by worker processes that keep what they make; "
        "`host`: with colours and heat maps, which `device` leaves to the training step.",
        {
            "render": ("rendering", "{}"),
            "workers": ("workers", "{}"),
            "images/s": ("images/s", "{:.0f}"),
            "images/s a worker": ("a worker", "{:.0f}"),
            "to one": ("to one worker", "{:.2f}"),
            "note": ("", "{}"),
        },
    ),
}


class Report:
    """Rows by part, written as they come. Parts that were measured earlier on that day and device stay."""

    def __init__(self, folder: Path, *, date: str, small: bool):
        self._folder = folder
        self._content: dict[str, Any] = {"date": date, "small": small, "about": {}, "parts": {}}

    @property
    def path(self) -> Path:
        """Of the JSON; the page beside it has the ending .md."""
        device = self._content["about"].get("device", "unknown").replace(" ", "-").lower()
        return self._folder / f"accelerator-{self._content['date']}-{device}{'-small' * self._content['small']}.json"

    def begin(self, part: str) -> None:
        self._content["parts"][part] = {"seconds": None, "rows": []}

    def describe(self, about: dict[str, str]) -> None:
        """Say which device and versions these are; only the first call counts."""
        if not self._content["about"]:
            self._content["about"] = about
            earlier = json.loads(self.path.read_text())["parts"] if self.path.exists() else {}
            self._content["parts"] = earlier | self._content["parts"]

    def add(self, part: str, row: Row) -> None:
        finite = {name: str(x) if isinstance(x, float) and not math.isfinite(x) else x for name, x in row.items()}
        self._content["parts"][part]["rows"].append(finite)
        self._write()

    def end(self, part: str, seconds: float) -> None:
        self._content["parts"][part]["seconds"] = seconds
        self._write()

    def _write(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path, json.dumps(self._content, indent=1))
        write_atomically(self.path.with_suffix(".md"), page(self._content))


def page(content: dict[str, Any]) -> str:
    """The Markdown of all parts."""
    about = dict(content["about"])
    lines = [f"# {about.pop('device', 'unknown device')}, {content['date']}", ""]
    lines += [", ".join(f"{name} {value}" for name, value in about.items()), ""]
    if content["small"]:
        lines += ["Tiny cases, each measured once: they show that everything runs, and their times mean nothing.", ""]
    lines += [counts([row for found in content["parts"].values() for row in found["rows"]]), ""]
    for part, shown in TABLES.items():
        if found := content["parts"].get(part):
            took = f" ({found['seconds']:.0f} s)" if found["seconds"] else ""
            rows = summed_up(found["rows"]) if shown.columns is CHECKS else found["rows"]
            lines += [f"## {shown.title}{took}", "", shown.text, "", *table(rows, shown.columns), ""]
    return "\n".join(lines)


def counts(rows: list[Row]) -> str:
    """A sentence on what is right and what is missing."""
    right, wrong = (sum(row.get("ok") is way for row in rows) for way in (True, False))
    skipped, failed = (sum(row.get("note", "").startswith(word) for row in rows) for word in ("skipped", "failed"))
    return (
        f"Of {len(rows)} lines {skipped} were skipped and {failed} failed. Of {right + wrong} checks {wrong} are wrong."
    )


def table(rows: list[Row], columns: dict[str, tuple[str, str]]) -> list[str]:
    """Lines of a Markdown table; columns in which no row has anything are left out."""
    used = {name: column for name, column in columns.items() if any(row.get(name) is not None for row in rows)}
    lines = [" | ".join(heading for heading, _ in used.values()), " | ".join("---" for _ in used)]
    lines += [" | ".join(cell(row.get(name), how) for name, (_, how) in used.items()) for row in rows]
    return [f"| {line} |" for line in lines]


def cell(value: Any, how: str) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "ok" if value else "**NOT OK**"
    text = value if isinstance(value, str) else how.format(value) if value else "0"
    return text.replace("|", "\\|").replace("\n", " ")


def summed_up(rows: list[Row]) -> list[Row]:
    """A row an op, with the check that comes nearest to its limit, and one for each check that is not right."""
    ops: dict[str, list[Row]] = {}
    for row in rows:
        ops.setdefault(row.get("op", ""), []).append(row)
    made = []
    for checks in ops.values():
        right = [row for row in checks if row.get("ok")]
        if right:
            worst = max(right, key=lambda row: row["error"] / (row["limit"] or 1))
            made.append(worst | {"checks": len(right)})
        made += [row | {"checks": 1} for row in checks if not row.get("ok")]
    return made
