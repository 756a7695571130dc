"""A narrow CornerNet-Saccade on generated scenes: 511x511 px, most objects smaller than 32 px.

python train.py --config configs/saccade_small.py --workdir runs/saccade_small
"""

from cornerjax.config import Optim
from cornerjax.detectors.cornernet import CornerModel
from cornerjax.detectors.cornernet_saccade.options import (
    Saccade,
    SaccadeConfig,
    SaccadeData,
    SaccadeLoss,
    SaccadeTest,
)
from cornerjax.nn.backbones.hourglass import Hourglass


def config() -> SaccadeConfig:
    return SaccadeConfig(
        model=CornerModel(
            detector="cornernet_saccade",
            backbone=Hourglass(
                stacks=1,
                stem_dim=16,
                stem_kernel=3,
                dims=(32, 32, 48, 64),
                blocks=(1, 1, 1, 1),
                dim=32,
            ),
            head_kernel=1,
            pool_dim=32,
        ),
        data=SaccadeData(
            root="scenes:0",
            batch=8,
            crop_px=(255, 255),
            crop_scales=(0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1),
            colour_jitter=0.3,
            lighting=0.0,
            gaussian_iou=0.5,
            max_objects=16,
        ),
        loss=SaccadeLoss(pull=0.25, push=0.25, group=8.0),
        optim=Optim(peak_lr=3e-3, schedule="cosine", warmup_steps=200),
        test=SaccadeTest(
            batch=8,
            top_k=12,
            max_pairs=12,
            no_border=True,
            nms_sigma=0.7,
            saccade=Saccade(max_crops=12, crop_batch=8),
        ),
        steps=1600,
        log_steps=50,
        save_steps=500,
    )
