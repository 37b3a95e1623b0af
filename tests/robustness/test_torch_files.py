"""PyTorch files of strangers: damage, bombs and odd contents end in one sentence; nothing of them runs."""

import io
import pickle
import zipfile

import pytest

from openseg_jax import converters
from tests import commands
from tests.robustness import FUZZ, attempt, generator

torch = pytest.importorskip("torch")

WEIGHTS = {"conv.weight": torch.arange(60.0).reshape(3, 20), "bn.num_batches_tracked": torch.tensor(3)}


def saved(content, zipped=True) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


def mutated(content: bytes, rng) -> bytes:
    kind, place = rng.choice(["flip", "cut", "insert", "swap", "zero"]), int(rng.integers(len(content)))
    changed = bytearray(content)
    if kind == "flip":
        changed[place] ^= 1 << int(rng.integers(8))
    elif kind == "cut":
        del changed[place:]
    elif kind == "insert":
        changed[place:place] = rng.bytes(int(rng.integers(1, 9)))
    elif kind == "swap":
        other = int(rng.integers(len(content)))
        changed[place : place + 8], changed[other : other + 8] = changed[other : other + 8], changed[place : place + 8]
    else:
        changed[place : place + 4] = b"\xff\xff\xff\x7f"
    return bytes(changed)


@pytest.mark.parametrize("zipped", [True, False])
def test_damaged_files(tmp_path, zipped):
    """A zip is read as it was or refused; an older file, which has no checksums, ends in no other error."""
    rng, path, right, count = generator(0), tmp_path / "net.pth", 0, 250 * FUZZ
    content = saved({"state_dict": WEIGHTS, "epoch": 3, "config_dict": {"network": {"backbone": "x"}}}, zipped)
    for _ in range(count):
        path.write_bytes(mutated(content, rng))
        found, why = attempt(converters.read_checkpoint, path)
        assert bool(found) != bool(why)
        if zipped and found:
            assert found[0].keys() == WEIGHTS.keys()
            assert all(torch.equal(found[0][key], WEIGHTS[key]) for key in WEIGHTS)
            right += 1
    print(f"{count} inputs: {right} right" if zipped else f"{count} inputs without checksums")


def archive(data: bytes) -> bytes:
    """A zip as PyTorch writes it, around a pickle."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in (("data.pkl", data), ("version", b"3"), ("byteorder", b"little")):
            file.writestr(f"archive/{name}", content)
    return buffer.getvalue()


class Call:
    """Pickles as a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def bombs():
    huge = b"\x80\x02r\xff\xff\xff\x7f."  # LONG_BINPUT 2^31: a table of as many places
    yield "memo", huge
    yield "bytearray", pickle.dumps(Call(bytearray, 2**31), 2)
    yield "bytearray8", b"\x80\x05\x96" + (2**31).to_bytes(8, "little") + b"."
    yield "string", b"\x80\x04\x8d" + (2**40).to_bytes(8, "little") + b"x."
    yield "deep", b"\x80\x02" + b"]" * 50_000 + b"a" * 49_999 + b"."
    storage = pickle.dumps(("storage", 0, "0", "cpu", 2**31), 2)
    yield "storage", storage[:-1] + b"Q."


@pytest.mark.parametrize(("name", "data"), bombs(), ids=lambda x: x if isinstance(x, str) else "")
@pytest.mark.parametrize("zipped", [True, False])
def test_a_small_pickle_gets_no_memory(tmp_path, name, data, zipped):
    path = tmp_path / "net.pth"
    start = saved({}, False)
    path.write_bytes(archive(data) if zipped else start[: start.index(b"\x80\x02}q\x00.")] + data)
    assert attempt(converters.read_checkpoint, path)[1]


def test_zip_bombs(tmp_path):
    path = tmp_path / "net.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", pickle.dumps({}, 2))
        file.writestr("archive/data/0", bytes(50_000_000))
    assert "is not what its checksum says" in attempt(converters.read_checkpoint, path)[1]


def test_odd_tensors(tmp_path):
    odd = {
        "sparse": torch.eye(3).to_sparse(),
        "meta": torch.empty(3, device="meta"),
        "repeats": torch.zeros(1).expand(2**20),
        "complex": torch.zeros(3, dtype=torch.complex64),
    }
    for name, tensor in odd.items():
        torch.save({"state_dict": {"w": tensor}}, tmp_path / "net.pth")
        assert "net.pth" in attempt(converters.read_checkpoint, tmp_path / "net.pth")[1], name


def test_state_dicts_under_other_names_are_found_and_several_are_named(tmp_path):
    path, other = tmp_path / "net.pth", {"w": torch.ones(2)}
    torch.save({"net": WEIGHTS, "epoch": 7, "optimizer": {"state": {}}}, path)
    assert converters.read_state_dict(path).keys() == WEIGHTS.keys()
    torch.save({"net": WEIGHTS, "ema": other}, path)
    assert "several state dicts, net, ema: name one with --entry" in attempt(converters.read_state_dict, path)[1]
    assert converters.read_checkpoint(path, "ema")[0].keys() == other.keys()
    assert "has no state dict 'x'; it has net, ema" in attempt(converters.read_checkpoint, path, "x")[1]


def test_odd_state_dicts_are_none_of_our_models(tmp_path, capsys):
    cyclic: list = []
    cyclic.append(cyclic)
    fake = {f"backbone.layer1.{i}.conv1.weight": torch.zeros(1) for i in range(3000)}
    fake |= {f"backbone.layer1.0.conv{i}.weight": torch.zeros(4, 4, 1, 1) for i in (1, 2, 3)}
    fake["backbone.resinit.conv1.weight"] = torch.zeros(4, 3, 3, 3)
    for state_dict in (
        {"": torch.zeros(0)},
        {3: torch.zeros(2)},
        fake,
        {"backbone.resinit.conv1.weight": torch.zeros(0)},
    ):
        content = {"state_dict": state_dict, "config_dict": {"network": {"backbone": [{}], "factors": cyclic, 5: {}}}}
        torch.save(content, tmp_path / "net.pth")
        assert commands.call("converters", "inspect", str(tmp_path / "net.pth")) == 1
        assert "none of the models" in capsys.readouterr().out
        command = "converters", "import", str(tmp_path / "net.pth"), "--out", str(tmp_path / "out")
        assert "none of the models" in commands.fails_here(capsys, *command)
