"""Convert a released PyTorch checkpoint into a work directory.

python -m cornerjax.weights --detector cornernet_squeeze --source CHECKPOINT.pkl --out runs/released
"""

import dataclasses

from cornerjax import cli


@dataclasses.dataclass(frozen=True)
class Convert:
    detector: str  # a name in cornerjax.DETECTORS
    source: str  # .pkl or .pth file; code in it does not run
    out: str  # folder to write, for cornerjax.load, eval.py, predict.py and train.py --init
    # clean, or with the defects of the original: released, or another that the detector has; that of the checkpoint's
    # layout if not given
    preset: str = ""
    class_names: tuple[str, ...] = ()  # of each class; COCO's if there are 80
    forward: str = ""  # .npz with `images` and the original's heads for them, to compare with


def main() -> None:
    args = cli.parse(Convert, description=__doc__)

    import numpy as np  # these not before the options are right: imports take seconds

    from cornerjax.weights.convert import convert

    certificate = convert(
        args.detector,
        args.source,
        args.out,
        preset=args.preset or None,
        class_names=args.class_names or None,
        forward=args.forward or None,
    )
    heads = certificate["largest_difference_of_heads"]
    largest = np.max([*heads.values()], initial=0)  # nan if one is nan, unlike max()
    compared = f"heads within {largest:.2e} of the original's" if heads else "no forward pass to compare with"
    unused = f"; not needed: {', '.join(certificate['unused'])}" if certificate["unused"] else ""
    print(
        f"{args.out}: {len(certificate['tensors'])} tensors, {certificate['parameters']:,} parameters, "
        f"all equal when read back; {compared}; "
        f"layout of {certificate['layout']}{unused}; preset {certificate['preset']}; certificate.json"
    )


if __name__ == "__main__":
    cli.run(main)
