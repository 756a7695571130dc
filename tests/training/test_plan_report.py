"""What a plan makes of a compiled step; tests/aot/test_plan.py compiles one."""

import os
from pathlib import Path

import jax
import pytest

from cornerjax.commands.plan import main
from cornerjax.config import load_recipe
from cornerjax.errors import InputError
from cornerjax.training import chips, gpus, plan
from cornerjax.training.hlo import Collective
from cornerjax.training.plan import Step, _said, group
from cornerjax.training.plan_report import remedies, report, talk_s
from cornerjax.training.topology import mesh_of, parse_topology
from cornerjax.validation import replaced

MB = 10**6
V5E = parse_topology("v5e:4x4")
H100 = parse_topology("h100:8")


def total(*shapes, origin="transpose(jvp())/add", devices=16):
    sizes = [4 * shape[0] * (shape[1] if len(shape) > 1 else 1) for shape in shapes]
    return Collective("all-reduce", shapes, sum(sizes), devices, 1, origin)


def step(**changes):
    norms, gradients = [total((25_000,), origin="jvp(batch_norm)/sum")] * 10, [total((5000, 5000))]
    groups = {"BatchNorm": norms, "gradients": gradients, "the rest": []}
    made = Step(
        state=2400 * MB,
        batch=3 * MB,
        temporary=7500 * MB,
        output=0,
        program=700 * MB,
        flops=197e12 / 20,
        hbm=819e9 / 10,
        accessed=2e11,
        groups=groups,
        unknown_loops=(),
        counted=False,
        seconds=60.0,
    )
    return made._replace(**changes)


@pytest.fixture(autouse=True)
def default_share(monkeypatch):
    """Of a GPU's memory, whatever the environment of the tests says."""
    for name in ("XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION"):
        monkeypatch.delenv(name, raising=False)


def test_a_slice_has_rings_where_its_axes_are_long_enough():
    assert V5E.size == 16
    assert V5E.sent_bytes_s == 100e9  # one direction of two open axes
    assert V5E.latency_s == pytest.approx(6e-6)
    pod = parse_topology("v5e:16x16")
    assert pod.sent_bytes_s == 200e9
    assert pod.latency_s == pytest.approx(16e-6)
    assert parse_topology("v5p:4x4x4").sent_bytes_s == 600e9


@pytest.mark.parametrize("name", ["v5e", "v5e:16", "v9:2x2", "v5e:2x2x2x2", "h100", "h100:0", "h100:2x4", "b200:8"])
def test_a_name_of_nothing_is_one_sentence(name):
    with pytest.raises(
        InputError, match=f"^no topology {name!r}; accepted are names such as v4:2x2x4.* h100:8, h200:8$"
    ):
        parse_topology(name)


def test_gpus_of_two_nodes_are_refused():
    with pytest.raises(InputError, match=r"^topology h100:16 is more than one node; accepted are h100:1 to h100:8$"):
        parse_topology("h100:16")


def test_an_all_reduce_costs_its_bytes_and_its_hops():
    one = total((25_000_000,))  # 100 MB
    assert talk_s([one], V5E, V5E) == pytest.approx(2 * 15 / 16 * 100e6 / 100e9 + 6e-6)
    assert talk_s([one], V5E, parse_topology("v5e:16x16")) == pytest.approx(2 * 255 / 256 * 100e6 / 200e9 + 16e-6)
    assert talk_s([one._replace(times=3)], V5E, V5E) == pytest.approx(3 * talk_s([one], V5E, V5E))


def test_over_nvlink_an_all_reduce_costs_its_bytes_and_its_start():
    one = total((25_000_000,), devices=8)  # 100 MB
    assert talk_s([one], H100, H100) == pytest.approx(2 * 7 / 8 * 100e6 / 450e9 + 10e-6)
    assert talk_s([one], H100, parse_topology("h100:2")) == pytest.approx(100e6 / 450e9 + 10e-6)
    assert talk_s([one], H100, parse_topology("h100:1")) == 0


def test_sums_are_sorted_by_what_is_added_up():
    shapes = {(3, 3, 8, 16), (16,)}
    kernels = total((16,), (3, 48), origin="transpose(jvp())/reduce_sum")._replace(shapes=((16,), (3, 3, 8, 16)))
    sums = {
        "BatchNorm": [total((16,), origin="jvp(batch_norm)/sum"), total((1, 16))],
        "gradients": [kernels],
        "the rest": [total((16,), origin="jvp()/sum"), total((8, 8))],
    }
    assert group([one for found in sums.values() for one in found], shapes) == sums


def test_a_long_vector_is_joined_gradients():
    joined, short = total((3 * 3 * 8 * 16 + 16,)), total((16 + 16,))
    assert group([joined, short], {(3, 3, 8, 16), (16,)}) == {
        "BatchNorm": [short],
        "gradients": [joined],
        "the rest": [],
    }


