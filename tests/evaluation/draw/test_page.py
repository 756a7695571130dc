"""report.html: what stands in it, and what a browser makes of it."""

import base64
import math
import re
import shutil
import subprocess
from html.parser import HTMLParser
from typing import Any

import cv2
import numpy as np
import pytest

from cornerjax.data.records import Record, Source
from cornerjax.detectors import DETECTORS
from cornerjax.evaluation.compare.analysis import analyse
from cornerjax.evaluation.compare.errors import Kind, TrueKind
from cornerjax.evaluation.compare.ranking import Scores, score_images, score_range, worst_and_best
from cornerjax.evaluation.draw import cards
from cornerjax.evaluation.draw.page import make_page
from cornerjax.evaluation.draw.plots import KEYPOINT_COLOURS
from cornerjax.inference.heat import Heat
from cornerjax.inference.predictor import Predictor

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
EVIL = '</script><script>alert("x")</script>'
NAMES = ("cat", "$x^2$", EVIL, 'dog\'s "own"')
TRUE = {  # image: (class, x, crowd) of boxes 20 pixels wide
    1: [(0, 0, 0), (2, 40, 0)],
    2: [(0, 0, 0), (0, 40, 0)],
    3: [(0, 0, 0), (2, 40, 0), (3, 80, 0)],
    4: [(0, 0, 1), (3, 80, 0)],
}
FOUND = {  # image: (class, x, score)
    1: [(0, 0, 0.9), (3, 80, 0.8)],  # correct, background; one is missed
    2: [(0, 0, 0.95), (0, 40, 0.9)],  # correct, both
    3: [(0, 40, 0.7), (0, 8, 0.65), (3, 80, 0.6), (3, 81, 0.55), (2, 10, 0.5), (3, 120, 0.1)],
    4: [(0, 1, 0.6), (3, 80, 0.3)],  # on the crowd; correct
}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    records = []
    for image_id, objects in TRUE.items():
        path = folder / f"<b>{image_id}.png"
        cv2.imwrite(str(path), np.full((60, 160, 3), 40 * image_id, np.uint8))
        boxes = np.array([(x, 0, x + 20, 20) for _, x, _ in objects], np.float32)
        classes = np.array([label for label, *_ in objects], np.int32)
        records.append(Record(image_id, path, 60, 160, boxes, classes))
    return Source(records, NAMES, (1, 2, 3, 4), folder / "truth.json")


def analysis_of(found):
    truth: Any = {"categories": [{"id": i, "name": name} for i, name in enumerate(NAMES, start=1)]}
    truth["images"] = [{"id": image} for image in TRUE]
    truth["annotations"] = [
        {"image_id": image, "category_id": label + 1, "bbox": [x, 0, 20, 20], "iscrowd": crowd}
        for image, objects in TRUE.items()
        for label, x, crowd in objects
    ]
    results: Any = [
        {"image_id": image, "category_id": label + 1, "bbox": [x, 0, 20, 20], "score": score}
        for image, boxes in found.items()
        for label, x, score in boxes
    ]
    return analyse(truth, results, list(TRUE), voc=True)


@pytest.fixture(scope="module")
def analysis():
    return analysis_of(FOUND)


@pytest.fixture(scope="module")
def page(analysis, source):
    return make_page(analysis, 4, about={"run": "a <run>", "step": 5}, notes=["Mind & mend."], source=source)


SIDES = np.array([0, 0, 160, 60], np.float32)  # of a map that covers an image


class Page(HTMLParser):
    """Every element as its attributes, with `tag`, `text` and, in a card, `image`."""

    def __init__(self, content):
        super().__init__()
        self.elements, self.open, self.image = [], [], None
        self.feed(content)

    def handle_starttag(self, tag, attrs):
        self.elements.append({"tag": tag, "text": "", **dict(attrs)})
        if tag == "figure":
            self.image = self.elements[-1].get("data-image")
        self.elements[-1]["image"] = self.image
        if tag not in ("meta", "input", "link", "image"):
            self.open.append(self.elements[-1])

    def handle_startendtag(self, tag, attrs):
        self.elements.append({"tag": tag, "text": "", "image": self.image, **dict(attrs)})

    def handle_data(self, data):
        for element in self.open:
            element["text"] += data

    def handle_endtag(self, tag):
        while self.open and self.open.pop()["tag"] != tag:
            pass
        self.image = None if tag == "figure" else self.image

    def all(self, tag, **attributes):
        attributes = {name.replace("_", "-"): value for name, value in attributes.items()}
        return [e for e in self.elements if e["tag"] == tag and attributes.items() <= e.items()]

    def one(self, tag, **attributes):
        (element,) = self.all(tag, **attributes)
        return element


