"""`python -m converters` from a shell."""

import json

import jax
import numpy as np
import pytest
import torch

from benchmarks.torch_reference import HRNetOCR
from openseg_jax import checkpoints, converters, models
from openseg_jax.errors import InputError
from tests import commands, tiny


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    """A .pth file as the original writes it, and the variables in it."""
    model = tiny.create(norm="inplace_abn")
    variables = tiny.random_variables(model)
    path = tmp_path_factory.mktemp("net") / "net.pth"
    state_dict = {f"module.{key}": value for key, value in converters.export_state_dict(variables, model).items()}
    torch.save({"state_dict": state_dict, "config_dict": {"iters": 80000}}, path, _use_new_zipfile_serialization=False)
    return path, model, variables


def test_inspect(net):
    out = commands.run("-m", "converters", "inspect", net[0])
    for expected in ("hrnet_w18_ocr", "hrnet18", "inplace_abn", " 5 ", "width=4", "sha256"):
        assert expected in out


def test_inspect_of_something_else(tmp_path, capsys):
    torch.save({"layer.weight": torch.zeros(3)}, tmp_path / "net.pth")
    assert commands.call("converters", "inspect", tmp_path / "net.pth") == 1
    assert "none of the models" in capsys.readouterr().out


def test_import_then_export_is_bitwise_equal(net, tmp_path, capsys):
    path, model, variables = net
    assert commands.call("converters", "import", path, "--out", tmp_path / "dir") == 0
    out = capsys.readouterr().out
    assert "imported hrnet_w18_ocr (on hrnet18, 5 classes, norms inplace_abn and inplace_abn)" in out
    assert commands.call("converters", "export", tmp_path / "dir", "--out", tmp_path / "again.pth") == 0
    before = converters.export_state_dict(variables, model)
    after = converters.read_state_dict(tmp_path / "again.pth")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert "exists: give another file" in commands.fails_here(
        capsys, "converters", "export", tmp_path / "dir", "--out", tmp_path / "again.pth"
    )
    metadata = checkpoints.read_metadata(tmp_path / "dir")
    assert metadata.model["norm"] == ["inplace_abn", "inplace_abn"]
    assert metadata.extra["source"]["file"] == "net.pth"


def test_a_pytorch_file_is_loaded_like_its_import(net, tmp_path):
    assert commands.call("converters", "import", net[0], "--out", tmp_path / "dir") == 0
    for found, expected in zip(converters.load(net[0]), checkpoints.load(tmp_path / "dir"), strict=True):
        if isinstance(found, dict):
            jax.tree.map(np.testing.assert_array_equal, found, expected)
    assert converters.load(net[0])[0].spec == converters.load(tmp_path / "dir")[0].spec
    assert converters.fingerprint(net[0]) != converters.fingerprint(tmp_path / "dir")
    torch.save({"layer.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(InputError, match="does not say by itself which net it is"):
        converters.load(tmp_path / "other.pth")


def test_one_of_several_state_dicts(net, tmp_path, capsys):
    weights = converters.read_state_dict(net[0])
    torch.save({"net": {"w": torch.zeros(1)}, "ema": weights}, tmp_path / "both.pth")
    command = "converters", "import", tmp_path / "both.pth", "--out", tmp_path / "dir"
    assert "name one with --entry" in commands.fails_here(capsys, *command)
    assert commands.call(*command, "--entry=ema") == 0


def test_backbone_only(tmp_path, capsys):
    whole = models.create("hrnet18", keep_imagenet_head=True, **tiny.BACKBONE)
    variables = tiny.random_variables(whole)
    file = {key.removeprefix("backbone."): x for key, x in converters.export_state_dict(variables, whole).items()}
    torch.save(file | {"classifier.weight": torch.zeros(1000, 2048)}, tmp_path / "imagenet.pth")
    arguments = ["converters", "import", tmp_path / "imagenet.pth", "--out", tmp_path / "dir"]
    assert "import it with --backbone_only" in commands.fails_here(capsys, *arguments)
    assert commands.call(*arguments, "--backbone-only") == 0
    model, loaded, _ = checkpoints.load(tmp_path / "dir")
    assert model.spec.name == "hrnet18"
    np.testing.assert_array_equal(
        loaded["params"]["backbone"]["conv1"]["kernel"], variables["params"]["backbone"]["conv1"]["kernel"]
    )


def broken(kind, path, source):
    content = torch.load(source, weights_only=True)["state_dict"]
    if kind == "missing":
        del content["module.cls_head.bias"]
    elif kind == "extra":
        content["module.more"] = torch.zeros(2)
    elif kind == "shape":
        content["module.cls_head.bias"] = torch.zeros(9)
    torch.save(content, path)
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:5000])
    elif kind == "html":
        path.write_text("<html>Sign in</html>")
    elif kind == "code":
        torch.save({"state_dict": content, "hook": print}, path)


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("missing", "1 key missing (cls_head.bias)"),
        ("extra", "1 key unknown (more)"),
        ("shape", "cls_head.bias is (9,) instead of (5,)"),
        ("truncated", "cut short at 5000 bytes; download it again"),
        ("html", "is a web page, not a checkpoint"),
        ("code", "was refused: it would run code on loading (print)"),
    ],
)
def test_bad_files_end_in_one_sentence_and_write_nothing(net, tmp_path, capsys, kind, says):
    path = tmp_path / "bad.pth"
    broken(kind, path, net[0])
    assert says in commands.fails_here(capsys, "converters", "import", path, "--out", tmp_path / "dir")
    assert not (tmp_path / "dir").exists()


