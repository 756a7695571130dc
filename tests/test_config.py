"""Options: what is refused, by whichever way it comes; recipes, config.json and presets."""

import copy
import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cornerjax.config import Config, check, differences, load_recipe, read_json, to_json
from cornerjax.detectors import DETECTORS, apply_preset, get_detector, presets, read_config
from cornerjax.detectors import check as check_for_detector
from cornerjax.errors import InputError
from cornerjax.validation import as_dict, replaced

ROOT = Path(__file__).parents[1]
SACCADE = get_detector("cornernet_saccade").defaults  # it has options of every kind

# Option, a value that no run can use, the option that the sentence names, and what it says is accepted.
REFUSED: list[tuple[str, Any, str, str]] = [
    ("steps", "many", "steps", "a whole number"),
    ("steps", 1.0, "steps", "a whole number"),
    ("seed", True, "seed", "a whole number"),
    ("optim.peak_lr", "abc", "optim.peak_lr", "a number"),
    ("optim.peak_lr", None, "optim.peak_lr", "a number"),
    ("data.flip", 1, "data.flip", "True or False"),
    ("data.root", 3, "data.root", "text"),
    ("test.scales", 1.0, "test.scales", "a list"),
    ("test.scales", ["1"], "test.scales[0]", "a number"),
    ("data.crop_px", [511], "data.crop_px", "a list of 2"),
    ("data.attention_px", [[0, 32], [32]], "data.attention_px[1]", "a list of 2"),
    ("model.backbone", "hourglass", "model.backbone", "a Hourglass"),
    ("compute.dtype", "bf16", "compute.dtype", "float32, bfloat16"),
    ("compute.pooling_implementation", "\x1b[2J", "compute.pooling_implementation", "a name of up to 100 letters"),
    ("test.nms", "zzz", "test.nms", "gaussian, linear, hard, none"),
    ("compute.remat", "full", "compute.remat", "none, stack, level"),
    ("data.render", "gpu", "data.render", "host, device"),
    ("optim.schedule", "linear", "optim.schedule", "step, cosine"),
    ("model.backbone.stride", 5, "model.backbone.stride", "4, 8"),
    ("model.backbone.stride", 4.0, "model.backbone.stride", "4, 8"),
    ("seed", -1, "seed", "0 to 9223372036854775807"),
    ("steps", 0, "steps", "1 to 1000000000"),
    ("steps", 10**30, "steps", "1 to 1000000000"),
    ("model.backbone.stacks", 10**30, "model.backbone.stacks", "1 to 16"),
    ("test.peak_window", 99_999, "test.peak_window", "an odd number from 1 to 255"),
    ("test.scales", [100_000.0], "test.scales[0]", "0.01 to 100"),
    ("data.max_objects", 10**9, "data.max_objects", "1 to 131072"),
    ("data.workers", 10**9, "data.workers", "0 to 1024"),
    ("data.min_overlap", float("inf"), "data.min_overlap", "finite numbers"),
    ("loss.attention", float("inf"), "loss.attention", "finite numbers"),
    ("optim.eps", float("inf"), "optim.eps", "finite numbers"),
    ("optim.eps", 2.0, "optim.eps", "more than 0 and 1 or less"),
    ("optim.decay_factor", 10**400, "optim.decay_factor", "finite numbers"),
    ("data.root", "a\0b", "data.root", "text that a file could be named by"),
    ("data.root", "\ud800", "data.root", "text that a file could be named by"),
    ("test.peak_window", 2, "test.peak_window", "an odd number from 1 to 255"),
    ("test.scales", [1.0, 0.0], "test.scales[1]", "0.01 to 100"),
    ("data.crop_scales", [], "data.crop_scales", "one to 100 numbers"),
    ("data.gaussian_iou", 1.0, "data.gaussian_iou", "more than 0 and less than 1"),
    ("optim.b1", 1.0, "optim.b1", "0 or more and less than 1"),
    ("optim.b1", -1.0, "optim.b1", "0 or more and less than 1"),
    ("optim.peak_lr", float("nan"), "optim.peak_lr", "finite numbers"),
    ("loss.group", 0.0, "loss.group", "more than 0 and 1000000000 or less"),
    ("test.saccade.max_crops", 0, "test.saccade.max_crops", "1 to 131072"),
]
each_refused = pytest.mark.parametrize(
    ("option", "value", "named", "accepted"), REFUSED, ids=[f"{option}={value}" for option, value, *_ in REFUSED]
)