def rects(page, word):
    return [rect for rect in page.all("rect") if word in (rect.get("class") or "").split()]


def shown(number):
    return "-" if math.isnan(number) else f"{number:.3f}"


def test_the_page_needs_nothing_else(page):
    assert set(re.findall(r"https?://[^\s\"'<]*", page)) == {"http://www.w3.org/2000/svg"}
    for element in Page(page).elements:
        assert element["tag"] not in ("link", "iframe", "object", "base")
        assert "src" not in element
        assert re.match(r"data:image/(png|jpeg);base64,|#", element.get("href", "#"))
    assert "@import" not in page
    assert set(re.findall(r"url\([^#)]*", page)) <= {"url("}  # clip paths of the plots are on the page


def test_every_number_stands_on_the_page(page, analysis):
    parsed = Page(page)
    for name, value in {**analysis.metrics, **analysis.false_discovery}.items():
        assert parsed.one("dd", data_metric=name)["text"] == shown(value)
    names = [row["data-class"] for row in parsed.all("tr") if "data-class" in row]
    assert names == list(NAMES)
    for column in ("boxes", "AP", "AP50", "threshold", "F1", "precision", "recall"):
        cells = [cell["text"] for cell in parsed.all("td", data_column=column)]
        values = [row[column] for row in analysis.per_class.values()]
        assert cells == [str(v) if isinstance(v, int) else shown(v) for v in values]
    all_points = [cell["text"] for cell in parsed.all("td", data_column="all_points")]
    assert all_points == [shown(ap.all_points) for ap in analysis.voc.values()]
    counts, gains = ([cell["text"] for cell in parsed.all("td", data_column=name)] for name in ("count", "gain"))
    assert counts == [str(count) for count in analysis.error_counts.values()]
    assert gains == [shown(gain) for gain in analysis.errors.gains.values()]
    assert any("with a score of 0.300 or more, where F1 is best" in heading["text"] for heading in parsed.all("h2"))
    assert (parsed.one("dd", id="true-boxes")["text"], parsed.one("dd", id="found-boxes")["text"]) == ("8", "12")
    assert "Mind & mend." in [note["text"] for note in parsed.all("p", **{"class": "note"})]


def test_boxes_have_the_kinds_that_were_counted(page, analysis):
    parsed, errors = Page(page), analysis.errors
    for kind in Kind:
        drawn = [rect for rect in rects(parsed, "found-box") if kind.name.lower() in rect["class"].split()]
        assert len(drawn) == (errors.kinds == kind).sum() > 0
    for true_kind in TrueKind:
        drawn = [rect for rect in rects(parsed, "true-box") if true_kind.name.lower() in rect["class"].split()]
        assert len(drawn) == (errors.true_kinds == true_kind).sum() > 0
    wrong = next(rect for rect in rects(parsed, "class"))
    assert (wrong["data-class"], wrong["data-score"], wrong["image"]) == ("0", "0.7000", "3")
    assert [wrong[side] for side in ("x", "y", "width", "height")] == ["40", "0", "20", "20"]
    assert wrong["text"] == f"cat 0.70: wrong class: {EVIL} is there, IoU 1.00"
    found = next(rect for rect in rects(parsed, "found") if rect["image"] == "4")
    assert (found["data-score"], found["text"]) == ("0.3000", f"true {NAMES[3]}: found with 0.30, IoU 1.00")


def test_names_are_data(page):
    parsed = Page(page)
    assert len(parsed.all("script")) == 1
    assert not parsed.all("b", text="1.png")
    assert [option["text"] for option in parsed.all("option")] == ["all", *NAMES]
    assert [option["value"] for option in parsed.all("option")] == ["", *NAMES]
    assert parsed.one("h1")["text"] == "a <run>"
    assert {b["text"] for b in parsed.all("b")} == {f"<b>{i}.png" for i in TRUE}
    legends = "".join(text["text"] for text in parsed.all("text"))
    assert EVIL[:20] in legends