def test_wrong_requests(net, tmp_path, capsys):
    path = net[0]

    def says(*arguments):
        return commands.fails_here(capsys, "converters", "import", path, "--out", tmp_path / "dir", *arguments)

    assert "it has 5 classes, not 19" in says("--num-classes", "19")
    assert "the norm of its backbone is inplace_abn, not batch_norm" in says("--norm", "batch_norm")
    assert "unknown model 'hrnet_w48_orc'; did you mean" in says("--model", "hrnet_w48_orc")
    assert "camvid" in says("--classes", "kitti").lower()
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / "file").touch()
    assert "exists and is not empty" in says()


def test_what_no_key_tells_is_said_or_asked_for(tmp_path, capsys):
    one, two = tiny.create("isanet", factors=[[8, 8]]), tiny.create("isanet")
    for name, model in (("one", one), ("two", two)):
        torch.save(converters.export_state_dict(tiny.random_variables(model), model), tmp_path / f"{name}.pth")
    assert commands.call("converters", "import", tmp_path / "one.pth", "--out", tmp_path / "one") == 0
    out = capsys.readouterr().out
    assert "assumed, because no key tells:" in out
    assert "factors=((8, 8),)" in out
    arguments = ["converters", "import", tmp_path / "two.pth", "--out", tmp_path / "two"]
    message = commands.fails_here(capsys, *arguments)
    assert "is isanet with 2 factor pairs, whose numbers no key tells" in message
    assert commands.call(*arguments, "--option", "factors=[[3,4],[2,2]]") == 0
    assert checkpoints.load(tmp_path / "two")[0].head.context.attend[0].factors == (3, 4)


def test_config_of_the_original_is_read(tmp_path, capsys):
    model = tiny.create("ideal_gather_ocrnet", backbone="deepbase_resnet101_dilated16")
    network = {"model_name": "ideal_gather_ocrnet", "backbone": "deepbase_resnet101_dilated16", "multi_grid": [1, 2]}
    state_dict = converters.export_state_dict(tiny.random_variables(model), model)
    torch.save({"state_dict": state_dict, "config_dict": {"network": network}}, tmp_path / "net.pth")
    assert commands.call("converters", "import", tmp_path / "net.pth", "--out", tmp_path / "dir") == 0
    assert "assumed" not in capsys.readouterr().out
    assert checkpoints.load(tmp_path / "dir")[0].spec == model.spec


# ---------------------------------------------------------------------------------------------------------------------
# verify


@pytest.fixture(scope="module")
def verified(tmp_path_factory):
    """A PyTorch net, its checkpoint, the folder imported from it, and its activations as hooks would save them."""
    folder = tmp_path_factory.mktemp("verify")
    net = HRNetOCR(5, channels=16, key_channels=8, **tiny.BACKBONE).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(1.5)
    torch.save({"state_dict": net.state_dict()}, folder / "net.pth")
    assert commands.call("converters", "import", folder / "net.pth", "--out", folder / "dir") == 0
    saved = {}

    def keep(name):  # as docs/converting.md says: a copy, because the next layer may write over it
        return lambda _, __, out: saved.update({name: out.clone().numpy()}) if torch.is_tensor(out) else None

    for name, module in net.named_modules():
        module.register_forward_hook(keep(name))
    images = torch.randn(1, 3, 65, 97, generator=torch.manual_seed(0))
    with torch.no_grad():
        net(images)
    saved["input"] = images.numpy()
    np.savez(folder / "taps.npz", **saved)
    return folder, saved


def test_verify(verified, capsys):
    folder, _ = verified
    capsys.readouterr()
    arguments = ["converters", "verify", folder / "net.pth", folder / "dir", "--reference", folder / "taps.npz"]
    assert commands.call(*arguments) == 0
    out = capsys.readouterr().out
    assert "bit for bit" in out
    assert "layers agree" in out
    report = json.loads((folder / "dir" / "verify.json").read_text())
    assert report["checksums"] == {"file": "CRC-32 of each part", "folder": "SHA-256 of each file"}
    assert report["norm"] == {"backbone": "batch_norm", "head": "batch_norm"}
    assert set(report["outputs"]) == {"aux", "out"}
    layers = {layer["name"]: layer for layer in report["layers"]}
    assert {"backbone.conv1", "backbone.layer1.0.bn3", "aux_head.1", "aux_head.1.0", "cls_head"} <= layers.keys()
    assert max(layer["difference"] / layer["largest"] for layer in layers.values()) < 1e-4


def test_verify_names_the_first_layer_that_diverges(verified, tmp_path, capsys):
    folder, arrays = verified
    wrong = arrays | {"conv3x3.0": arrays["conv3x3.0"] + 1, "cls_head": arrays["cls_head"] * 2}
    np.savez(tmp_path / "taps.npz", **wrong)
    arguments = ["converters", "verify", folder / "net.pth", folder / "dir", "--reference", tmp_path / "taps.npz"]
    capsys.readouterr()
    assert commands.call(*arguments) == 1
    assert "the first layer that diverges is conv3x3.0" in capsys.readouterr().out


def test_verify_finds_another_checkpoint(verified, tmp_path, capsys):
    folder, _ = verified
    content = torch.load(folder / "net.pth", weights_only=True)["state_dict"]
    content["cls_head.bias"] += 1
    torch.save(content, tmp_path / "net.pth")
    assert commands.call("converters", "verify", tmp_path / "net.pth", folder / "dir") == 1
    assert "DIFFER from those of the file" in capsys.readouterr().out
    (tmp_path / "taps.npz").write_text("text")
    message = commands.fails_here(
        capsys, "converters", "verify", folder / "net.pth", folder / "dir", "--reference", tmp_path / "taps.npz"
    )
    assert "is not a .npz file of arrays" in message
