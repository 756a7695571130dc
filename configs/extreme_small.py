"""A narrow ExtremeNet on the generated shapes, whose exact extreme points are known: boxes and rough masks.

    python train.py --config configs/extreme_small.py --workdir runs/extreme
    python eval.py --workdir runs/extreme
    python predict.py --workdir runs/extreme --overlay extremes masks PHOTO

0.4 million parameters, 7 minutes on one core: AP 0.88, AP50 0.97 on 200 validation images. Its octagons have a mask AP
of 0.57, AP50 0.97, where those of the true points would have 0.64, and its boxes as masks 0.52.

For data of your own, whose annotations need a segmentation: --data.root PATH/TO/FOLDER.
"""

from cornerjax.config import Optim
from cornerjax.detectors.extremenet import ExtremeConfig, ExtremeData, ExtremeModel, ExtremeTest
from cornerjax.nn.backbones.hourglass import Hourglass


def config() -> ExtremeConfig:
    return ExtremeConfig(
        model=ExtremeModel(
            backbone=Hourglass(
                stacks=1,
                stem_dim=16,
                stem_kernel=3,
                dims=(32, 32, 48, 64),
                blocks=(1, 1, 1, 1),
                dim=32,
            ),
            head_kernel=1,
        ),
        data=ExtremeData(
            root="shapes:0",
            batch=8,
            crop_px=(127, 127),
            random_crop=False,
            colour_jitter=0.3,
            lighting=0.0,
            max_objects=8,
            gaussian_radius="legacy",
            gaussian_iou=0.7,
        ),
        optim=Optim(peak_lr=3e-3, schedule="cosine", warmup_steps=400),
        test=ExtremeTest(batch=40, top_k=20, quadruples=100),
        steps=3000,
        log_steps=100,
        save_steps=500,
        eval_steps=1000,
    )