def sentence(named: str, accepted: str) -> str:
    """A pattern of what is said, to its end."""
    return f"{re.escape(named)} is [^;]*; accepted (is|are) {re.escape(accepted)}$"


def changed(options: Any, names: list[str], value: Any) -> Any:
    """Options with one changed and nothing checked: a recipe may make them, but not under the tests' type checks."""
    first, *rest = names
    options = copy.copy(options)
    object.__setattr__(options, first, changed(getattr(options, first), rest, value) if rest else value)
    return options


def written(folder: Path, option: str, change: Callable[[dict[str, Any], str], object]) -> Path:
    """A config.json that has been edited: change(the part that has the option, the option's name in it)."""
    content = fields = as_dict(SACCADE)
    *parts, name = option.split(".")
    for part in parts:
        fields = fields[part]
    change(fields, name)
    (folder / "config.json").write_text(json.dumps(content))
    return folder / "config.json"


@each_refused
def test_values_that_no_run_can_use_are_refused_by_name(option, value, named, accepted):
    with pytest.raises(InputError, match=f"^{sentence(named, accepted)}"):
        replaced(SACCADE, {option: value})


@each_refused
def test_values_that_no_run_can_use_are_refused_in_a_config_json(tmp_path, option, value, named, accepted):
    file = written(tmp_path, option, lambda fields, name: fields.update({name: value}))
    with pytest.raises(InputError, match=f"^{file}: {sentence(named, accepted)}"):
        read_config(file)


@each_refused
def test_values_that_no_run_can_use_are_refused_in_options_made_in_python(option, value, named, accepted):
    with pytest.raises(InputError, match=f"^{sentence(named, accepted)}"):
        check(changed(SACCADE, option.split("."), value))


def test_a_value_that_no_run_can_use_is_refused_in_a_recipe(tmp_path):
    """tests/commands/test_options.py has a recipe with values of other types."""
    recipe = tmp_path / "mine.py"
    recipe.write_text("from cornerjax.config import Config, Data\ndef config(): return Config(data=Data(batch=0))")
    with pytest.raises(InputError, match=f"^recipe {recipe}: data.batch is 0; accepted is 1 to 131072$"):
        load_recipe(recipe)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("stepps", "there is no option stepps; there are: model, data, loss,"),
        ("test.flipp", "there is no option test.flipp; there are: batch, scales, flip,"),
        ("test.saccade.crops", "there is no option test.saccade.crops; there are: view_px, view_score,"),
        ("model.head_dim", "there is no option model.head_dim; there are: detector, num_classes, backbone,"),
    ],
)
def test_an_option_that_is_not_there_is_refused(tmp_path, option, message):
    with pytest.raises(InputError, match=f"^{message}"):
        replaced(SACCADE, {option: 1})
    file = written(tmp_path, option, lambda fields, name: fields.update({name: 1}))
    message = message.replace("option ", "").replace("there are:", "known are")
    with pytest.raises(InputError, match=f"^{file}: {message}"):
        read_config(file)


@pytest.mark.parametrize("option", ["steps", "data", "data.render", "model.backbone.dims", "test.saccade.zooms"])
def test_an_option_that_a_config_json_lacks_is_named(tmp_path, option):
    file = written(tmp_path, option, dict.pop)
    with pytest.raises(InputError, match=f"^{file}: {option} is missing$"):
        read_config(file)


OLD = {"model": {"detector": "cornernet", "stacks": 2, "dtype": "float32"}, "data": {"root": "shapes:0"}, "steps": 3000}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "config.json is not JSON: Expecting"),
        ("[]", "config.json is no JSON object; expected the config.json that training writes"),
        ("[" * 100_000, "config.json has lists in lists, too deep to be read; expected the config.json that"),
        ("{}", "config.json: no detector ''; there are: cornernet, "),
        ('{"model": {"detector": "centernet"}, "compute": {}}', "config.json: no detector 'centernet'; there are: "),
        (json.dumps(OLD), "config.json was written by an older version of cornerjax, whose runs this one cannot open"),
    ],
    ids=["cut short", "a list", "lists in lists", "empty", "another detector", "old"],
)
def test_a_config_json_that_cannot_be_used_is_one_sentence(tmp_path, text, message):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        read_config(tmp_path / "config.json")
    assert "\n" not in str(caught.value)