def test_the_floors_are_work_over_speed_and_the_largest_one_gives_the_rate():
    config = load_recipe("configs/cornernet.py")
    lines = list(report(step(), config, V5E))
    assert any("compute" in line and " 50.000 ms" in line for line in lines)
    assert any("HBM  " in line and " 100.000 ms" in line for line in lines)
    assert any("at most 480 images/s, 30.0 a chip, by HBM" in line for line in lines)
    assert any("in all" in line and "10.606 GB of 17.2 GB, 62%: fits" in line for line in lines)
    assert any("BatchNorm" in line and "10 operations" in line and "1.000 MB" in line for line in lines)
    rows = [line.split() for line in "\n".join(lines).splitlines() if line.strip().startswith(("8 ", "256 "))]
    assert [row[:3] for row in rows] == [["8", "2x4", "24"], ["256", "16x16", "768"]]
    assert rows[0][-1] == "100.0%"
    assert float(rows[1][-2]) == pytest.approx(768 / float(rows[1][-3]) * 1e3, rel=1e-3)


@pytest.mark.parametrize(
    ("name", "compute", "floor"),
    [
        ("h100:8", {}, f"{9850 / 494:.3f} ms at 494 TFLOP/s in TF32"),
        ("h100:8", {"precision": "highest"}, f"{9850 / 67:.3f} ms at 67 TFLOP/s in float32"),
        ("h200:8", {"dtype": "bfloat16", "precision": "highest"}, f"{9850 / 989:.3f} ms at 989 TFLOP/s in bfloat16"),
        ("a100:8", {}, f"{9850 / 156:.3f} ms at 156 TFLOP/s in TF32"),
        ("a100:8", {"dtype": "bfloat16"}, f"{9850 / 312:.3f} ms at 312 TFLOP/s in bfloat16"),
    ],
)
def test_the_floor_of_gpus_is_that_of_the_type_they_multiply(name, compute, floor):
    config = replaced(load_recipe("configs/cornernet.py"), {"compute": compute})
    lines = list(report(step(accessed=None), config, parse_topology(name)))
    assert any("compute" in line and floor in line for line in lines)


def test_a_plan_for_gpus_has_nodes_of_one_to_eight():
    lines = list(report(step(hbm=335e9, accessed=None), load_recipe("configs/cornernet.py"), H100))
    assert any(line.startswith("  HBM ") and line.endswith("100.000 ms at 3350 GB/s") for line in lines)
    assert any("in all" in line and "10.606 GB of 60.0 GB, 18%: fits" in line for line in lines)
    assert any("at most 480 images/s, 60.0 a GPU, by HBM" in line for line in lines)
    rows = [line.split() for line in lines if line.strip().startswith(("1 ", "2 ", "4 ", "8 "))]
    assert [row[:3] for row in rows] == [["1", "1", "6"], ["2", "2", "12"], ["4", "4", "24"], ["8", "8", "48"]]
    assert not any("chip" in line for line in lines)


@pytest.mark.parametrize("name", ["XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION"])
def test_of_a_gpu_jax_takes_the_share_that_the_environment_says(name, monkeypatch):
    assert parse_topology("h100:1").chip.usable_bytes == 60e9
    monkeypatch.setenv(name, "0.9")
    assert parse_topology("h100:1").chip.usable_bytes == 72e9
    assert parse_topology("v5e:1x1").chip.usable_bytes == 16 * 2**30
    monkeypatch.setenv(name, "1.5")
    with pytest.raises(InputError, match=rf"^{name} is '1\.5'; accepted is a number above 0 and up to 1$"):
        gpus.memory_fraction()


def test_a_step_that_fits_without_the_batch_that_waits_does_not_fit(monkeypatch):
    monkeypatch.setattr(gpus, "PLUGINS", ("no_such_plugin",))
    monkeypatch.setattr(plan, "count_step", lambda config, topology: step(counted=True, batch=25_000 * MB))
    with pytest.raises(plan.TooLargeError, match=r"^By count it needs 60\.6 GB\.$"):
        plan.step_of(load_recipe("configs/cornernet.py"), H100)


def test_no_library_of_the_current_folder_is_run(tmp_path, monkeypatch):
    def described(**_):
        raise RuntimeError("nothing is compiled here")

    (tmp_path / ".libtpu" / "libtpu").mkdir(parents=True)
    (tmp_path / ".libtpu" / "libtpu" / "libtpu.so").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(chips, "find_spec", lambda name: None)
    monkeypatch.setattr(chips.topologies, "get_topology_desc", described)
    for name in chips.LIBTPU:
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("TPU_LIBRARY_PATH", "")
    with pytest.raises(InputError, match=r"^no /.*libtpu\.so to compile for TPUs|^topology v5e:4x4 cannot be"):
        mesh_of(V5E)
    assert os.environ["TPU_LIBRARY_PATH"] in ("", str(Path(__file__).parents[2] / ".libtpu/libtpu/libtpu.so"))


