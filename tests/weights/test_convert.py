"""A checkpoint becomes a work directory, with proof."""

import dataclasses
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from test_match import first_repositorys

import cornerjax
from cornerjax.checkpoint import restore_weights
from cornerjax.commands.weights import main
from cornerjax.data.coco_classes import COCO_CATEGORIES
from cornerjax.detectors import DETECTORS
from cornerjax.detectors.centernet_triplets import TripletConfig
from cornerjax.detectors.cornernet_saccade.options import SaccadeConfig
from cornerjax.errors import InputError, RunError
from cornerjax.nn.functional import by_path
from cornerjax.weights.convert import convert, from_torch, largest_differences, read

torch = pytest.importorskip("torch")


@pytest.fixture
def source(checkpoint, tmp_path):
    path = tmp_path / "squeeze.pkl"
    torch.save(
        {f"module.{key}": torch.from_numpy(value) for key, value in checkpoint("cornernet_squeeze").items()}, path
    )
    return path


def run(*options):
    """The command."""
    main([str(option) for option in options])


def images(count=1):
    return np.random.default_rng(1).standard_normal((count, 3, 63, 63)).astype(np.float32)


def heads(predictor, given):
    """By the names that CornerNet-Lite has for the modules of the last stack."""
    maps = predictor.forward(given.transpose(0, 2, 3, 1))
    named = {f"{name}s.1": value for name, value in maps.items() if name != "attention"}
    named |= {f"att_modules.1.{level}": value for level, value in enumerate(maps.get("attention", []))}
    return {name: np.asarray(value).transpose(0, 3, 1, 2) for name, value in named.items()}


def assert_same_weights(loaded, straight):
    for ours, theirs in zip(loaded.weights, straight.weights, strict=True):
        ours, theirs = by_path(ours), by_path(theirs)
        assert ours.keys() == theirs.keys()
        for path, value in theirs.items():
            np.testing.assert_array_equal(ours[path], value)


def test_the_command_writes_what_load_takes(checkpoint, source, tmp_path, capsys):
    out = tmp_path / "runs" / "released"
    straight = from_torch("cornernet_squeeze", checkpoint("cornernet_squeeze"))
    recorded = heads(straight, images())
    recorded["br_offs.1"] = recorded["br_offs.1"] + np.float32(0.01)
    np.savez(tmp_path / "recorded.npz", images=images(), **recorded)
    given = ("--source", source, "--out", out, "--forward", tmp_path / "recorded.npz")
    run("--detector", "cornernet_squeeze", *given)
    said = capsys.readouterr().out
    assert "all equal when read back; heads within 1.00e-02 of the original's; layout of CornerNet-Lite; preset" in said

    loaded = cornerjax.load(out)
    assert_same_weights(loaded, straight)
    assert loaded.config == straight.config
    assert loaded.class_names == ("class 0", "class 1", "class 2")

    certificate = json.loads((out / "certificate.json").read_text())
    differences = certificate["largest_difference_of_heads"]
    assert differences.pop("br_offs.1") == pytest.approx(0.01, rel=1e-3)
    assert list(differences.values()) == [0, 0, 0, 0, 0]
    values = checkpoint("cornernet_squeeze")
    assert certificate["sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert certificate["equal"] is True
    assert certificate["unused"] == []
    assert certificate["parameters"] == sum(v.size for key, v in values.items() if "running" not in key)
    by_name = {entry["torch"].removeprefix("module."): entry for entry in certificate["tensors"]}
    assert sorted(by_name) == sorted(values)
    for key, value in values.items():
        assert by_name[key]["shape"] == list(value.shape)
        assert by_name[key]["sha256"] == hashlib.sha256(value.tobytes()).hexdigest()
    assert certificate["versions"]["torch"] == torch.__version__


def test_a_checkpoint_of_the_first_repository(checkpoint, tmp_path, capsys):
    """Through the disk; its heads have that repository's names."""
    values = {f"module.{first_repositorys(key)}": value for key, value in checkpoint("cornernet").items()}
    torch.save({key: torch.from_numpy(value) for key, value in values.items()}, tmp_path / "first.pth")
    straight, out = from_torch("cornernet", checkpoint("cornernet")), tmp_path / "out"
    recorded = {f"module.{first_repositorys(key)}": value for key, value in heads(straight, images()).items()}
    assert "module.br_regrs.1" in recorded
    np.savez(tmp_path / "recorded.npz", images=images(), **recorded)
    given = ("--source", tmp_path / "first.pth", "--out", out, "--forward", tmp_path / "recorded.npz")
    run("--detector", "cornernet", *given)
    said = capsys.readouterr().out
    assert "heads within 0.00e+00 of the original's; layout of CornerNet's first repository; preset released_ec" in said
    assert_same_weights(cornerjax.load(out), straight)


def test_a_live_network_is_compared_too(checkpoint):
    """A function that stands for the original: ours, with one head off by a hundredth."""
    converted = read("cornernet_saccade", checkpoint("cornernet_saccade"))
    same = converted.predictor()

    def live(given):
        maps = heads(same, given)
        return {"att_modules.1.0": maps["att_modules.1.0"], "att_modules.1.1": maps["att_modules.1.1"] + 0.01}

    differences = largest_differences(converted, live)
    assert differences == {"att_modules.1.0": 0, "att_modules.1.1": pytest.approx(0.01, rel=1e-3)}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "has no array `images`"),
        ({"images": images()}, "has no heads"),
        ({"images": images(), "tl_heat": np.ones(3)}, "has tl_heat; heads are .*tl_heats.1"),
        ({"images": images(), "tl_tags.1": np.ones((1, 1, 4, 4))}, r"has tl_tags.1 of shape \(1, 1, 4, 4\); ours is"),
        ({"images": np.ones((1, 3, 50, 50), np.float32), "tl_tags.1": np.ones(1)}, "do not fit the network"),
        ({"images": np.ones((1, 63, 63, 3), np.float32)}, r"expected \(b, 3, H, W\), float32"),
        ({"images": images().astype(np.float64)}, r"`images` of shape \(1, 3, 63, 63\), float64; expected"),
        ({"images": images(), "tl_tags.1": np.full((1, 1, 8, 8), np.nan)}, "has tl_tags.1 with values that are inf"),
    ],
    ids=["nothing", "images", "unknown", "shape", "size", "layout", "type", "nan"],
)
def test_a_forward_pass_that_cannot_be_compared_is_refused(source, tmp_path, arrays, message):
    np.savez(tmp_path / "recorded.npz", **arrays)
    with pytest.raises(InputError, match=message):
        convert("cornernet_squeeze", source, tmp_path / "out", forward=tmp_path / "recorded.npz")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["recorded.npz", "squeeze.pkl"]


