"""Checkpoints of PyTorch that take no code to be hostile: a few bytes that are endless values, or gigabytes."""

import collections
import io
import os
import pickle
import tracemalloc
import zipfile

import pytest

from cornerjax.errors import InputError
from cornerjax.weights import pickles
from cornerjax.weights.read import read_tensors

torch = pytest.importorskip("torch")


def older_format(content: bytes) -> bytes:
    """A pickle as torch.save wrote it before there were zips."""
    sizes = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    head = [pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, sizes)]
    return b"".join(head) + content + pickle.dumps([], 2)


def look_at(path):
    with path.open("rb") as file:
        pickles.refuse_bombs(file, path)


def nested(levels: int) -> bytes:
    """A dict with one key: a tuple of twice the same tuple, and so on; its values are 2^levels."""
    memo = [b"h" + bytes([1 + i % 200]) for i in range(levels + 1)]
    put = [b"q" + one[1:] + b"0" for one in memo]
    tuples = b"".join(2 * memo[i] + b"\x86" + put[i + 1] for i in range(levels))
    return b"\x80\x02X\x01\x00\x00\x00a\x85" + put[0] + tuples + b"}" + memo[levels] + b"K\x01s."


def zipped(**entries: bytes) -> bytes:
    """A zip of these entries, whose names have a stroke for an underscore."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name.replace("_", "/").replace("DOT", "."), content)
    return file.getvalue()


@pytest.mark.parametrize("levels", [26, 45, 3000])
def test_values_without_end(tmp_path, levels):
    (tmp_path / "x.pkl").write_bytes(older_format(nested(levels)))
    with pytest.raises(InputError, match=r"x\.pkl is refused: its values are nested without end"):
        read_tensors(tmp_path / "x.pkl")


@pytest.mark.parametrize("step", [b"N", b"\x94", b"K\x010"])
def test_steps_without_end_that_put_nothing_into_anything(tmp_path, monkeypatch, step):
    monkeypatch.setattr(pickles, "MOST_VALUES", 2**10)  # the checks of types in tests make all of them last 30 s
    (tmp_path / "x.pkl").write_bytes(older_format(b"\x80\x04K\x01" + step * 2**11 + b"."))
    with pytest.raises(InputError, match=r"x\.pkl is refused: its values are nested without end"):
        look_at(tmp_path / "x.pkl")


def test_the_pickle_that_is_looked_at_is_the_one_that_is_read(tmp_path):
    harmless = pickle.dumps({"a": 1})
    for content in (
        older_format(nested(26)) + zipped(a_dataDOTpkl=harmless),
        zipped(a_b_dataDOTpkl=harmless, a_dataDOTpkl=nested(26)),
        zipped(b_dataDOTpkl=harmless, a_dataDOTpkl=nested(26)),
    ):
        (tmp_path / "x.pth").write_bytes(content)
        with pytest.raises(InputError, match=r"x\.pth is refused"):
            read_tensors(tmp_path / "x.pth")


CALLS = [
    b"cbuiltins\nbytearray\nJ\x00\x00\x00\x30\x85R",
    b"ctorch\nTensor\nJ\x00\x00\x00\x10\x85R",
    b"ctorch\nFloatStorage\nJ\x00\x00\x00\x10\x85R",
    b"c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00hex\x86R",
    b"cos\nsystem\nX\x02\x00\x00\x00ls\x85R",
]


@pytest.mark.parametrize("call", CALLS)
def test_what_allocates_or_runs_is_not_called(tmp_path, call):
    content = b"\x80\x02}X\x01\x00\x00\x00a" + call + b"s."
    for file in (older_format(content), zipped(archive_dataDOTpkl=content)):
        (tmp_path / "x.pth").write_bytes(file)
        with pytest.raises(InputError, match=r"x\.pth is refused: it is no checkpoint of PyTorch"):
            look_at(tmp_path / "x.pth")


def test_keys_are_no_tuples(tmp_path):
    content = b"\x80\x02}(X\x01\x00\x00\x00aq\x00\x85K\x01h\x00K\x02u."
    (tmp_path / "x.pth").write_bytes(older_format(content))
    with pytest.raises(InputError, match=r"x\.pth is refused: it is no checkpoint of PyTorch"):
        look_at(tmp_path / "x.pth")


def test_compressed_zips_are_not_torchs(tmp_path):
    torch.save({"a": torch.zeros(1_000_000)}, tmp_path / "x.pth")
    with (
        zipfile.ZipFile(tmp_path / "x.pth") as sound,
        zipfile.ZipFile(tmp_path / "y.pth", "w", zipfile.ZIP_DEFLATED) as small,
    ):
        for name in sound.namelist():
            small.writestr(name, sound.read(name))
    with pytest.raises(InputError, match=r"y\.pth is refused"):
        read_tensors(tmp_path / "y.pth")


@pytest.mark.parametrize("older", [True, False])
def test_what_torch_writes_is_no_bomb(tmp_path, older):
    network = torch.nn.Sequential(*(torch.nn.Conv2d(2, 2, 1) for _ in range(300)))
    torch.save(network.state_dict(), tmp_path / "x.pth", _use_new_zipfile_serialization=not older)
    look_at(tmp_path / "x.pth")
    assert len(read_tensors(tmp_path / "x.pth").values) == 600


def test_one_storage_seen_many_times(tmp_path):
    stored = torch.zeros(1_000_000)
    torch.save({f"key {i}": stored[:] for i in range(300)}, tmp_path / "x.pth")
    tracemalloc.start()
    with pytest.raises(InputError, match="key 2 repeats what other tensors store; expected tensors of their own"):
        read_tensors(tmp_path / "x.pth")
    assert tracemalloc.get_traced_memory()[1] < 100e6
    tracemalloc.stop()
    torch.save({"a": stored, "b": stored}, tmp_path / "tied.pth")
    assert len(read_tensors(tmp_path / "tied.pth").values) == 2


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros([1] * 70),
        torch.zeros(0, 2**62),
        torch.zeros(1).expand(2**40),
        torch.zeros(2, 2).to_sparse(),
    ],
)
def test_tensors_of_no_network(tmp_path, tensor):
    torch.save({"a": tensor}, tmp_path / "x.pth")
    with pytest.raises(InputError, match="a is a tensor of float32 that is not stored number by number"):
        read_tensors(tmp_path / "x.pth")


def test_attributes_in_the_place_of_methods(tmp_path):
    content = collections.OrderedDict(a=torch.ones(3))
    vars(content).update(get=1, keys=2, values=3)
    torch.save(content, tmp_path / "x.pth")
    assert list(read_tensors(tmp_path / "x.pth").values) == ["a"]


@pytest.mark.parametrize("content", [b"", os.urandom(1000), b"PK\x03\x04", pickle.dumps({"a": 1}), older_format(b"(")])
def test_what_is_no_checkpoint(tmp_path, content):
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(InputError, match="expected a dict of tensors"):
        read_tensors(tmp_path / "x.pth")
