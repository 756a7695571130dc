"""What a run does around its steps, of a network that computes nothing."""

import itertools
import json
from types import SimpleNamespace
from unittest.mock import Mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cornerjax.checkpoint import Checkpoints
from cornerjax.errors import InputError, RunError
from cornerjax.evaluation.evaluator import Evaluator
from cornerjax.training.guard import Guard
from cornerjax.training.log import TrainLog
from cornerjax.training.loop import Run, train
from cornerjax.training.mesh import data_mesh
from cornerjax.training.profile import STEPS, Profile
from cornerjax.training.step import TrainState
from cornerjax.training.stop import StopSignals
from cornerjax.validation import replaced

METRICS = {"AP": 0.5, "AP50": 0.6, "AP75": 0.4}


class NoSignals(StopSignals):
    def asked(self, step):
        return None


@pytest.fixture
def run(config, tmp_path):
    """Its checkpoints and its evaluations only note what they are asked for; tell the mocks what else they do."""
    checkpoints, evaluator = Mock(spec=Checkpoints), Mock(spec=Evaluator)
    checkpoints.latest.return_value = None
    evaluator.return_value = SimpleNamespace(metrics=METRICS)
    evaluator.pictures.return_value = []
    config = replaced(config, {"steps": 6, "log_steps": 2, "save_steps": 1, "eval_steps": 3})
    log = TrainLog(tmp_path, first_step=0, config=config)
    fold = lambda params, model_state: (params, model_state)  # noqa: E731
    yield Run(config, data_mesh(), evaluator, fold, checkpoints, log, NoSignals(), Guard(tmp_path))
    log.close()


def state_of(step):
    return TrainState(jnp.int32(step), {}, {}, (), None, jnp.bool(False))


@jax.jit
def train_step(state, batch):
    return state._replace(step=state.step + 1), {"total": batch["x"].sum(), "grad_norm": jnp.float32(1)}


def batches(size):
    return itertools.repeat({"x": np.ones(size, np.float32), "image_id": np.zeros(size, np.int64)})


def saved(run):
    """Steps and their APs."""
    return [(call.args[0], call.kwargs["ap"]) for call in run.checkpoints.save.mock_calls]


def test_evaluations_saves_and_compilation_count_in_no_speed(run, tmp_path, monkeypatch):
    now = [0.0]

    def slow(*_, **__):
        now[0] += 1000
        return SimpleNamespace(metrics=METRICS)

    def lower(*given):
        lowered = train_step.lower(*given)
        return SimpleNamespace(compile=lambda: (slow(), lowered.compile())[1])

    def quick(size):
        for batch in batches(size):
            now[0] += size / 8
            yield batch

    monkeypatch.setattr("cornerjax.training.log.time", SimpleNamespace(perf_counter=lambda: now[0], time=lambda: 0.0))
    run.log._since = 0.0
    run.evaluator.side_effect = run.checkpoints.save.side_effect = slow
    compiling = Mock(spec=jax.stages.Wrapped, lower=lower)
    run.steps(state_of(0), compiling, quick(run.config.data.batch), Profile(None))
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["images_per_s"] for line in lines if "total" in line] == [8.0, 8.0, 8.0]
    assert saved(run) == [(1, None), (2, None), (3, 0.5), (4, None), (5, None), (6, 0.5)]


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("part", ["pictures", "evaluation", "report"])
def test_what_only_the_first_process_does_begins_no_save_of_all(run, monkeypatch, processes, part):
    """The others, which know nothing of its error, would not come, and it would wait for them."""
    monkeypatch.setattr(jax, "process_count", lambda: processes)
    if part == "pictures":
        run.evaluator.pictures.side_effect = InputError("cannot read a.jpg")
    else:
        monkeypatch.setattr(run.log, part, Mock(side_effect=RunError("cannot write metrics.jsonl")))
    with pytest.raises((InputError, RunError), match=r"a\.jpg|metrics"):
        run.steps(state_of(0), train_step, batches(run.config.data.batch), Profile(None))
    steps = [(1, None)] if part == "report" else [(1, None), (2, None)]
    alone = (2, None) if part == "report" else (3, 0.5)
    assert saved(run) == [*steps, *([alone] if processes == 1 else [])]


def test_an_error_that_all_processes_share_is_one_that_they_save_at(run, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    run.evaluator.side_effect = InputError("cannot read a.jpg")
    with pytest.raises(InputError):
        run.evaluate(3, state_of(3))
    assert saved(run) == [(3, None)]


def test_a_second_ctrl_c_saves_nothing_more(run):
    run.evaluator.side_effect = KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        run.evaluate(3, state_of(3))
    assert saved(run) == []


def test_the_ap_of_a_step_that_is_saved_already_goes_to_its_checkpoint_before_it_is_told(run, monkeypatch):
    """In the other order, a kill in between would lose it: what is told counts as evaluated."""
    run.checkpoints.latest.return_value = 3
    monkeypatch.setattr(run.log, "evaluation", Mock(side_effect=RunError("cannot write metrics.jsonl")))
    with pytest.raises(RunError):
        run.evaluate(3, state_of(3))
    run.checkpoints.add_ap.assert_called_once_with(3, 0.5)
    assert saved(run) == []


def test_a_run_that_ends_while_it_is_profiled_leaves_a_trace(monkeypatch, tmp_path):
    done = []
    monkeypatch.setattr(jax.profiler, "start_trace", lambda folder: done.append(folder))
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: done.append("stopped"))
    for steps in (STEPS, STEPS + 2, 2 * STEPS, 2 * STEPS + 1):
        trace = Profile(tmp_path)
        for number in range(1, steps + 1):
            with trace.step(number):
                pass
        trace.close()
        assert done == ([] if steps == STEPS else [str(tmp_path), "stopped"])
        done.clear()


def test_an_unfinished_checkpoint_of_others_stays(config, tmp_path):
    (tmp_path / "run" / "checkpoints" / "3.orbax-checkpoint-tmp").mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=r"run holds checkpoints, but no run; give another --workdir"):
        train(config, tmp_path / "run")
    assert sorted(tmp_path.rglob("*")) == before