def test_a_damaged_forward_pass_is_refused(source, tmp_path):
    recorded = tmp_path / "recorded.npz"
    np.savez(recorded, images=images())
    intact = recorded.read_bytes()
    for content in (b"", b"text", intact[:2000], intact[:2000] + b"XXXX" + intact[2004:]):
        recorded.write_bytes(content)
        with pytest.raises(InputError, match=r"recorded.npz is damaged; expected an .npz file"):
            convert("cornernet_squeeze", source, tmp_path / "out", forward=recorded)
    with pytest.raises(InputError, match=r"gone.npz: No such file"):
        convert("cornernet_squeeze", source, tmp_path / "out", forward=tmp_path / "gone.npz")


def test_keys_that_the_network_does_not_need_are_named(checkpoint, tmp_path, monkeypatch, capsys):
    layout = DETECTORS["cornernet"].torch_layouts[0]._replace(unused=(r"base\.fc\.\w+",))
    monkeypatch.setattr(type(DETECTORS["cornernet"]), "torch_layouts", (layout,))
    values = checkpoint("cornernet") | {"base.fc.weight": np.ones((2, 2), np.float32)}
    torch.save({key: torch.from_numpy(value) for key, value in values.items()}, tmp_path / "w.pkl")
    run("--detector", "cornernet", "--source", tmp_path / "w.pkl", "--out", tmp_path / "out")
    assert "layout of CornerNet-Lite; not needed: base.fc.weight; preset" in capsys.readouterr().out
    certificate = json.loads((tmp_path / "out" / "certificate.json").read_text())
    assert certificate["unused"] == ["base.fc.weight"]
    assert "base.fc.weight" not in {entry["torch"] for entry in certificate["tensors"]}


