"""`python -m converters` from a shell."""

import numpy as np
import pytest
import torch

import converters
from openseg_jax import checkpoints, models
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
    assert "imported hrnet_w18_ocr (5 classes, norms inplace_abn and inplace_abn)" in out
    assert commands.call("converters", "export", tmp_path / "dir", "--out", tmp_path / "again.pth") == 0
    before = converters.export_state_dict(variables, model)
    after = converters.read_state_dict(tmp_path / "again.pth")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    metadata = checkpoints.read_metadata(tmp_path / "dir")
    assert metadata.model["norm"] == ["inplace_abn", "inplace_abn"]
    assert metadata.extra["source"]["file"] == "net.pth"


def test_backbone_only(tmp_path, capsys):
    whole = models.create("hrnet18", keep_imagenet_head=True, **tiny.BACKBONE)
    variables = tiny.random_variables(whole)
    file = {key.removeprefix("backbone."): x for key, x in converters.export_state_dict(variables, whole).items()}
    torch.save(file | {"classifier.weight": torch.zeros(1000, 2048)}, tmp_path / "imagenet.pth")
    arguments = ["converters", "import", tmp_path / "imagenet.pth", "--out", tmp_path / "dir"]
    assert "import it with --backbone-only" in commands.fails_here(capsys, *arguments)
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
        ("truncated", "is cut short at 5000 bytes; download it again"),
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