def test_a_run_from_before_there_were_worker_processes_can_be_read(tmp_path):
    fields = json.loads(to_json(Config()))
    del fields["data"]["worker_kind"]
    file = tmp_path / "config.json"
    file.write_text(json.dumps(fields))
    assert read_json(file)["data"]["worker_kind"] == "process"


def test_a_missing_config_json_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match=r"^cannot read .*config\.json: No such file or directory; expected"):
        read_config(tmp_path / "config.json")


def test_a_missing_recipe_lists_those_there_are(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(InputError, match=r"no recipe .*here\.py; there are: .*configs/shapes\.py"):
        load_recipe(tmp_path / "here.py")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("", "needs a function config() that returns a cornerjax.config.Config"),
        ("def config(): return {}", "needs a function config() that returns a cornerjax.config.Config"),
        ("Not Python", "is no Python: invalid syntax"),
        (
            "from cornerjax.config import Data\nData(rendr='host')",
            "cannot be run: TypeError: ",
        ),
        ("import nowhere_to_be_found", "cannot be run: ModuleNotFoundError: No module named 'nowhere_to_be_found'"),
        ("raise ValueError('no')", "cannot be run: ValueError: no"),
    ],
)
def test_a_recipe_that_cannot_be_used_is_one_sentence(tmp_path, code, message):
    (tmp_path / "mine.py").write_text(code)
    with pytest.raises(InputError, match=f"^recipe {re.escape(f'{tmp_path}/mine.py {message}')}"):
        load_recipe(tmp_path / "mine.py")


def test_options_of_another_detector_are_refused():
    """A recipe with the base classes, or those of a detector that has other options."""
    with pytest.raises(InputError, match=r"'cornernet_saccade', which needs a SaccadeConfig, but this is a CornerC"):
        check_for_detector(replaced(get_detector("cornernet").defaults, {"model.detector": "cornernet_saccade"}))
    with pytest.raises(InputError, match=r"^no detector ''; there are: cornernet, "):
        check_for_detector(Config())


def test_differences_name_the_options():
    other = replaced(SACCADE, {"optim.peak_lr": 1, "test.saccade.max_crops": 8})
    assert differences(SACCADE, other) == ["optim.peak_lr: 0.00025, 1.0", "test.saccade.max_crops: 30, 8"]
    assert differences(SACCADE, SACCADE) == []
    backbone = differences(get_detector("cornernet").defaults, get_detector("cornernet_squeeze").defaults)
    assert "model.backbone.block: 'residual', 'fire'" in backbone


@pytest.mark.parametrize("name", DETECTORS)
def test_presets_set_every_switch(name):
    defaults = DETECTORS[name].defaults
    assert apply_preset(defaults, "clean") == defaults
    for layout in DETECTORS[name].torch_layouts:
        released = apply_preset(defaults, layout.preset)
        assert all(dataclasses.asdict(released.legacy).values())
        assert released.data.crowd
        assert released.compute.precision == "highest"
        assert replaced(released, layout.changes) == released
        clean = dataclasses.replace(apply_preset(released, "clean"), compute=defaults.compute)
        assert clean == replaced(defaults, layout.changes)


def test_a_preset_that_the_detector_lacks_is_refused():
    assert presets(DETECTORS["cornernet"]) == ["released", "released_eccv18", "clean"]
    eccv18 = apply_preset(DETECTORS["cornernet"].defaults, "released_eccv18").data
    assert (eccv18.gaussian_radius, eccv18.gaussian_iou) == ("legacy", 0.7)
    with pytest.raises(InputError, match=r"^no preset 'released_eccv18'; there are: released, clean$"):
        apply_preset(DETECTORS["cornernet_squeeze"].defaults, "released_eccv18")


def test_options_survive_json(tmp_path):
    """Whole numbers, which JSON may have in the place of 1.0, come back as they are meant."""
    config = replaced(SACCADE, {"optim.clip_norm": 2, "test.scales": [1, 0.5], "seed": 7})
    (tmp_path / "config.json").write_text(to_json(config).replace("2.0", "2"))
    back = read_config(tmp_path / "config.json")
    assert back == config
    assert type(back) is type(config)
    assert type(back.optim.clip_norm) is float
    assert back.test.scales == (1.0, 0.5)