def test_released_files_of_points_become_runs_that_load(checkpoint, tmp_path, capsys):
    """A file of DLA-34 as it was released: with its epoch, and the classifier of ImageNet that nothing reads."""
    values = checkpoint("centernet_points")
    besides = {"base.fc.weight": np.ones((2, 2, 1, 1), np.float32), "base.fc.bias": np.ones(2, np.float32)}
    state = {key: torch.from_numpy(value) for key, value in (values | besides).items()}
    torch.save({"epoch": 140, "state_dict": state}, tmp_path / "dla.pth")
    out = tmp_path / "out"
    run("--detector", "centernet_points", "--source", tmp_path / "dla.pth", "--out", out)
    said = capsys.readouterr().out
    assert "layout of DLA-34; not needed: base.fc.bias, base.fc.weight; preset released" in said
    certificate = json.loads((out / "certificate.json").read_text())
    assert certificate["unused"] == ["base.fc.bias", "base.fc.weight"]
    assert sorted(entry["torch"] for entry in certificate["tensors"]) == sorted(values)
    loaded, straight = cornerjax.load(out), from_torch("centernet_points", values)
    assert_same_weights(loaded, straight)
    assert loaded.config == straight.config


@pytest.mark.parametrize(("layout", "said"), [(0, "CenterNet-104"), (1, "CenterNet-52")])
def test_released_files_of_triplets_become_runs_that_load(checkpoint, tmp_path, capsys, layout, said):
    values = checkpoint("centernet_triplets", layout=layout)
    torch.save({f"module.{key}": torch.from_numpy(value) for key, value in values.items()}, tmp_path / "w.pkl")
    run("--detector", "centernet_triplets", "--source", tmp_path / "w.pkl", "--out", tmp_path / "out")
    assert f"layout of {said}; preset released" in capsys.readouterr().out
    loaded, straight = cornerjax.load(tmp_path / "out"), from_torch("centernet_triplets", values)
    assert_same_weights(loaded, straight)
    assert isinstance(loaded.config, TripletConfig)
    assert loaded.config == straight.config
    assert loaded.config.model.backbone.stacks == 2 - layout


