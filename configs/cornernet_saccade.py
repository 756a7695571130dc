"""CornerNet-Saccade, Hourglass-54, COCO. Paper: 43.2 AP on test-dev. Here: not trained yet.

    python train.py --config configs/cornernet_saccade.py --data.root data/coco --workdir runs/saccade

Hyper-parameters of the paper and its repository; the global batch of 48 is theirs, 12 images on each of four GPUs.
`group` 12: pull and push are summed over the images of one GPU there. `attention` 1/3: the attention loss is divided by
the number of stacks twice there. 117 million parameters.
"""

from cornerjax.config import Optim
from cornerjax.detectors.cornernet_saccade.options import SaccadeConfig, SaccadeData, SaccadeLoss


def config() -> SaccadeConfig:
    return SaccadeConfig(
        data=SaccadeData(
            root="data/coco",
            train="train2017",
            val="val2017",
            batch=48,
            crop_scales=(0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1),  # of images without objects
            gaussian_iou=0.5,
            render="device",
        ),
        loss=SaccadeLoss(group=12.0, attention=1 / 3),
        optim=Optim(peak_lr=2.5e-4, decay_steps=(450_000,)),
        steps=500_000,
        eval_steps=50_000,
    )