def test_images_and_heat_lie_where_they_should(analysis, source, monkeypatch):
    top_left, bottom_right = np.zeros((2, 5, 10), np.float32)
    top_left[1, 2], bottom_right[3, 4] = 1, 0.5
    top_left[0, 0] = cards.LEAST_HEAT / 2
    maps = {"tl": top_left, "br": bottom_right}
    heat = Heat(maps, {"attention": bottom_right}, np.array([-20, -10, 180, 90], np.float32))
    monkeypatch.setattr(cards, "find_heat", lambda predictor, image: heat)
    page = make_page(analysis, 1, about={"run": "it"}, source=source, predictor=predictor())
    parsed = Page(page)
    photo, laid, attention = parsed.all("image")
    assert [laid[side] for side in ("x", "y", "width", "height")] == ["-20", "-10", "200", "100"]
    assert decoded(photo["href"]).shape == (60, 160, 3)
    pixels = decoded(laid["href"])
    assert (pixels[1, 2, 3], pixels[0, 0, 3]) == (255, 0)
    assert 100 < pixels[3, 4, 3] < 160
    for place, hexadecimal in (((1, 2), KEYPOINT_COLOURS[0]), ((3, 4), KEYPOINT_COLOURS[1])):
        colour = list(bytes.fromhex(hexadecimal[1:]))
        np.testing.assert_allclose(pixels[place][2::-1], colour, atol=16)
    assert decoded(attention["href"])[3, 4, 3] > 0
    assert parsed.one("input", name="layer-keypoints")
    assert parsed.one("input", name="layer-attention")
    assert ["top-left corner" in page, "bottom-right corner" in page] == [True, True]


def predictor():
    """One of corners that is never called."""
    made = object.__new__(Predictor)
    made.detector = DETECTORS["cornernet"]
    return made


def decoded(address):
    return cv2.imdecode(np.frombuffer(base64.b64decode(address.split(",")[1]), np.uint8), cv2.IMREAD_UNCHANGED)


@pytest.mark.parametrize("found", [{}, {1: [(3, 80, 0.8)]}], ids=["nothing", "nothing right"])
def test_where_nothing_right_is_found_everything_is_missed(found, source):
    analysis = analysis_of(found)
    parsed = Page(make_page(analysis, 8, about={"run": "it"}, source=source))
    assert {card["data-image"] for card in parsed.all("figure", **{"class": "card"})} == {"1", "2", "3", "4"}
    assert len(rects(parsed, "missed")) == 8
    assert len(rects(parsed, "found-box")) == len(found)
    assert [cell["text"] for cell in parsed.all("td", data_column="count")] == [*"0000", str(len(found)), "8"]
    assert any("boxes of any score, as none is right" in heading["text"] for heading in parsed.all("h2"))


def test_without_images_the_page_says_why(analysis):
    parsed = Page(make_page(analysis, 4, about={"run": "it"}))
    assert not parsed.all("figure", **{"class": "card"})
    assert not parsed.all("form")
    assert any("--root instead of --annotations" in paragraph["text"] for paragraph in parsed.all("p"))


def test_scores_of_images_by_hand(analysis):
    scores = score_range(analysis)
    assert scores == Scores(0, 1, 0.01, 0.3)  # from 0.3 on 5 of 10 boxes are right, of 8 objects; at 0.6 it is 4 of 6
    assert [tuple(score) for score in score_images(analysis, 0.6)] == [
        (1, 1, 1, 1),
        (2, 2, 0, 0),
        (3, 1, 2, 2),
        (4, 0, 0, 1),
    ]


def test_thresholds_hold_every_score(analysis):
    truth: Any = {"images": [{"id": 1}], "categories": [{"id": 1, "name": "cat"}]}
    truth["annotations"] = [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9]}]
    found: Any = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9]}
    wide = analyse(truth, [found | {"score": 37.23}, found | {"score": -4.5}], [1])
    assert score_range(wide) == Scores(-5, 38, 1, 37)
    assert score_range(analyse(truth, [], [1])) == Scores(0, 1, 0.01, 0)


def test_the_worst_and_the_best(analysis):
    scores = score_images(analysis, 0.3)
    worst, best = worst_and_best(scores, 4)
    assert [score.image for score in worst] == [3, 1]
    assert [score.image for score in best] == [2, 4]
    assert worst_and_best(scores, 0) == ([], [])
    assert [score.image for score in worst_and_best(scores, 1)[0]] == [3]


