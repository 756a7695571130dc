"""Fine-tuning: what a new run takes over from a checkpoint, what it does not, and what it refuses."""

import json
import runpy
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from made_runs import NETWORK, PETS, assert_equal, drawn, write_run

from cornerjax.checkpoint import Checkpoints, restore_weights
from cornerjax.config import Data, Optim, to_json
from cornerjax.data.shapes import write_shapes
from cornerjax.detectors import DETECTORS
from cornerjax.detectors.base import make_network
from cornerjax.detectors.cornernet import CornerConfig, CornerNet, CornerTest
from cornerjax.errors import InputError
from cornerjax.new_workdir import create_workdir
from cornerjax.nn.functional import by_path
from cornerjax.training.finetune import Init, class_dependent, init_weights, record_of
from cornerjax.validation import replaced
from cornerjax.weights.convert import convert

ROOT = Path(__file__).parents[2]
MAPS_OF_CLASSES = {f"{corner}.0.heat.out.{kind}" for corner in ("tl", "br") for kind in ("kernel", "bias")}
MORE_PETS = ("cat", "dog", "hamster")


def taken_over(folder, names, changes=None):
    """The arrays that a new run starts from, by path, its own initial ones, and what is said."""
    config, params, model_state = drawn(names, 2, changes)
    *made, said = init_weights(params, model_state, config, names, Init(folder))
    return *(by_path(a) | by_path(b) for a, b in (made, (params, model_state))), "\n".join(said)


def test_the_same_classes_take_over_everything(tmp_path):
    theirs = write_run(tmp_path, PETS)
    made, _, said = taken_over(tmp_path, PETS)
    assert made.keys() == theirs.keys()
    assert_equal(made, made, theirs)
    numbers = sum(value.size for value in theirs.values())
    assert said == f"from {tmp_path}: {len(theirs)} arrays, {numbers:,} numbers loaded"


@pytest.mark.parametrize("names", [MORE_PETS, ("dog", "cat"), ("bird", "fish")], ids=["more", "order", "others"])
def test_other_classes_keep_fresh_maps_of_classes(tmp_path, names):
    theirs = write_run(tmp_path, PETS)
    made, initial, said = taken_over(tmp_path, names)
    assert_equal(MAPS_OF_CLASSES, made, initial)
    assert_equal(made.keys() - MAPS_OF_CLASSES, made, theirs)
    first, second = said.splitlines()
    assert f"{len(theirs) - 4} arrays" in first
    assert f"for they depend on the classes (2: cat, dog there, {len(names)}: {', '.join(names)} here)" in second
    assert second.endswith(": " + ", ".join(sorted(MAPS_OF_CLASSES)))


@pytest.mark.parametrize("name", DETECTORS)
def test_only_the_last_layer_of_heat_maps_depends_on_the_classes(name):
    detector = DETECTORS[name]
    model = replaced(detector.defaults.model, {"num_classes": 3})
    assert class_dependent(model) == {
        f"{keypoint.name}.{stack}.heat.out.{kind}"
        for keypoint in detector.keypoints
        for stack in range(model.backbone.stacks)
        for kind in ("kernel", "bias")
    }


def test_the_best_checkpoint_is_taken(tmp_path):
    theirs = write_run(tmp_path, PETS)
    config, params, model_state = drawn(PETS, 3)
    with Checkpoints(tmp_path, keep=3) as checkpoints:
        for step, ap, seed in ((6, 0.5, 4), (7, 0.1, 5)):
            weights = dict(zip(("params", "model_state"), drawn(PETS, seed)[1:], strict=True))
            checkpoints.save(step, weights, {"step": np.int32(step)}, ap=ap)
    taken, _, _ = init_weights(params, model_state, config, PETS, Init(tmp_path))
    best = by_path(drawn(PETS, 4)[1])
    assert_equal(best, by_path(taken), best)
    assert not np.array_equal(best["tl.0.tag.out.kernel"], theirs["tl.0.tag.out.kernel"])


@pytest.mark.parametrize(
    ("changes", "differ"),
    [
        ({"model.backbone.dims": (8, 16)}, "model.backbone.dims: (8, 8), (8, 16)"),
        ({"model.backbone.stacks": 2}, "model.backbone.stacks: 1, 2"),
        ({"model.detector": "cornernet_squeeze"}, "model.detector: cornernet, cornernet_squeeze"),
        (
            {"model.backbone.blocks": (1, 2), "model.pool_dim": 8},
            "model.backbone.blocks: (1, 1), (1, 2); model.pool_dim: 4, 8",
        ),
    ],
    ids=["width", "stacks", "detector", "two"],
)
def test_another_network_is_refused_with_the_settings_that_differ(tmp_path, changes, differ):
    write_run(tmp_path, PETS)
    with pytest.raises(InputError) as caught:
        taken_over(tmp_path, PETS, changes)
    assert str(caught.value) == f"{tmp_path} has another network (there, here: {differ}); give the same settings"


