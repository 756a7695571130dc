"""Evaluate a run, `cornerjax eval --workdir runs/shapes`, or boxes that any program has found,
`cornerjax eval --results boxes.json --annotations instances_val.json`.

Prints COCO's twelve numbers, the false discovery rate, what each kind of error costs and the numbers of every class,
and writes a folder: metrics.json, results.json (COCO's result format, with the data set's own ids), plots, pictures and
report.html, one file to look at all of it.
"""

import dataclasses
from collections.abc import Sequence

from cornerjax.commands.cli import parse, value_of
from cornerjax.commands.process import compiled_once, quiet
from cornerjax.errors import InputError
from cornerjax.evaluation.options import Options
from cornerjax.hosts import Hosts, joined


@dataclasses.dataclass(frozen=True, kw_only=True)
class Eval(Options):
    hosts: Hosts = dataclasses.field(default_factory=Hosts)


def main(args: Sequence[str]) -> None:
    default = Eval()
    if workdir := value_of("--workdir", args, default=""):
        from cornerjax.workdir import open_workdir

        config = open_workdir(workdir).config
        default = Eval(test=config.test, compute=config.compute)
    options = parse(Eval, args, prog="cornerjax eval", description=__doc__, default=default)
    if bool(options.workdir) == bool(options.results):
        raise InputError("expected either --workdir, a run to evaluate, or --results, a file of boxes")
    if options.results:
        if options.hosts != Hosts():
            raise InputError("--hosts options are of a run; the boxes of --results are compared by one process")
        from cornerjax.evaluation.of_results import evaluate_results

        evaluate_results(options)
    else:
        with quiet(), joined(options.hosts), compiled_once():
            from cornerjax.evaluation.of_run import evaluate_run

            evaluate_run(options)
