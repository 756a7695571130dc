"""The released networks on this device: their maps and boxes against those recorded from the original programs."""

import dataclasses
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from on_accelerator.bench import GOLDEN, ROOT, Bench, Row

from cornerjax.detectors import get_detector
from cornerjax.detectors.base import make_network
from cornerjax.legacy import switched

sys.path.append(str(ROOT / "tests" / "detectors"))
import recorded

TIMES_NOISE = 10  # the errors of the original in float32, that ours may have at precision "highest"
NEAR_CELLS, NEAR_SCORE = 0.5, 2e-3  # where a box counts as found


class Case(NamedTuple):
    """A line of the table."""

    network: str  # as the recordings call it
    precision: str
    dtype: str = "float32"

    @property
    def detector(self) -> str:
        return next(name for name, recordings in recorded.RECORDINGS.items() if self.network in recordings)

    @property
    def layout(self) -> int:
        return recorded.RECORDINGS[self.detector].index(self.network)


def cases(small: bool) -> Iterator[Case]:
    points = [f"CenterNetZ_{backbone}" for backbone in ("res_18", "resdcn_18", "dla_34", "hourglass")]
    for network in points[:1] if small else ("CornerNet_Squeeze", *points):
        for precision in ("highest", "default"):
            yield Case(network, precision)
    if not small:
        for network in ("CornerNet_Squeeze", points[0]):
            yield Case(network, "default", "bfloat16")


def measure(bench: Bench) -> None:
    every = list(cases(bench.small))
    programs = bench.together({case: partial(compiled, case) for case in every})
    for case in every:
        bench.add(case._asdict(), lambda case=case: compared(case, programs[case]()))


def compiled(case: Case) -> tuple[jax.stages.Compiled, Any]:
    """(program, its arguments): the network, testing, and the decoding of its maps."""
    compute = {"precision": case.precision, "dtype": case.dtype}
    config = recorded.published(case.detector, case.layout, compute=compute)
    config = dataclasses.replace(config, legacy=switched(config.legacy, True))
    detector = get_detector(case.detector)
    apply, _, _ = make_network(detector, config, None)

    def forward(params: Any, model_state: Any, images: Any) -> Any:
        outputs, _ = apply(params, model_state, images, train=False)
        return outputs, detector.decode(outputs, config)

    maps = np.load(GOLDEN / "models" / f"{case.network}_eval.npz")
    given = (*recorded.weights(case.detector, case.layout), recorded.image(maps))
    return jax.jit(forward).lower(*given).compile(), given


def compared(case: Case, program: tuple[jax.stages.Compiled, Any]) -> Row:
    run, given = program
    outputs, found = jax.device_get(run(*given))
    errors, noise = errors_of(case, outputs)
    times = max(errors[key] / noise[key] for key in errors)
    heat = max(error for key, error in errors.items() if "heat" in key or key.split(".")[0] == "hm")
    return {
        "heat error": heat,
        "error": max(errors.values()),
        "times noise": times,
        "boxes": share_found(case, found),
        "ok": times <= TIMES_NOISE if case.precision == "highest" else None,
    }


def errors_of(case: Case, outputs: Any) -> tuple[dict[str, float], dict[str, float]]:
    """Of every recorded map the largest error, and the largest of the original in float32."""
    maps = np.load(GOLDEN / "models" / f"{case.network}_eval.npz")
    ours = recorded.by_torch_name(case.detector, outputs, layout=case.layout)
    errors = {}
    for key in (key for key in ours if key in maps):
        channels = slice(None, None, int(maps["chan_stride"]) if f"{key}__chanmean" in maps else None)
        theirs = recorded.nhwc(maps[key])
        errors[key] = float(np.abs(np.asarray(ours[key], np.float32)[..., channels] - theirs).max())
    return errors, recorded.NOISE[f"{case.network}_eval"]


def share_found(case: Case, found: Any) -> float:
    """Of the recorded boxes, which are decoded from the original's maps."""
    kept = GOLDEN / "decode" / f"{case.network}_test_dets.npz"
    file = kept if kept.exists() else GOLDEN / "models" / f"{case.network}_eval.npz"
    theirs = np.load(file)["test_dets"][0]
    theirs = theirs[theirs[:, 4] > -1]
    same = found.classes[0][:, None] == theirs[:, -1]
    same &= np.abs(found.boxes[0][:, None] - theirs[:, :4]).max(-1) < NEAR_CELLS
    same &= np.abs(found.scores[0][:, None] - theirs[:, 4]) < NEAR_SCORE
    return float(same.any(0).mean())
