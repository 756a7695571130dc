"""ExtremeNet as published: COCO AP 40.3 on val2017 (43.3 with several scales), from weights of CornerNet.

    python train.py --config configs/extremenet.py --init CORNERNET --init-part backbone --workdir runs/extremenet
    python eval.py --workdir runs/extremenet

198.5 million parameters, 250,000 steps of 24 images. Extreme points are made from the segmentations of
instances_train2017.json whenever the data set is opened, 0.1 ms an object, a minute and a half. CORNERNET is what
`cornerjax weights` made of the authors' CornerNet_500000.pkl; without --init, AP is about 2 points lower. The octagons
of its extreme points have a mask AP of 18.9 in the paper.
"""

from cornerjax.config import Optim
from cornerjax.detectors.extremenet import ExtremeConfig, ExtremeData


def config() -> ExtremeConfig:
    return ExtremeConfig(
        data=ExtremeData(
            root="data/coco",
            train="train2017",
            val="val2017",
            batch=24,
            gaussian_radius="legacy",
            gaussian_iou=0.7,
        ),
        optim=Optim(peak_lr=2.5e-4, schedule="step", decay_steps=(200_000,), batch_norm_groups=1),
        steps=250_000,
    )
