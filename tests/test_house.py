"""The rules of the house: who may import whom, one recipe and one test file a detector, recipes that load."""

import ast
import dataclasses
import re
from pathlib import Path

import pytest

from cornerjax.config import Config, check, differences, load_recipe, to_json
from cornerjax.detectors import DETECTORS, apply_preset, presets, read_config
from cornerjax.errors import InputError
from cornerjax.validation import replaced

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "cornerjax"
RECIPES = sorted((ROOT / "configs").glob("*.py"))

# Each room may import from the rooms of the rows above its own, and from itself.
ROWS = [
    {"errors", "keypoints", "legacy"},
    {"validation"},
    {"config"},
    {"ops", "drawing", "files", "progress", "hosts", "devices"},
    {"losses", "targets", "data", "nn"},
    {"detectors"},
    {"workdir"},
    {"checkpoint"},
    {"inference"},
    {"weights"},
    {"evaluation"},
    {"training"},
    {"check"},
    {"commands"},
    {"__main__"},
]
ONLY_IN = {
    "tensorflow": ("data/pipeline.py",),
    "tensorflow_datasets": ("data/",),
    "orbax": ("checkpoint.py",),
    "jax.experimental.pallas": ("ops/running_max/pallas",),
    "torch": ("weights/read.py",),
}


def imports_of(path: Path) -> list[str]:
    """Every module that a file imports, wherever in it the import stands."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module
            found += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return found


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


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


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_loads_and_survives_json(path, tmp_path):
    config = load_recipe(path)
    (tmp_path / "config.json").write_text(to_json(config))
    assert read_config(tmp_path / "config.json") == config
    assert config.model.detector in DETECTORS


def test_every_detector_has_a_recipe_and_a_test():
    trained = {load_recipe(path).model.detector for path in RECIPES}
    for name in DETECTORS:
        assert name in trained
        assert (ROOT / "tests" / "detectors" / f"test_{name}.py").is_file()


def test_no_file_is_named_after_nothing():
    vague = {"utils.py", "common.py", "misc.py", "helpers.py"}
    assert not [path for path in PACKAGE.rglob("*.py") if path.name in vague]


def test_differences_name_the_fields():
    a = Config()
    b = dataclasses.replace(a, optim=dataclasses.replace(a.optim, peak_lr=1.0))
    assert differences(a, b) == ["optim.peak_lr: 0.00025, 1.0"]
    assert differences(a, a) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "config.json is not JSON"),
        ('{"model": {"detector": "yolo"}, "compute": {}}', "no detector 'yolo'; there are: cornernet"),
        ('{"model": {"detector": "cornernet", "width": 1}, "compute": {}}', "config.json: .* is missing"),
    ],
)
def test_a_bad_config_json_is_one_sentence(tmp_path, text, message):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InputError, match=message):
        read_config(tmp_path / "config.json")


@pytest.mark.parametrize(
    ("field", "value", "accepted"),
    [
        ("seed", -1, "0 or more"),
        ("steps", 0, "1 or more"),
        ("test.scales", (), "one or more numbers"),
        ("test.scales[1]", 0.0, "more than 0"),
        ("test.peak_window", 2, "an odd number from 1 on"),
        ("data.crop_scales[1]", -1.0, "more than 0"),
        ("data.gaussian_iou", 1.0, "less than 1"),
        ("optim.peak_lr", float("nan"), "finite numbers"),
    ],
)
def test_numbers_that_no_run_can_use(field, value, accepted):
    *part, name = field.removesuffix("[1]").split(".")
    value_of_field = (1.0, value) if field.endswith("[1]") else value
    config = dataclasses.replace(getattr(Config(), part[0]), **{name: value_of_field}) if part else value
    with pytest.raises(InputError, match=f"^{re.escape(f'{field} is {value}; accepted')}.*{accepted}$"):
        check(dataclasses.replace(Config(), **{(part or [name])[0]: config}))


def test_a_missing_recipe_lists_those_there_are(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    (tmp_path / "there.py").write_text("")
    with pytest.raises(InputError, match=r"no recipe .*here\.py; there are: .*configs/shapes\.py"):
        load_recipe(tmp_path / "here.py")
    with pytest.raises(InputError, match=r"needs a function config"):
        load_recipe(tmp_path / "there.py")
    (tmp_path / "there.py").write_text("Not Python")
    with pytest.raises(InputError, match=r"is no Python"):
        load_recipe(tmp_path / "there.py")


@pytest.mark.parametrize("name", DETECTORS)
def test_every_switch_stands_in_the_readme(name):
    readme = (ROOT / "README.md").read_text()
    for field in dataclasses.fields(DETECTORS[name].defaults.legacy):
        assert f"| `legacy.{field.name}` |" in readme


@pytest.mark.parametrize("name", DETECTORS)
def test_presets_set_every_switch(name):
    defaults = DETECTORS[name].defaults
    assert apply_preset(defaults, "clean") == defaults
    for preset in presets(DETECTORS[name])[:-1]:
        released = apply_preset(defaults, preset)
        assert all(dataclasses.asdict(released.legacy).values())
        assert released.data.crowd
        assert released.compute.precision == "highest"
        changes = next(layout.changes for layout in DETECTORS[name].torch_layouts if layout.preset == preset)
        assert replaced(released, changes) == released
        own = {"legacy": defaults.legacy, "compute": defaults.compute}
        clean = dataclasses.replace(apply_preset(released, "clean"), **own)
        assert replaced(defaults, changes) == clean


def test_a_preset_that_the_detector_lacks_is_refused():
    assert presets(DETECTORS["cornernet"]) == ["released", "released_eccv18", "clean"]
    eccv18 = apply_preset(DETECTORS["cornernet"].defaults, "released_eccv18").data
    assert (eccv18.gaussian_radius, eccv18.gaussian_iou) == ("legacy", 0.7)
    with pytest.raises(InputError, match=r"^no preset 'released_eccv18'; there are: released, clean$"):
        apply_preset(DETECTORS["cornernet_squeeze"].defaults, "released_eccv18")
