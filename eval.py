"""Evaluate a run, `python eval.py --workdir runs/shapes`, or boxes that any program has found,
`python eval.py --results boxes.json --annotations instances_val.json`.

Prints COCO's twelve numbers, the false discovery rate, what each kind of error costs and the numbers of every class,
and writes a folder: metrics.json, results.json (COCO's result format, with the data set's own ids), plots, pictures and
report.html, one file to look at all of it.
"""

import dataclasses
import sys

import tyro

from cornerjax import cli
from cornerjax.errors import InputError
from cornerjax.evaluation.options import Options
from cornerjax.hosts import Hosts, joined


@dataclasses.dataclass(frozen=True, kw_only=True)
class Eval(Options):
    hosts: Hosts = dataclasses.field(default_factory=Hosts)


def main() -> None:
    # The run gives the defaults of the test options, so it has to be known first.
    given, _ = tyro.cli(Eval, args=[a for a in sys.argv[1:] if a not in ("-h", "--help")], return_unknown_args=True)
    default = Eval()
    if given.workdir:
        from cornerjax.workdir import open_workdir

        default = Eval(test=open_workdir(given.workdir).config.test)
    args = cli.parse(Eval, description=__doc__, default=default)
    if bool(args.workdir) == bool(args.results):
        raise InputError("expected either --workdir, a run to evaluate, or --results, a file of boxes")
    if args.results:
        from cornerjax.evaluation.of_results import evaluate_results  # not before the options are right: it takes long

        evaluate_results(args)
    else:
        with joined(args.hosts):
            from cornerjax.evaluation.of_run import evaluate_run

            evaluate_run(args)


if __name__ == "__main__":
    cli.run(main)
