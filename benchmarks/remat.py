"""What does recomputing save? The memory of the train step of a recipe as compiled here, with each compute.remat.

Temporary memory a device, in GB, as XLA plans it for this platform, and the FLOPs it counts; `cornerjax
plan` says the same of TPUs. CornerNet needs about a minute a line on two cores.

python benchmarks/remat.py --config configs/cornernet.py --batch 2
"""

from pathlib import Path

import tyro

from cornerjax.config import load_recipe
from cornerjax.training.mesh import data_mesh
from cornerjax.training.setup import abstract_step
from cornerjax.validation import replaced


def main(
    config: Path = Path("configs/cornernet.py"), batch: int = 2, dtypes: tuple[str, ...] = ("float32", "bfloat16")
) -> None:
    """Compile and print."""
    recipe = load_recipe(config)
    recipe = replaced(recipe, {"data.batch": batch, "model.num_classes": recipe.model.num_classes or 80})
    print(f"{config}, batch {batch}; temporary memory, and FLOPs as parts of those without", flush=True)
    for dtype in dtypes:
        first = None
        for remat in ("none", "stack", "level"):
            configured = replaced(recipe, {"compute": {"dtype": dtype, "remat": remat}})
            step, *arguments = abstract_step(configured, data_mesh())
            compiled = step.lower(*arguments).compile()
            memory, flops = compiled.memory_analysis().temp_size_in_bytes, compiled.cost_analysis()["flops"]
            first = first or (memory, flops)
            parts = f"{memory / first[0]:6.2f} {flops / first[1]:6.2f}"
            print(f"{dtype:9s} {remat:6s} {memory / 1e9:7.2f} GB {parts}", flush=True)


if __name__ == "__main__":
    tyro.cli(main)
