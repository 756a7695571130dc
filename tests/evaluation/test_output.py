"""An analysis: its numbers, its folder, its plots and tables."""

import errno
import json
import weakref
from pathlib import Path

import cv2
import numpy as np
import pytest

from cornerjax.errors import InputError
from cornerjax.evaluation.compare.analysis import analyse
from cornerjax.evaluation.compare.entries import Detected
from cornerjax.evaluation.options import EXTRAS
from cornerjax.evaluation.output import FILES, check_folder, only_evaluation, write_folder
from cornerjax.evaluation.tables.analysis import print_tables

FOUND: Detected = {"image_id": 1, "category_id": 2, "bbox": [3, 4, 5, 6], "score": 0.7}
CASES = Path(__file__).parents[1] / "golden" / "metrics"


def case(name):
    truth, results = (json.loads((CASES / name / f"{file}.json").read_text()) for file in ("gt", "dets"))
    return truth, results, [image["id"] for image in truth["images"]]


class Picture(np.ndarray):
    """An array that can be told from others of equal content."""

    __hash__ = object.__hash__  # type: ignore[assignment]


def picture_in(file):
    image = cv2.imread(str(file))
    assert image is not None
    return image


@pytest.fixture(scope="module")
def analysis():
    return analyse(*case("voc_sample85"), voc=True)


@pytest.fixture
def written(tmp_path, analysis):
    """A folder with a report of the option a = 1."""
    picture = np.full((20, 30, 3), 7, np.uint8)
    write_folder(tmp_path / "eval", analysis, [], options={"a": (1, 2)}, pictures=[(5, picture)], page="<p>ü", step=12)
    return tmp_path / "eval"


def test_what_is_written(written, analysis):
    assert {path.name for path in written.iterdir()} == FILES
    metrics = json.loads((written / "metrics.json").read_text())
    assert metrics["AP50"] == pytest.approx(0.31195, abs=1e-3)
    assert metrics["voc"]["all_points"] == pytest.approx(0.31047718500906324)
    missed = {"count": analysis.error_counts["missed"], "dAP50": analysis.errors.gains["missed"]}
    assert metrics["errors"]["missed"] == missed
    assert metrics["errors_from_score"] == analysis.curve.best_threshold
    assert metrics["per_class"]["lamp"]["AP"] is None
    assert (metrics["step"], metrics["options"]) == (12, {"a": [1, 2]})
    assert sorted(path.name for path in (written / "pictures").iterdir()) == ["5.jpg", "sheet.jpg"]
    for name in ("precision_recall", "confidence", "errors"):
        assert picture_in(written / f"{name}.png").std() > 5
    assert (written / "report.html").read_bytes() == "<p>ü".encode()
    assert [path.name for path in written.parent.iterdir()] == ["eval"]


def test_a_folder_with_other_options_is_refused(written, tmp_path):
    check_folder(written, {"a": (1, 2)}, extras=["voc"])
    check_folder(tmp_path / "none", {"a": 1})
    with pytest.raises(InputError, match=r"eval holds an evaluation with a \[1, 2\] instead of 3; --out names another"):
        check_folder(written, {"a": 3}, extras=["voc"])


def test_a_folder_with_other_files_is_refused(written, tmp_path):
    (written / "notes.txt").write_text("")
    with pytest.raises(InputError, match=r"eval holds notes\.txt, which no evaluation writes"):
        check_folder(written, {"a": (1, 2)})
    with pytest.raises(InputError, match=r"notes\.txt: Not a directory; expected a folder"):
        check_folder(written / "notes.txt", {})


@pytest.mark.parametrize("name", ["results.json", "pictures/5.jpg", "metrics.json"])
def test_a_folder_without_our_metrics_is_refused(tmp_path, name):
    (tmp_path / "pictures").mkdir()
    (tmp_path / name).write_text('{"AP": 0.5, "loss": 1}')
    with pytest.raises(InputError, match=r"holds files, but no metrics\.json of an evaluation"):
        check_folder(tmp_path, {"a": 1})


