"""The rules of the house: who may import whom, which words belong where, one recipe and one test file a detector."""

import ast
import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from cornerjax.config import load_recipe, to_json
from cornerjax.detectors import DETECTORS, check, read_config

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "cornerjax"
RECIPES = sorted((ROOT / "configs").glob("*.py"))

# Each room may import from the rooms of the rows above its own, and from itself.
ROWS = [
    {"errors", "text", "interrupts"},
    {"validation", "legacy", "keypoints"},
    {"ops", "drawing", "files", "progress", "hosts", "devices", "threads"},
    {"config"},
    {"losses", "targets", "data", "nn"},
    {"detectors"},
    {"workdir"},
    {"checksums"},
    {"checkpoint_manager"},
    {"checkpoint"},
    {"new_workdir"},
    {"inference"},
    {"check"},
    {"weights"},
    {"evaluation"},
    {"training"},
    {"commands"},
    {"__main__"},
]
ONLY_IN = {
    "tensorflow": ("data/pipeline.py",),
    "tensorflow_datasets": ("data/",),
    "orbax": ("checkpoint.py", "checkpoint_manager.py"),
    "jax.experimental.pallas": ("ops/running_max/pallas",),
    "torch": ("weights/read.py",),
    "flax": ("nn/", "detectors/"),
}
# Words of single detectors, and the files that know them: corner pooling itself has the words of its corners.
WORDS = {"tl", "br", "tag", "attention"}
KNOW_THEM = ("detectors/", "legacy.py", "ops/pools.py", "nn/pooling.py", "ops/running_max/")


def imports_of(path: Path) -> list[str]:
    """Every module that a file imports, wherever in it the import stands."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            found += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return found


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def text_of(code: str) -> Iterator[tuple[int, str]]:
    """The line and content of every string in some code, of parts of f-strings too, except for docstrings."""
    tree = ast.parse(code)
    alone = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}  # docstrings stand as statements
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in alone:
            yield node.lineno, node.value


def words_of_detectors(code: str) -> list[str]:
    """Where some code names what only one detector has: alone or as a part of a name, such as "tl_heat"."""
    return [
        f"{line}: {text!r}"
        for line, text in text_of(code)
        if WORDS & {part for word in re.findall(r"\w+", text) for part in word.split("_")}
    ]


MODULES = [path for path in sorted(PACKAGE.rglob("*.py")) if room_of(path) != "__init__"]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_one_way(path):
    room = room_of(path)
    row = next((i for i, rooms in enumerate(ROWS) if room in rooms), None)
    assert row is not None, f"{room} stands in no row of the house"
    allowed = set().union(*ROWS[:row], {room})
    for name in imports_of(path):
        if name.startswith("cornerjax."):
            assert name.split(".")[1] in allowed, f"{path.name} imports {name}"


@pytest.mark.parametrize("library", ONLY_IN)
def test_a_library_has_its_place(library):
    for path in [*PACKAGE.rglob("*.py"), *ROOT.glob("*.py")]:
        if any(name == library or name.startswith(f"{library}.") for name in imports_of(path)):
            here = str(path.relative_to(PACKAGE if path.is_relative_to(PACKAGE) else ROOT))
            assert here.startswith(ONLY_IN[library]), f"{here} imports {library}"


def test_words_of_a_detector_are_found():
    code = """'A tl_heat in a docstring.'\nmaps[f"{name}_tag"], "br", "attention_0", tl_heat, "taglines"  # tag\n"""
    assert set(words_of_detectors(code)) == {"2: '_tag'", "2: 'br'", "2: 'attention_0'"}


def test_no_detector_is_known_by_its_words_outside_detectors():
    texts = [path for path in PACKAGE.rglob("*.py") if not str(path.relative_to(PACKAGE)).startswith(KNOW_THEM)]
    found = {str(path.relative_to(PACKAGE)): words_of_detectors(path.read_text()) for path in texts}
    assert not {path: words for path, words in found.items() if words}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_loads_can_be_used_and_survives_json(path, tmp_path):
    config = load_recipe(path)
    assert check(config) is DETECTORS[config.model.detector]
    (tmp_path / "config.json").write_text(to_json(config))
    assert read_config(tmp_path / "config.json") == config


def test_every_detector_has_a_recipe_and_a_test():
    trained = {load_recipe(path).model.detector for path in RECIPES}
    for name in DETECTORS:
        assert name in trained
        assert (ROOT / "tests" / "detectors" / f"test_{name}.py").is_file()


def test_no_file_is_named_after_nothing():
    vague = {"utils.py", "common.py", "misc.py", "helpers.py"}
    assert not [path for path in PACKAGE.rglob("*.py") if path.name in vague]


@pytest.mark.parametrize("name", DETECTORS)
def test_every_switch_stands_in_the_readme(name):
    readme = (ROOT / "README.md").read_text()
    switches = [field.name for field in dataclasses.fields(DETECTORS[name].defaults.legacy)]
    assert not [switch for switch in switches if f"| `legacy.{switch}` |" not in readme]