def run_chromium(page, folder, address, *more):
    """What the browser prints, having run the page's script at this address without an error."""
    if not CHROMIUM:
        pytest.skip("there is no Chromium here")
    (folder / "report.html").write_text(page, encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=3000", *more]
    options += ["--enable-logging=stderr", "--v=0", f"--user-data-dir={folder / 'profile'}"]
    command = [CHROMIUM, *options, f"file://{folder}/report.html{address}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    assert "CONSOLE" not in done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def browse(page, tmp_path_factory):
    """browse("#...") -> the page as the browser has it at this address."""
    folder = tmp_path_factory.mktemp("browser")
    return lambda address: Page(run_chromium(page, folder, address, "--dump-dom"))


@pytest.mark.parametrize("layer", ["keypoints", "attention"])
def test_heat_hides_the_image_where_it_is_asked_for_only(analysis, source, monkeypatch, tmp_path, layer):
    full, none = np.ones((5, 10), np.float32), np.zeros((5, 10), np.float32)
    hot, layers = (full, {}) if layer == "keypoints" else (none, {layer: full})
    heat = Heat({"tl": hot, "br": hot}, layers, SIDES)
    monkeypatch.setattr(cards, "find_heat", lambda predictor, image: heat)
    page = make_page(analysis, 1, about={"run": "it"}, source=source, predictor=predictor())
    (image,) = seen(Page(page))

    def part_of_image(address):
        """How much of the window has the one grey of the image."""
        file = tmp_path / "seen.png"
        run_chromium(page, tmp_path, f"#true=0&found=0{address}", f"--screenshot={file}", "--window-size=1400,2400")
        window = cv2.imread(str(file))
        assert window is not None
        return (abs(window.astype(int) - 40 * int(image)).max(axis=2) < 4).mean()

    for large, least in (("", 0.01), (f"&image={image}", 0.1)):  # as a card, and enlarged
        assert part_of_image(large) > least
        assert part_of_image(f"&layer-{layer}=1{large}") < 0.001


def seen(page):
    return [card["data-image"] for card in page.all("figure", **{"class": "card"}) if "hidden" not in card]


def test_a_page_starts_at_the_best_threshold(browse):
    page = browse("")
    assert len(seen(page)) == 4
    assert [rect["data-score"] for rect in rects(page, "off")] == ["0.1000"]
    assert not rects(page, "dim")
    assert page.one("small", id="shown")["text"] == "4 of 4 shown"


def test_a_kind_and_a_class_leave_their_images(browse):
    page = browse("#kind=class&class=cat")
    assert seen(page) == ["3"]
    (bright,) = [rect for rect in page.all("rect", image="3") if "dim" not in rect["class"].split()]
    assert "class" in bright["class"].split()
    assert page.one("tr", **{"class": "chosen"})["data-class"] == "cat"


def test_with_a_threshold_boxes_go_and_objects_are_missed(browse):
    page = browse("#score=0.62&kind=missed&true=0")
    assert sorted(seen(page)) == ["1", "3", "4"]
    off = {float(rect["data-score"]) for rect in rects(page, "off")}
    assert off == {score for boxes in FOUND.values() for *_, score in boxes if score < 0.62}
    missed = [(rect["image"], rect["data-class"]) for rect in rects(page, "missed")]
    assert sorted(missed) == [("1", "2"), ("3", "3"), ("4", "3")]
    caption = next(e["text"] for e in page.all("span", image="4"))
    assert caption == "F1 0.00: 0 right, 0 wrong, 1 missed"
    assert page.one("body")["class"] == "with-found"


def test_classes_are_sorted_and_an_image_is_enlarged(browse):
    page = browse("#sort=-AP50&image=3&class=dog%27s+%22own%22")
    aps = [float(cell["data-value"]) for cell in page.all("td", data_column="AP50")]
    assert aps[:3] == sorted(aps[:3], reverse=True) != aps[:3][::-1]
    assert math.isnan(aps[3])
    assert page.one("th", data_sort="AP50")["aria-sort"] == "descending"
    assert sorted(seen(page)) == ["1", "3", "4"]
    assert "open" in page.one("dialog")
    listed = [item["text"] for item in page.all("li")]
    assert len(listed) == 3 + 5
    assert listed[3] == f"cat 0.70: wrong class: {EVIL} is there, IoU 1.00"