@pytest.mark.parametrize(
    "changes",
    [
        {"compute.pooling_implementation": "pallas_triton"},
        {"compute.dtype": "bfloat16", "compute.remat": "stack", "compute.precision": "highest"},
        {"optim.batch_norm_groups": 2},
        {"model.pooling": "full"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_how_it_was_computed_and_trained_and_what_is_pooled_may_differ(tmp_path, changes):
    theirs = write_run(tmp_path, PETS, changes)
    made, _, _ = taken_over(tmp_path, PETS)
    assert_equal(made, made, theirs)


@pytest.mark.parametrize(
    ("change", "message"), [(np.int32, "type int32; expected"), (np.inf, "infinite or no numbers")]
)
@pytest.mark.parametrize("part", ["all", "backbone"])
def test_weights_that_are_none_are_refused(tmp_path, change, message, part):
    write_run(tmp_path, PETS)
    config, params, model_state = drawn(PETS, 3)
    theirs = drawn(PETS, 4)[1:]
    made = jax.tree.map(lambda x: x.astype(np.int32) if change is np.int32 else np.full_like(x, change), theirs)
    with Checkpoints(tmp_path, keep=3) as checkpoints:
        checkpoints.save(9, dict(zip(("params", "model_state"), made, strict=True)), {"step": np.int32(9)}, ap=0.9)
    with pytest.raises(InputError, match=message):
        init_weights(params, model_state, config, PETS, Init(tmp_path, part=part))


def _drop(weights):
    del weights["params"]["tl.0.tag.out.bias"]


def _add(weights):
    weights["model_state"]["extra"] = np.zeros(2, np.float32)


def _widen(weights):
    weights["params"]["br.0.off.out.bias"] = np.zeros(3, np.float32)


@pytest.mark.parametrize("names", [PETS, MORE_PETS], ids=["same", "other"])
@pytest.mark.parametrize(
    ("change", "what"),
    [
        (_drop, "tl.0.tag.out.bias is None, expected (1,)"),
        (_add, "extra is (2,), expected None"),
        (_widen, "br.0.off.out.bias is (3,), expected (2,)"),
    ],
    ids=["missing", "unknown", "shape"],
)
def test_arrays_that_the_classes_do_not_explain_are_refused(tmp_path, change, what, names):
    write_run(tmp_path, PETS, change=change)
    with pytest.raises(InputError) as caught:
        taken_over(tmp_path, names)
    assert str(caught.value) == f"{tmp_path}, step 5: weights do not fit the network: shape of {what}"


def test_a_folder_without_weights_is_refused(tmp_path):
    with pytest.raises(InputError, match="gone does not exist"):
        taken_over(tmp_path / "gone", PETS)
    create_workdir(tmp_path, drawn(PETS, 1)[0], PETS, (1, 2), recipe="")
    with pytest.raises(InputError, match="has no checkpoint yet"):
        taken_over(tmp_path, PETS)


def test_the_record_says_where_the_weights_that_are_kept_came_from(tmp_path):
    """A run that ended before its first checkpoint begins anew, with the weights it is given then."""
    config, *trees = drawn(PETS, 1)

    def recorded(origin):
        create_workdir(tmp_path, config, PETS, (1, 2), recipe="", init=origin)
        return json.loads((tmp_path / "run.json").read_text())["init"]

    assert recorded(None) is None
    assert recorded({"workdir": "a"}) == {"workdir": "a"}
    assert recorded({"workdir": "b"}) == {"workdir": "b"}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, dict(zip(("params", "model_state"), trees, strict=True)), {"step": np.int32(1)})
    assert recorded({"workdir": "c"}) == {"workdir": "b"}
    assert recorded(None) == {"workdir": "b"}


def test_what_the_first_weights_were_trained_on_stays_known(tmp_path):
    write_run(tmp_path / "first", PETS)
    assert record_of(Init(tmp_path / "first")) == {"workdir": str(tmp_path / "first")}  # of an older version
    run = json.loads((tmp_path / "first" / "run.json").read_text()) | {"trained_on": "a"}
    (tmp_path / "first" / "run.json").write_text(json.dumps(run))
    known = {"recipe": "pets", "trained_on": "a"}
    assert record_of(Init(tmp_path / "first")) == {"workdir": str(tmp_path / "first"), **known}


def test_a_damaged_certificate(tmp_path):
    assert record_of(Init(tmp_path)) == {"workdir": str(tmp_path)}
    for text in ("{", "{}", "[]", "[" * 100_000):
        (tmp_path / "certificate.json").write_text(text)
        with pytest.raises(InputError, match=r"certificate\.json (is damaged|is not JSON|has lists in lists)"):
            record_of(Init(tmp_path))


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> Path:
    """A tiny run on generated shapes whose steps change no parameter."""
    folder = tmp_path_factory.mktemp("recipe")
    root = write_shapes(folder / "shapes", seed=0, train=4, val=2)
    config = CornerConfig(
        model=NETWORK,
        data=Data(
            root=str(root),
            batch=2,
            crop_px=(127, 127),
            random_crop=False,
            max_objects=8,
            workers=1,
            worker_kind="thread",
        ),
        optim=Optim(peak_lr=1e-30),
        test=CornerTest(batch=2, top_k=10, max_pairs=10),
        steps=1,
    )
    (folder / "config.json").write_text(to_json(config))
    file = str(folder / "config.json")
    code = f"from cornerjax.detectors import read_config\ndef config(): return read_config({file!r})"
    (folder / "tiny.py").write_text(code)
    return folder / "tiny.py"


@pytest.fixture
def train(recipe, monkeypatch, tmp_path):
    """train("--init", ...): train.py as a user calls it, the run in tmp_path/run."""

    def call(*options):
        given = ["train.py", "--config", recipe, "--workdir", tmp_path / "run", *options]
        monkeypatch.setattr(sys, "argv", list(map(str, given)))
        runpy.run_path(str(ROOT / "train.py"), run_name="__main__")

    return call


class Narrow(CornerNet):
    defaults = CornerConfig(model=NETWORK, data=Data(crop_px=(127, 127)))


@pytest.fixture
def released(monkeypatch, tmp_path):
    """A work directory that the conversion of a checkpoint with five classes wrote."""
    narrow = Narrow()
    monkeypatch.setitem(DETECTORS, "cornernet", narrow)
    config = replaced(narrow.defaults, {"model.num_classes": 5})
    _, *trees = make_network(narrow, config, np.random.default_rng(9))
    ours = by_path(trees[0]) | by_path(trees[1])
    names = narrow.torch_names(config.model, narrow.torch_layouts[0])
    values = {name: ours[path] for name, path in names.items()}
    values = {name: v.transpose(3, 2, 0, 1) if v.ndim == 4 else v for name, v in values.items()}
    convert("cornernet", values, tmp_path / "released", preset="clean")
    return tmp_path / "released"


@pytest.mark.slow
def test_a_converted_checkpoint_is_fine_tuned(train, released, tmp_path, capsys):
    train("--init", released)
    said = capsys.readouterr().out
    theirs, here = (by_path(restore_weights(folder, "latest")[0]) for folder in (released, tmp_path / "run"))
    assert f"from {released}: {len(by_path(restore_weights(released)[1])) + len(theirs) - 4} arrays" in said
    assert all(path in said for path in MAPS_OF_CLASSES)
    for path in theirs.keys() - MAPS_OF_CLASSES:
        np.testing.assert_allclose(here[path], theirs[path], rtol=0, atol=1e-29, err_msg=path)
    assert all(here[path].shape[-1] == 3 for path in MAPS_OF_CLASSES)
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    source = json.loads((released / "certificate.json").read_text())["sha256"]
    assert run["init"] == {"workdir": str(released), "source_sha256": source}

    train("--init", tmp_path / "gone")
    assert f"run has checkpoints of its own; {tmp_path / 'gone'} is not used" in capsys.readouterr().out
    assert json.loads((tmp_path / "run" / "run.json").read_text())["init"] == run["init"]


def test_another_network_ends_the_command_and_leaves_nothing(train, released, tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        train("--init", released, "--model.backbone.stacks", 2)
    assert end.value.code == 2
    assert capsys.readouterr().err.endswith("(there, here: model.backbone.stacks: 1, 2); give the same settings\n")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("init", [True, False])
def test_no_run_goes_on_from_converted_weights(train, released, capsys, init):
    before = {path: path.read_bytes() for path in released.glob("*.json")}
    with pytest.raises(SystemExit) as end:
        train(*(["--init", released] if init else []), "--workdir", released)
    assert end.value.code == 2
    assert capsys.readouterr().err == (
        f"error: {released} holds converted weights, which no run can go on from; "
        f"start one from them with cornerjax train --init {released} and another --workdir\n"
    )
    assert {path: path.read_bytes() for path in released.glob("*.json")} == before
    assert len(before) == 3


@pytest.mark.parametrize("options", [("--init-part", "backbone"), ("--init-rgb",)])
def test_how_to_take_what_is_not_given(train, capsys, options):
    with pytest.raises(SystemExit) as end:
        train(*options)
    assert end.value.code == 2
    assert "--init-part and --init-rgb say how --init is taken; give --init too" in capsys.readouterr().err
