"""A checkpoint becomes a work directory, with proof."""

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
from cornerjax.errors import InputError
from cornerjax.legacy import CLEAN, RELEASED
from cornerjax.weights.convert import convert, from_torch, largest_differences, read

torch = pytest.importorskip("torch")


@pytest.fixture
def source(checkpoint, tmp_path):
    path = tmp_path / "squeeze.pkl"
    torch.save(
        {f"module.{key}": torch.from_numpy(value) for key, value in checkpoint("cornernet_squeeze").items()}, path
    )
    return path


def images(count=1):
    return np.random.default_rng(1).standard_normal((count, 3, 63, 63)).astype(np.float32)


def heads(predictor, given):
    maps = predictor.forward(given.transpose(0, 2, 3, 1))
    return {f"{name}s.1": np.asarray(value).transpose(0, 3, 1, 2) for name, value in maps.items()}


def test_the_command_writes_what_load_takes(checkpoint, source, tmp_path, capsys):
    out = tmp_path / "runs" / "released"
    recorded = tmp_path / "recorded.npz"
    straight = from_torch("cornernet_squeeze", checkpoint("cornernet_squeeze"))
    np.savez(recorded, images=images(), **heads(straight, images()))
    options = [
        "--detector",
        "cornernet_squeeze",
        "--source",
        str(source),
        "--out",
        str(out),
        "--forward",
        str(recorded),
    ]
    main(options)
    said = capsys.readouterr().out
    assert "all equal when read back; heads within 0.00e+00 of the original's; preset released" in said

    loaded = cornerjax.load(out)
    for name, value in heads(loaded, images()).items():
        np.testing.assert_array_equal(value, heads(straight, images())[name])
    assert loaded.config == straight.config
    assert loaded.class_names == ("class 0", "class 1", "class 2")

    certificate = json.loads((out / "certificate.json").read_text())
    values = checkpoint("cornernet_squeeze")
    assert certificate["sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert certificate["equal"] is True
    assert certificate["parameters"] == sum(v.size for key, v in values.items() if "running" not in key)
    by_name = {entry["torch"].removeprefix("module."): entry for entry in certificate["tensors"]}
    assert sorted(by_name) == sorted(values)
    for key, value in values.items():
        assert by_name[key]["shape"] == list(value.shape)
        assert by_name[key]["sha256"] == hashlib.sha256(value.tobytes()).hexdigest()
    assert certificate["versions"]["torch"] == torch.__version__


def test_a_live_network_is_compared_too(checkpoint, source, tmp_path):
    """A function that stands for the original: ours, with one head off by a hundredth."""
    same = from_torch("cornernet_squeeze", checkpoint("cornernet_squeeze"))

    def live(given):
        maps = heads(same, given)
        return {"tl_tags.1": maps["tl_tags.1"], "br_offs.1": maps["br_offs.1"] + np.float32(0.01)}

    differences = convert("cornernet_squeeze", source, tmp_path / "out", forward=live)["largest_difference_of_heads"]
    assert differences["tl_tags.1"] == 0
    assert differences["br_offs.1"] == pytest.approx(0.01, rel=1e-3)


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
        with pytest.raises(InputError, match=r"cannot read .*recorded.npz; expected an intact .npz file"):
            convert("cornernet_squeeze", source, tmp_path / "out", forward=recorded)
    with pytest.raises(InputError, match=r"gone.npz is no file"):
        convert("cornernet_squeeze", source, tmp_path / "out", forward=tmp_path / "gone.npz")


def test_heads_may_have_the_first_repositorys_names(checkpoint):
    values = {f"module.{first_repositorys(key)}": value for key, value in checkpoint("cornernet").items()}
    converted = read("cornernet", values)
    recorded = {first_repositorys(key): value for key, value in heads(converted.predictor(), images()).items()}
    assert "br_regrs.1" in recorded
    differences = largest_differences(converted, lambda given: recorded if given.shape == (1, 3, 63, 63) else {})
    assert differences.keys() == heads(converted.predictor(), images()).keys()


def test_a_bit_that_changes_on_the_way_is_noticed_and_nothing_kept(source, tmp_path, monkeypatch):
    def flipped(folder):
        params, model_state, step = restore_weights(folder)
        kernel = np.array(params["tl"]["0"]["tag"]["out"]["kernel"])
        kernel.view(np.uint32)[0, 0, 3, 0] ^= 1  # the last bit of one number
        params["tl"]["0"]["tag"]["out"]["kernel"] = kernel
        return params, model_state, step

    monkeypatch.setattr("cornerjax.weights.convert.restore_weights", flipped)
    with pytest.raises(InputError, match=r"out is not kept: module.tl_tags.0.1.weight was read back with other values"):
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
    with pytest.raises(InputError, match=r"cannot write .*out: No space left on device"):
        convert("cornernet_squeeze", source, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full", "squeeze.pkl"]
    assert (tmp_path / "full" / "mine.txt").read_text() == "keep"


def test_presets(checkpoint):
    values = checkpoint("cornernet")
    assert from_torch("cornernet", values).config.legacy == RELEASED
    assert from_torch("cornernet", values).config.test.flip
    assert from_torch("cornernet", values, preset="clean").config.legacy == CLEAN
    first = from_torch("cornernet", {first_repositorys(key): value for key, value in values.items()})
    assert first.config.data.gaussian_radius == "legacy"
    with pytest.raises(InputError, match="no preset 'old'; there are: released, released_eccv18, clean"):
        from_torch("cornernet", values, preset="old")
    with pytest.raises(InputError, match="no detector 'yolo'"):
        from_torch("yolo", values)


def test_class_names(checkpoint, tmp_path):
    coco = from_torch("cornernet_squeeze", checkpoint("cornernet_squeeze", 80))
    assert coco.class_names[:2] + coco.class_names[-1:] == ("person", "bicycle", "toothbrush")
    convert("cornernet_squeeze", checkpoint("cornernet_squeeze", 80), tmp_path / "coco")
    run = json.loads((tmp_path / "coco" / "run.json").read_text())
    assert run["category_ids"] == [number for number, _ in COCO_CATEGORIES]
    values = checkpoint("cornernet_squeeze")
    assert from_torch("cornernet_squeeze", values, class_names=["a", "b", "c"]).class_names == ("a", "b", "c")
    with pytest.raises(InputError, match="2 class names for a checkpoint with 3 classes"):
        from_torch("cornernet_squeeze", values, class_names=["a", "b"])


def test_a_mistake_on_the_command_line_is_one_sentence(tmp_path):
    (tmp_path / "w.pkl").write_bytes(b"")
    options = ["--detector", "cornernet", "--source", str(tmp_path / "w.pkl"), "--out", str(tmp_path / "out")]
    run = subprocess.run(
        [sys.executable, "-m", "cornerjax", "weights", *options],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert run.returncode == 2
    assert run.stderr.count("\n") == 1
    assert "w.pkl" in run.stderr
