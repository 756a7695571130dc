"""Options as a user gives them: a mistake is one sentence, exit code 2 and no traceback, wherever it stands."""

import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from cornerjax.config import load_recipe, to_json

CONFIGS = Path(__file__).parents[2] / "configs"
# Field of `data`, its value, what is said of it.
MISTAKES = {
    "a misspelt choice": ("render", "gpu", "data.render is 'gpu'; accepted are host, device"),
    "a wrong type": ("batch", "eight", "data.batch is 'eight'; accepted is a whole number"),
    "an unknown field": ("rendr", "host", "rendr"),
}
# One command after the other; an error that is no sentence ends the process with its traceback.
PROGRAM = """
import contextlib, io, json, sys
from cornerjax import commands
for words in json.loads(sys.argv[1]):
    sys.argv, code = ["cornerjax", *words], 0
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        try:
            commands.main()
        except SystemExit as end:
            code = end.code
    print(json.dumps([code, out.getvalue(), err.getvalue()]))
"""


class Done(NamedTuple):
    code: int
    out: str
    err: str

    def sentence(self) -> str:
        """What a command said that must have refused what it was given."""
        assert (self.code, self.out) == (2, ""), self
        assert self.err.startswith("error: ")
        assert self.err.count("\n") == 1
        return self.err.removeprefix("error: ").strip()


def call(*commands: list[str]) -> list[Done]:
    """`cornerjax ...` for each, in a process where, other than in this one, nothing checks types."""
    program = [sys.executable, "-c", PROGRAM, json.dumps(commands)]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [Done(*json.loads(line)) for line in done.stdout.splitlines()]


def test_on_the_command_line(tmp_path):
    train = ["train", "--config", str(CONFIGS / "shapes.py"), "--workdir", str(tmp_path / "run")]
    choice, word, unknown, of_another, number = call(
        [*train, "--data.render", "gpu"],
        [*train, "--optim.peak-lr", "abc"],
        [*train, "--data.rendr", "host"],
        [*train, "--test.saccade.max-crops", "3"],
        [*train, "--data.batch", "0"],
    )
    assert choice.sentence().startswith("invalid choice 'gpu' for argument '--data.render'. Expected one of ('host',")
    assert word.sentence().startswith("--optim.peak-lr: could not convert string to float: 'abc'")
    assert unknown.sentence() == "no option --data.rendr; there is --data.render"
    assert of_another.sentence().startswith("no option --test.saccade.max-crops; there is --test.")
    assert number.sentence() == "data.batch is 0; accepted is 1 to 131072"
    assert not (tmp_path / "run").exists()


def test_in_a_recipe(tmp_path):
    code = "from cornerjax.config import Data\nfrom cornerjax.detectors.cornernet import CornerConfig\n"
    commands = []
    for name, (field, value, _) in MISTAKES.items():
        recipe = tmp_path / f"{name}.py"
        recipe.write_text(f"{code}def config(): return CornerConfig(data=Data({field}={value!r}))")
        commands.append(["train", "--config", str(recipe), "--workdir", str(tmp_path / "run")])
    for done, (name, (*_, said)) in zip(call(*commands), MISTAKES.items(), strict=True):
        assert done.sentence().startswith(f"recipe {tmp_path / name}.py")
        assert said in done.sentence()
    assert not (tmp_path / "run").exists()


def test_in_the_config_json_of_a_work_directory(tmp_path):
    for name, (field, value, _) in MISTAKES.items():
        run, content = tmp_path / name, json.loads(to_json(load_recipe(CONFIGS / "shapes.py")))
        content["data"][field] = value
        run.mkdir()
        (run / "config.json").write_text(json.dumps(content))
        (run / "run.json").write_text(json.dumps({"class_names": ["a"], "category_ids": [1]}))
    commands = [["eval", "--workdir", str(tmp_path / name)] for name in MISTAKES]
    for done, (name, (*_, said)) in zip(call(*commands), MISTAKES.items(), strict=True):
        assert done.sentence().startswith(f"{tmp_path / name / 'config.json'}: ")
        assert said in done.sentence()


def test_help_shows_only_what_the_detector_of_the_recipe_has():
    recipes = (CONFIGS / "shapes.py", CONFIGS / "saccade_small.py")
    done = call(*(["train", "--config", str(recipe), "--help"] for recipe in recipes))
    assert [code for code, *_ in done] == [0, 0]
    of_shapes, of_saccade = (out.lower() for _, out, _ in done)
    for option in ("--data.render", "--optim.peak-lr", "--model.backbone.dims", "--compute.precision", "--loss.pull"):
        assert option in of_shapes
        assert option in of_saccade
    for word in ("saccade", "attention", "min-object-px"):
        assert word in of_saccade
        assert word not in of_shapes
