"""Command lines with hostile files, names and numbers: they end with a sentence, or do what they say."""

import contextlib
import io
import os
import random
import struct
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

from cornerjax.commands import main
from cornerjax.config import to_json
from cornerjax.validation import flat

from .outcome import LONGEST, Outcome
from .runs import config_of

TEXTS = (
    "",
    "0",
    "-1",
    "1.5",
    "1e400",
    "nan",
    "inf",
    "10" * 400,
    "x" * 300,
    "a\nb",
    "\x1b[2J",
    "../..",
    "/",
    "true",
    "[]",
)


def attack(run: Path, folder: Path, count: int, draws: random.Random) -> Outcome:
    """Give so many command lines, in this process.

    Args:
        run: of runs.make_run.
        folder: for hostile files and whatever is written; the current folder meanwhile.
    """
    outcome = Outcome("commands", str(folder), limit_s=30)
    names = make_files(folder, run)
    with contextlib.chdir(folder):
        for number in range(count):
            words = command(draws, names, run)
            said = io.StringIO()
            with outcome.trial(f"{number}: {' '.join(words)[:300]}"), _given(words, said):
                main()
            errors = [line for line in said.getvalue().splitlines() if line.startswith("error: ")]
            if "Traceback" in said.getvalue() or any(len(e.replace(str(folder), "")) > 2 * LONGEST for e in errors):
                outcome.failures.append(f"{number}: {' '.join(words)[:300]}: said {said.getvalue()[-500:]!r}")
    return outcome


@contextlib.contextmanager
def _given(words: list[str], said: io.StringIO) -> Iterator[None]:
    before = sys.argv
    sys.argv = ["cornerjax", *words]
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            yield
    finally:
        sys.argv = before


def command(draws: random.Random, names: list[str], run: Path) -> list[str]:
    """A command line."""

    def some() -> str:
        return draws.choice(sound) if draws.random() < 0.4 else draws.choice([*names, *TEXTS])

    shapes = str(run.parent / "shapes")
    sound = [str(run), shapes, "photo.png", "tiny.py", "out", "3", f"{shapes}/annotations/instances_val.json"]
    options = [*flat(config_of(Path(shapes)))]
    return draws.choice(
        [
            ["train", "--config", "tiny.py", "--workdir", some(), "--data.root", "nowhere"],
            ["train", "--config", "tiny.py", "--workdir", "new", f"--{draws.choice(options)}", some()],
            ["train", "--config", some(), "--workdir", "new"],
            ["eval", "--workdir", some()],
            ["eval", "--workdir", str(run), "--out", some(), "--root", some()],
            [
                "eval",
                "--workdir",
                str(run),
                "--out",
                "eval",
                f"--{draws.choice(['min-score', 'timing', 'pictures'])}",
                some(),
            ],
            ["eval", "--results", some(), "--annotations", some()],
            ["predict", some(), some(), "--workdir", str(run), "--out", some()],
            ["predict", some(), "--workdir", some(), "--out", "out"],
            [
                "predict",
                "photo.png",
                "--workdir",
                str(run),
                "--out",
                "out",
                f"--{draws.choice(['max-side', 'batch'])}",
                some(),
            ],
            ["check", "--root", some(), "--out", some()],
            ["check", "--root", shapes, "--out", some(), "--samples", some()],
            ["pack", "--root", some(), "--out", some()],
            ["shapes", "--out", some(), "--seed", some()],
            ["weights", "--detector", "cornernet", "--source", some(), "--out", some()],
            ["replay", some()],
            [some(), some()],
        ]
    )


def make_files(folder: Path, run: Path) -> list[str]:
    """Hostile files, by name."""
    folder.mkdir()
    write_recipe(folder, run.parent / "shapes")
    made = {
        "raises.py": "raise ValueError('x' * 10**6)",
        "leaves.py": "import sys; sys.exit()",
        "no_python.py": "def",
        "deep.json": "[" * 100_000,
        "empty.json": "",
        "list.json": "[1, 2]",
        "step-000001-host-0.npz": "PK",
        "x.pth": "PK\3\4",
        "cut.jpg": "\xff\xd8\xff",
    }
    for name, content in made.items():
        (folder / name).write_bytes(content.encode("latin-1"))
    os.mkfifo(folder / "pipe.jpg")
    os.mkfifo(folder / "pipe.json")
    (folder / "itself.jpg").symlink_to("itself.jpg")
    (folder / "folder.jpg").mkdir()
    (folder / "photos").mkdir()
    for name in ("itself.jpg", "pipe.jpg", "cut.jpg"):
        (folder / "photos" / name).symlink_to(f"../{name}")
    (folder / "huge.png").write_bytes(_png(30_000, 30_000))
    (folder / "photo.png").write_bytes(_png(40, 40, zlib.compress(b"".join(b"\0" + bytes(120) for _ in range(40)))))
    (folder / ("n" * 251 + ".png")).write_bytes((folder / "photo.png").read_bytes())
    return [
        *made,
        "pipe.jpg",
        "pipe.json",
        "itself.jpg",
        "folder.jpg",
        "photos",
        "huge.png",
        "photo.png",
        "n" * 251 + ".png",
    ]


def write_recipe(folder: Path, root: Path) -> Path:
    """A recipe of runs.config_of in a folder."""
    (folder / "tiny.json").write_text(to_json(config_of(root)))
    reads = f"return read_config({str(folder / 'tiny.json')!r})"
    (folder / "tiny.py").write_text(f"from cornerjax.detectors import read_config\n\n\ndef config():\n    {reads}\n")
    return folder / "tiny.py"


def _png(width: int, height: int, data: bytes = b"") -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", data or zlib.compress(b"")) + chunk(b"IEND", b"")