def test_a_bit_that_changes_on_the_way_is_noticed_and_nothing_kept(source, tmp_path, monkeypatch):
    def flipped(folder):
        params, model_state, step = restore_weights(folder)
        kernel = np.array(params["tl"]["0"]["tag"]["out"]["kernel"])
        kernel.view(np.uint32)[0, 0, 3, 0] ^= 1  # the last bit of one number
        params["tl"]["0"]["tag"]["out"]["kernel"] = kernel
        return params, model_state, step

    monkeypatch.setattr("cornerjax.checkpoint.restore_weights", flipped)
    with pytest.raises(RunError, match=r"out is not kept: module.tl_tags.0.1.weight was read back with other values"):
        convert("cornernet_squeeze", source, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["squeeze.pkl"]


def test_nothing_is_overwritten_or_left_behind(source, tmp_path, monkeypatch):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("keep")
    with pytest.raises(InputError, match="full is there already; give another folder"):
        convert("cornernet_squeeze", source, tmp_path / "full")
    with pytest.raises(InputError, match="does not fit cornernet"):
        convert("cornernet", source, tmp_path / "out")

    def no_space(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cornerjax.weights.convert._certificate", no_space)
    with pytest.raises(RunError, match=r"cannot write .*out: No space left on device"):
        convert("cornernet_squeeze", source, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full", "squeeze.pkl"]
    assert (tmp_path / "full" / "mine.txt").read_text() == "keep"


@pytest.mark.parametrize(
    ("out", "message"),
    [
        (".", r"^\. is the current folder or a mount point; give a new folder, such as one inside it"),
        ("", "^an empty path is the current folder or a mount point"),
        ("../here", r"^\.\./here is the current folder or a mount point"),
        ("/proc", "^/proc is the current folder or a mount point"),
        ("gs://bucket/run", "^gs://bucket/run is not a local folder; give one, and copy it there"),
    ],
)
def test_a_place_that_no_folder_can_be_renamed_to_is_refused_before_anything_is_read(
    tmp_path, monkeypatch, out, message
):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(InputError, match=message):
        convert("cornernet_squeeze", "gone.pkl", out)
    assert [path.name for path in tmp_path.rglob("*")] == ["here"]


def test_an_empty_folder_behind_a_link_is_filled(source, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("empty")
    convert("cornernet_squeeze", source, tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "empty" / "certificate.json").is_file()


def test_weights_of_pytorch_need_no_orbax():
    code = "import sys, cornerjax; sys.modules['orbax'] = None; cornerjax.from_torch, cornerjax.Predictor"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_presets(checkpoint):
    values = checkpoint("cornernet")
    released = from_torch("cornernet", values).config
    assert all(dataclasses.asdict(released.legacy).values())
    assert released.test.flip
    assert released.compute.precision == "highest"
    clean = from_torch("cornernet", values, preset="clean").config
    assert not any(dataclasses.asdict(clean.legacy).values())
    assert clean.compute.precision == "default"
    first = {first_repositorys(key): value for key, value in values.items()}
    assert from_torch("cornernet", first).config.data.gaussian_radius == "legacy"
    assert from_torch("cornernet", first, preset="released").config == released
    with pytest.raises(InputError, match="no preset 'old'; there are: released, released_eccv18, clean"):
        from_torch("cornernet", "gone.pkl", preset="old")
    with pytest.raises(InputError, match="no preset 'released_eccv18'; there are: released, clean"):
        from_torch("cornernet_saccade", "gone.pkl", preset="released_eccv18")
    with pytest.raises(InputError, match="no detector 'yolo'"):
        from_torch("yolo", values)


def test_options_by_name(checkpoint, tmp_path):
    values = checkpoint("cornernet_saccade")
    test, compute = {"max_detections": 50, "saccade.max_crops": 7}, {"precision": "default"}
    config = from_torch("cornernet_saccade", values, test=test, compute=compute).config
    assert isinstance(config, SaccadeConfig)
    assert (config.test.max_detections, config.test.saccade.max_crops, config.compute.precision) == (50, 7, "default")
    convert("cornernet_saccade", values, tmp_path / "out", test=test, compute=compute)
    assert cornerjax.load(tmp_path / "out").config == config
    for refused, message in (
        ({"test": {"scale": 2}}, r"^there is no option test\.scale; there are: .*scales"),
        ({"test": {"saccade": {"max_crops": 0}}}, r"^test\.saccade\.max_crops is 0; accepted is 1 to 131072$"),
        ({"compute": {"precision": "half"}}, r"^compute\.precision is 'half'; accepted are default, highest$"),
    ):
        with pytest.raises(InputError, match=message):
            from_torch("cornernet_saccade", "gone.pkl", **refused)  # refused before the file is read
    with pytest.raises(InputError, match=r"^test\.saccade\.zooms is \(1\.0,\); it needs one number for each of the 2"):
        from_torch("cornernet_saccade", values, test={"saccade.zooms": (1.0,)})


def test_class_names(checkpoint, tmp_path):
    coco = from_torch("cornernet_squeeze", checkpoint("cornernet_squeeze", 80))
    assert coco.class_names[:2] + coco.class_names[-1:] == ("person", "bicycle", "toothbrush")
    convert("cornernet_squeeze", checkpoint("cornernet_squeeze", 80), tmp_path / "coco")
    described = json.loads((tmp_path / "coco" / "run.json").read_text())
    assert described["category_ids"] == [number for number, _ in COCO_CATEGORIES]
    values = checkpoint("cornernet_squeeze")
    assert from_torch("cornernet_squeeze", values, class_names=["a", "b", "c"]).class_names == ("a", "b", "c")
    with pytest.raises(InputError, match="2 class names for a checkpoint with 3 classes"):
        from_torch("cornernet_squeeze", values, class_names=["a", "b"])
    with pytest.raises(InputError, match="1 class names for a checkpoint with 3 classes"):
        from_torch("cornernet_squeeze", values, class_names="cat")
    one = from_torch("cornernet_squeeze", checkpoint("cornernet_squeeze", 1), class_names="cat")
    assert one.class_names == ("cat",)


@pytest.mark.parametrize("name", ["a\0b", "\ud800", ""])
def test_a_class_name_that_no_run_can_have_is_refused(tmp_path, name):
    """The work directory could not be opened again."""
    with pytest.raises(InputError, match=r"^class name '.*': expected text that can be written$"):
        convert("cornernet_squeeze", "gone.pkl", tmp_path / "out", class_names=["a", name, "c"])


def test_a_mistake_on_the_command_line_is_one_sentence(tmp_path):
    (tmp_path / "w.pkl").write_bytes(b"")
    options = ["--detector", "cornernet", "--source", str(tmp_path / "w.pkl"), "--out", str(tmp_path / "out")]
    ended = subprocess.run(
        [sys.executable, "-m", "cornerjax", "weights", *options],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert "w.pkl" in ended.stderr
