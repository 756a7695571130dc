"""What a run writes of itself: which lines a resumed one keeps, and what its images a second are."""

from types import SimpleNamespace

import jax.numpy as jnp
import pytest

from cornerjax.training.log import TrainLog


def test_a_resumed_run_writes_no_step_twice(config, tmp_path):
    lines = ['{"step": 2, "total": 1.0}', '{"step": 4, "total": 1.0}', '{"step": 6, "tot']
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    TrainLog(tmp_path, first_step=3, config=config).close()
    assert (tmp_path / "metrics.jsonl").read_text() == lines[0] + "\n"


@pytest.mark.parametrize("cut", ['{"step": 2, "to', "\0" * 40, '{"step": 2}\r', '  {"step": 2}  '])
def test_a_line_that_is_cut_loses_none_that_follows(config, tmp_path, caplog, cut):
    """By a power failure, which leaves zeros, or an editor that ends lines in another way."""
    (tmp_path / "metrics.jsonl").write_text(f'{{"step": 1}}\n{cut}\n{{"step": 3, "AP": 0.5}}\n')
    log = TrainLog(tmp_path, first_step=3, config=config)
    log.close()
    assert log.evaluated
    whole = ['{"step": 2}'] if "}" in cut else []
    assert (tmp_path / "metrics.jsonl").read_text().splitlines() == ['{"step": 1}', *whole, '{"step": 3, "AP": 0.5}']
    assert ("metrics.jsonl, line 2, is cut and left out" in caplog.text) == cut.endswith("to")


def test_what_is_no_training_counts_in_no_speed(config, tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("cornerjax.training.log.time", SimpleNamespace(perf_counter=lambda: now[0], time=lambda: 0.0))
    log = TrainLog(tmp_path, first_step=0, config=config)
    written = []
    monkeypatch.setattr(log, "_write", lambda step, values, group: written.append(values["images_per_s"]))
    for step in range(1, 5):
        with log.paused():
            now[0] += 1000
        now[0] += config.data.batch / 8
        log.step({"total": jnp.float32(1)})
        with log.paused():
            now[0] += 1000
        if step % 2 == 0:
            log.report(step, 0.1)
    log.close()
    assert written == [8.0, 8.0]