@pytest.mark.parametrize("name", ["holiday.jpg", "000005.jpg", "5.png"])
def test_pictures_of_others_are_refused(written, name):
    (written / "pictures" / name).write_text("")
    with pytest.raises(InputError, match=f"eval holds pictures/{name}, which no evaluation writes"):
        check_folder(written, {"a": (1, 2)})


def test_a_folder_with_a_file_that_is_read_is_refused(written):
    with pytest.raises(InputError, match=r"but .*eval/results\.json in it is read"):
        check_folder(written, {"a": (1, 2)}, inputs=[written.parent / "true.json", written / "results.json"])


def test_numbers_that_took_long_are_not_lost(analysis, tmp_path):
    write_folder(tmp_path / "eval", analysis, [], options={}, oracles={"heat": 1})  # the analysis has VOC's AP
    check_folder(tmp_path / "eval", {}, extras=["voc", "oracles", "timing"])
    with pytest.raises(InputError, match="eval holds an evaluation with --oracles, which would be lost"):
        check_folder(tmp_path / "eval", {}, extras=["voc"])
    with pytest.raises(InputError, match="with --voc, which"):
        check_folder(tmp_path / "eval", {}, extras=["oracles"])


def test_what_cannot_be_replaced_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="is the current folder and cannot be replaced"):
        check_folder(tmp_path, {})
    with pytest.raises(InputError, match="is where a file system begins and cannot"):
        check_folder(Path("/"), {})
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file is no folder that can be written to"):
        check_folder(tmp_path / "file" / "eval", {})
    monkeypatch.setattr("os.access", lambda path, _: path != tmp_path)  # root may write everywhere
    with pytest.raises(InputError, match=f"{tmp_path.name} is no folder that can be written to"):
        check_folder(tmp_path / "none" / "eval", {})


def test_large_pictures_are_small_on_the_sheet_and_one_is_kept_at_a_time(analysis, tmp_path):
    alive: weakref.WeakSet[Picture] = weakref.WeakSet()

    def draw():
        for image_id in range(4):
            assert len(alive) <= 1  # the one that was saved last
            alive.add(picture := np.full((500, 2000, 3), 7, np.uint8).view(Picture))
            yield image_id, picture
            del picture

    write_folder(tmp_path / "eval", analysis, [], options={}, pictures=draw())
    assert picture_in(tmp_path / "eval" / "pictures" / "3.jpg").shape == (500, 2000, 3)
    assert picture_in(tmp_path / "eval" / "pictures" / "sheet.jpg").shape == (408, 1608, 3)


def test_what_was_there_is_replaced(written, analysis):
    write_folder(written, analysis, [FOUND], options={})
    assert not list((written / "pictures").iterdir())
    assert json.loads((written / "results.json").read_text()) == [FOUND]


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("report.html", "report.html.kept"),
        ("results.json", "results.json.kept"),
        ("pictures/5.jpg", "pictures/5.jpg"),
        ("pictures/7.jpg", "pictures/7.jpg"),
    ],
)
def test_what_somebody_has_changed_is_refused_and_where_it_is_too_late_kept(written, analysis, name, kept):
    (written / name).write_text("mine")
    with pytest.raises(InputError, match=rf"eval holds {name}, which no evaluation writes"):
        check_folder(written, {"a": (1, 2)}, extras=EXTRAS)
    write_folder(written, analysis, [FOUND], options={}, page="<p>")
    assert (written / kept).read_text() == "mine"


def test_an_older_version_has_noted_no_hashes(written):
    metrics = json.loads((written / "metrics.json").read_text())
    (written / "metrics.json").write_text(json.dumps({k: v for k, v in metrics.items() if k != "files"}))
    (written / "report.html").write_text("mine")
    check_folder(written, {"a": (1, 2)}, extras=EXTRAS)