def test_a_rate_from_counted_bytes_is_no_bound():
    by_bytes, by_flops = step(hbm=335e9, counted=True), step(hbm=0, counted=True)
    config = load_recipe("configs/cornernet.py")
    assert any(line.startswith("  about 480 images/s") for line in report(by_bytes, config, H100))
    assert any(line.startswith("  at most ") for line in report(by_flops, config, H100))


def test_without_the_plugin_a_plan_for_gpus_is_counted(monkeypatch, capsys):
    monkeypatch.setattr(gpus, "PLUGINS", ("no_such_plugin",))
    monkeypatch.setattr(plan, "count_step", lambda config, topology: step(counted=True))
    main(["--config", "configs/cornernet.py", "--topology", "a100:1", "--data.batch", "8"])
    printed = capsys.readouterr().out
    assert "configs/cornernet.py on a100:1: 1 GPU, batch 8, 80 classes" in printed
    assert "counted in 0 s" in printed
    assert "Memory of a GPU, by count" in printed
    assert "7.500 GB; an estimate" in printed
    assert "Scaling" not in printed


def test_what_is_counted_and_does_not_fit_is_said_in_words_and_exits_with_1(monkeypatch, capsys):
    monkeypatch.setattr(gpus, "PLUGINS", ("no_such_plugin",))
    monkeypatch.setattr(plan, "count_step", lambda config, topology: step(counted=True, temporary=90_000 * MB))
    with pytest.raises(SystemExit) as exited:
        main(["--config", "configs/cornernet.py", "--topology", "h100:4", "--data.batch", "8"])
    assert exited.value.code == 1
    printed = capsys.readouterr().out
    assert "Does not fit into the 60.0 GB that JAX takes of a GPU's 80.0 GB. By count it needs 93.1 GB.\n" in printed
    assert (
        "  more GPUs, up to 8, or --data.batch 4: fewer images a GPU, now 2\n  GPUs with more memory: h200" in printed
    )


def test_a_loop_of_unknown_length_is_told():
    lines = "\n".join(report(step(unknown_loops=("while.7",)), load_recipe("configs/cornernet.py"), V5E))
    assert "loop while.7: how often it runs is not known" in lines


def test_what_helps_leaves_out_what_is_set_already():
    config = load_recipe("configs/cornernet.py")
    assert [line.split(":")[0] for line in remedies(config, V5E)] == [
        "--compute.dtype bfloat16",
        "--compute.remat stack",
        "--optim.accumulate 3",
        "a slice of more chips, or --data.batch 16",
        "chips with more memory",
    ]
    set_already = {"compute.dtype": "bfloat16", "compute.remat": "stack", "data.batch": 16, "data.render": "host"}
    small = replaced(config, set_already)
    assert [line.split(":")[0] for line in remedies(small, parse_topology("v5p:2x2x4"))] == ["--data.render device"]


def test_what_does_not_fit_is_said_in_words_and_exits_with_1(monkeypatch, capsys):
    class Huge:
        def trace(self, state, batch):
            return self

        def lower(self):
            return self

        def compile(self):
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Ran out. Used 21.12G of 15.75G hbm. Exceeded.")

    monkeypatch.setattr(plan, "abstract_step", lambda config, mesh: (Huge(), None, None))
    monkeypatch.setattr(plan, "mesh_of", lambda topology: None)
    with pytest.raises(SystemExit) as exited:
        main(["--config", "configs/cornernet.py", "--data.batch", "64"])
    assert exited.value.code == 1
    printed = capsys.readouterr().out
    assert "configs/cornernet.py on v5e:4x4: 16 chips, batch 64, 80 classes, as COCO has" in printed
    assert "Does not fit into the 17.2 GB of a chip. XLA: Used 21.12G of 15.75G hbm. Exceeded.\nWhat helps:" in printed
    assert "--optim.accumulate 4: one image at a time" in printed


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries (96.00G) "
            "exceeds available HBM (15.75G).",
            "the total memory required for HLO temporaries (96.00G) exceeds available HBM (15.75G).",
        ),
        (
            "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory space hbm. "
            "Used 21.12G of 15.75G hbm. Exceeded hbm capacity by 5.37G.\n\nTotal hbm usage >= 21.37G:\n",
            "Used 21.12G of 15.75G hbm. Exceeded hbm capacity by 5.37G.",
        ),
        ("RESOURCE_EXHAUSTED: something new\nmore", "RESOURCE_EXHAUSTED: something new"),
    ],
)
def test_of_what_xla_says_the_amounts_are_passed_on(error, said):
    assert _said(error) == said
