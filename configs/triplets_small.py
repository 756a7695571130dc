"""A narrow CenterNet with triplets for small data sets of your own: cornernet_small.py with a centre keypoint.

python train.py --config configs/triplets_small.py --data.root PATH/TO/FOLDER --workdir runs/mine
python eval.py --workdir runs/mine
"""

from cornerjax.config import Data, Optim
from cornerjax.detectors.centernet_triplets import TripletConfig, TripletModel, TripletTest
from cornerjax.detectors.cornernet import CornerLoss
from cornerjax.nn.backbones.hourglass import Hourglass


def config() -> TripletConfig:
    return TripletConfig(
        model=TripletModel(
            backbone=Hourglass(
                stacks=1,
                stem_dim=16,
                stem_kernel=3,
                dims=(32, 32, 48, 64, 96),
                blocks=(1, 1, 1, 1, 2),
                dim=32,
            ),
            head_kernel=1,
            pool_dim=16,
        ),
        data=Data(
            root="data/mine",
            batch=8,
            crop_px=(255, 255),
            crop_scales=(1.6, 1.8, 2.0, 2.2, 2.4),
            max_objects=64,
        ),
        loss=CornerLoss(pull=0.25, push=0.25, group=8.0),
        optim=Optim(peak_lr=2e-3, schedule="cosine", warmup_steps=200),
        test=TripletTest(batch=8, scales=(0.5,), top_k=50, max_pairs=200, tag_distance=0.7),
        steps=2000,
        log_steps=50,
        save_steps=500,
        eval_steps=1000,
    )