def test_one_evaluation_at_a_time_writes_a_folder(tmp_path):
    out = tmp_path / "a" / "eval"
    busy = pytest.raises(InputError, match=r"another evaluation is going to write .*eval; wait for it")
    with only_evaluation(out), busy, only_evaluation(out):
        pass
    assert not list(tmp_path.iterdir())


def test_what_others_put_there_meanwhile_is_kept(written, analysis):
    """check_folder has looked before; a folder with the name of a picture is no picture."""
    (written / "pictures" / "7.jpg").mkdir()
    for mine in ("notes.txt", "pictures/mine.jpg", "pictures/7.jpg/mine.jpg"):
        (written / mine).write_text("mine")
    write_folder(written, analysis, [FOUND], options={})
    for mine in ("notes.txt", "pictures/mine.jpg", "pictures/7.jpg/mine.jpg"):
        assert (written / mine).read_text() == "mine"
    with pytest.raises(InputError, match="which no evaluation writes"):
        check_folder(written, {})


def test_a_report_that_cannot_be_written_leaves_nothing(analysis, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        write_folder(tmp_path / "file" / "eval", analysis, [], options={})
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_an_old_report_outlives_a_failure(analysis, tmp_path, monkeypatch):
    (tmp_path / "eval").mkdir()
    (tmp_path / "eval" / "old").write_text("")
    rename = Path.rename

    def failing(path, target):
        if ".cornerjax-" in path.name:
            raise OSError(errno.ENOSPC, "No space left on device")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(InputError, match=r"cannot write .*eval: No space left"):
        write_folder(tmp_path / "eval", analysis, [], options={})
    assert [p.name for p in tmp_path.rglob("*")] == ["eval", "old"]


@pytest.mark.parametrize("nothing", ["found", "to find"])
def test_nothing_makes_a_report_too(nothing, tmp_path, capsys):
    truth, results, images = case("torchmetrics_small")
    truth["categories"][0]["name"] = "_under$core\u732b"  # no key, no formula, and letters that the font lacks
    truth["annotations"] = [] if nothing == "to find" else truth["annotations"]
    results = [] if nothing == "found" else results
    analysis = analyse(truth, results, images, voc=True)
    write_folder(tmp_path / "eval", analysis, results, options={})
    print_tables(analysis)
    assert "-" in capsys.readouterr().out


def test_an_evaluation_that_a_killed_process_had_moved_away_is_put_back(analysis, tmp_path):
    write_folder(tmp_path / "eval", analysis, [], options={})
    (tmp_path / "eval").rename(tmp_path / f".eval.old.{'0' * 32}")
    with pytest.raises(InputError, match="holds an evaluation with --voc"):
        check_folder(tmp_path / "eval", {})
    assert [path.name for path in tmp_path.iterdir()] == ["eval"]
    assert (tmp_path / "eval/metrics.json").is_file()


def test_what_lies_in_an_evaluation_that_was_moved_away_is_kept(analysis, tmp_path):
    old = tmp_path / f".eval.old.{'0' * 32}"
    for folder in (tmp_path / "eval", old):
        write_folder(folder, analysis, [], options={})
    (old / "mine.txt").write_text("mine")
    check_folder(tmp_path / "eval", {}, extras=EXTRAS)
    assert (tmp_path / "eval/mine.txt").read_text() == "mine"
    assert not old.exists()


@pytest.mark.parametrize("name", [".eval.old.2026-03", f".eval.old.{'0' * 31}", f".eval.old.{'0' * 32}"])
def test_folders_of_others_beside_it_stay(analysis, tmp_path, name):
    write_folder(tmp_path / "eval", analysis, [], options={})
    (tmp_path / name).mkdir()
    (tmp_path / name / "mine.txt").write_text("mine")
    check_folder(tmp_path / "eval", {}, extras=EXTRAS)
    assert (tmp_path / name / "mine.txt").exists()
