"""CenterNet points, Hourglass-104, COCO. Here: not trained yet.

    python train.py --config configs/centernet_points_hourglass.py --data.root data/coco --workdir runs/points

Hyper-parameters of its repository: 50 epochs, learning rate / 10 after 40; 24 (4 + 4 x 5 on five GPUs) images a step
there, 24 here. 191 million parameters. There, the backbone starts from that of ExtremeNet, as here with `--init RUN
--init-part backbone`. AP there: 40.3 on val2017, 42.2 with mirrored images, 45.1 at several scales.
"""

from cornerjax.config import Data, Optim
from cornerjax.detectors.centernet_points.options import PointConfig, PointModel, PointTest
from cornerjax.nn.backbones.hourglass import Hourglass


def config() -> PointConfig:
    return PointConfig(
        model=PointModel(backbone=Hourglass()),
        data=Data(
            root="data/coco",
            train="train2017",
            val="val2017",
            batch=24,
            crop_px=(512, 512),
            gaussian_radius="legacy",
            gaussian_iou=0.7,
            render="device",
        ),
        optim=Optim(peak_lr=0.00025, decay_steps=(197_120,)),
        test=PointTest(flip=True),
        steps=246_400,
        eval_steps=49_280,
    )
