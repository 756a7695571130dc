"""CenterNet-52 (triplets), Hourglass-52, COCO. Here: not trained yet.

    python train.py --config configs/centernet_triplets_52.py --data.root data/coco --workdir runs/centernet_triplets_52

Paper: 41.6 AP on test-dev at one scale, 43.5 at several, with mirrored images. Hyper-parameters of the paper and its
repository: 48 images on eight GPUs, 480,000 steps. 105 million parameters. `group` 6: pull and push are summed over the
images of one GPU there.
"""

from cornerjax.config import Data, Optim
from cornerjax.detectors.centernet_triplets import CenterNetTriplets, TripletConfig, TripletModel
from cornerjax.detectors.cornernet import CornerLoss
from cornerjax.nn.backbones.hourglass import Hourglass


def config() -> TripletConfig:
    return TripletConfig(
        model=TripletModel(backbone=Hourglass(stacks=1)),
        data=Data(
            root="data/coco",
            train="train2017",
            val="val2017",
            batch=48,
            gaussian_radius="legacy",
            gaussian_iou=0.7,
            render="device",
        ),
        loss=CornerLoss(group=6.0),
        optim=Optim(peak_lr=2.5e-4, decay_steps=(450_000,)),
        test=CenterNetTriplets.defaults.test,
        steps=480_000,
        eval_steps=48_000,
    )
