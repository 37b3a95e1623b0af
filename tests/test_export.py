"""Exported programs, run as the page in docs does: without this package."""

import json
import re
import subprocess
import sys
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image

from openseg_jax import checkpoints
from openseg_jax.data.normalize import Normalization
from openseg_jax.errors import InputError
from openseg_jax.export.onnx import to_onnx
from openseg_jax.export.onnx_graph import Graph
from openseg_jax.export.onnx_operations import OPERATIONS
from openseg_jax.export.program import make_logits, output_names
from openseg_jax.export.stablehlo import load
from openseg_jax.labels.classes import ClassTable
from openseg_jax.predict import Predictor
from tests import commands, tiny

pytestmark = pytest.mark.filterwarnings("ignore:.*found in sys.modules after import of package")
MODULE = "openseg_jax.export"
CLASSES = {"title": "four", "classes": [{"name": name, "id": 10 + i} for i, name in enumerate("abcd")]}


def save(folder, name: str, **options):
    model = tiny.create(name, 4, **options)
    saved = checkpoints.Checkpoints(folder)
    classes = ClassTable.from_dict(CLASSES, "x") if model.spec.num_classes == 4 else None
    saved.save(tiny.random_variables(model), checkpoints.Metadata(model.spec.to_dict(), Normalization(), classes))
    saved.close()
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save(tmp_path_factory.mktemp("checkpoint"), "hrnet_w48_ocr")


@pytest.fixture(scope="module")
def labels(checkpoint):
    """What the predictor finds in picture_of(50, 61)."""
    return Predictor(checkpoint)([picture_of(50, 61)])[0]


def run_example_of_the_page(which: int, folder: Path) -> np.ndarray:
    """The labels that one of the examples in docs writes for picture_of(50, 61), with nothing of this package."""
    Image.fromarray(picture_of(50, 61)).save(folder / "street.png")
    page = (Path(__file__).parent.parent / "docs" / "export.md").read_text()
    example = re.findall(r"```python\n(.*?)```", page, re.DOTALL)[which]
    assert len(example.splitlines()) <= 20
    assert "openseg" not in example
    subprocess.run([sys.executable, "-c", example], cwd=folder, env=commands.environment(), check=True)
    return np.asarray(Image.open(folder / "labels.png"))


def picture_of(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)


def test_stablehlo_example_of_the_page(checkpoint, labels, tmp_path, capsys):
    """For a picture smaller than the program's size: the labels of the predictor."""
    file = tmp_path / "camvid.stablehlo"
    assert commands.call(MODULE, checkpoint, "--out", file, "--size", "64x80", "--batch", "any") == 0
    assert "on random images: share of other train ids 0.0e+00" in capsys.readouterr().out
    assert (run_example_of_the_page(0, tmp_path) != labels).sum() <= 1


def test_onnx_example_of_the_page(checkpoint, labels, tmp_path, capsys):
    file = tmp_path / "camvid.onnx"
    assert commands.call(MODULE, checkpoint, "--out", file, "--size", "50x61", "--batch", "any") == 0
    told = capsys.readouterr().out
    assert float(re.search(r"relative to the largest logit (\S+),", told)[1]) < 1e-5
    assert "share of other train ids 0.0e+00" in told
    assert (run_example_of_the_page(1, tmp_path) != labels).sum() <= 1


def test_logits_of_a_fixed_batch(checkpoint, tmp_path, capsys):
    """From both formats the same."""
    files = [tmp_path / "net.stablehlo", tmp_path / "net.onnx"]
    for file in files:
        assert commands.call(MODULE, checkpoint, "--out", file, "--size", "32x48", "--batch", "2", "--logits") == 0
    program = load(files[0])
    assert program.out_avals[0].shape == (2, 32, 48, 4)
    images = np.stack([picture_of(32, 48), picture_of(32, 48)[::-1]])
    ours = program.call(images, np.array([[32, 48]] * 2, np.int32))
    (theirs,) = onnxruntime.InferenceSession(files[1]).run(["logits"], {"images": images})
    np.testing.assert_allclose(theirs, ours, atol=1e-5 * np.abs(ours).max())
    stored = onnxruntime.InferenceSession(files[1]).get_modelmeta().custom_metadata_map["classes"]
    for text in (stored, (tmp_path / "net.stablehlo.json").read_text()):
        classes = ClassTable.from_dict(json.loads(text), "file")
        assert (classes.names, classes.ids) == (("a", "b", "c", "d"), (10, 11, 12, 13))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("hrnet_w48", {}),
        ("hrnet_w48_ocr", {"backbone": "wide_resnet38_dilated8"}),
        ("hrnet_w48_asp_ocr", {"backbone": "deepbase_resnet101_dilated16", "norm": "inplace_abn"}),
        ("fcnet", {"backbone": "resnet18", "norm": "group_norm", "aux_channels": 16}),
        ("fcnet", {"backbone": "deepbase_resnest50_dilated8"}),
        ("fcnet", {"backbone": "resnext101_32x8d_dilated8"}),
        ("base_ocnet", {}),
        ("pyramid_ocnet", {"grids": (1, 3)}),
        ("asp_ocnet", {}),
        ("isanet", {}),
        ("spatial_asp_ocrnet", {}),
        ("ce2p_asp_ocrnet", {}),
        ("segfix_hrnet", {"backbone": "resnet18"}),
    ],
)
def test_every_kind_of_net_in_onnx(name, options):
    """Logits and class ids of two images, of sides that no stride divides, against the net."""
    model = tiny.create(name, 4, **options)
    names = output_names(model)
    find_logits = make_logits(model, tiny.random_variables(model), Normalization())
    data, errors = to_onnx(find_logits, names, (33, 47), "2", logits=False)
    assert max(errors.values()) < 1e-5
    written = onnx.load_from_string(data)
    onnx.checker.check_model(written, full_check=True)
    for output, wanted in zip(written.graph.output, names, strict=True):
        kind = output.type.tensor_type
        assert output.name == wanted
        assert [side.dim_value for side in kind.shape.dim] == [2, 33, 47]
        assert kind.elem_type == onnx.TensorProto.UINT8


def test_nets_that_need_labels_have_nothing_to_export():
    with pytest.raises(InputError, match="cannot predict images alone"):
        output_names(tiny.create("ideal_spatial_ocrnet", 4))


def test_operations_of_large_attention_and_unusual_shapes():
    """Loops are unrolled; products, windows and gathers in the forms that no tiny net takes."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 6, 8, 4)).astype(np.float32)
    kernel = rng.normal(size=(4, 5)).astype(np.float32)

    def function(x):
        mapped = jax.lax.map(jax.checkpoint(lambda row: jnp.exp(row) * x[0]), x)
        product = jnp.einsum("nhwc,nvwc->whnv", x, x[:, ::-1])
        rows = x[:, np.array([[5], [0]]), np.array([[1, 1, 7]])] @ kernel
        return mapped, product, rows, jax.lax.pad(x, 2.0, [(0, 0, 0), (1, -2, 0), (-1, 3, 0), (0, 0, 0)]), x[:, 1:6:2]

    graph = Graph(function, {"x": jax.ShapeDtypeStruct(x.shape, x.dtype)})
    found = onnxruntime.InferenceSession(graph.serialize(graph.outputs)).run(None, {"x": x})
    for ours, theirs in zip(function(x), found, strict=True):
        np.testing.assert_allclose(theirs, ours, rtol=1e-5, atol=1e-5)
    only_last = onnx.load_from_string(graph.serialize(graph.outputs[-1:], ("cut",)))
    assert [node.op_type for node in only_last.graph.node] == ["Slice", "Identity"]


def test_what_onnx_does_not_have_is_named():
    with pytest.raises(InputError, match="uses sin, which is not translated"):
        Graph(lambda x: (jnp.sin(x),), {"x": jax.ShapeDtypeStruct((2,), jnp.float32)})
    with pytest.raises(InputError, match="a loop that carries values along"):
        Graph(
            lambda x: (jax.lax.fori_loop(0, 3, lambda i, y: y + x, x),), {"x": jax.ShapeDtypeStruct((2,), jnp.float32)}
        )


def test_program_that_jax_cannot_read(tmp_path):
    file = tmp_path / "old.stablehlo"
    file.write_bytes(b"written long ago")
    with pytest.raises(InputError, match="old.stablehlo cannot be read by jax .*: export the checkpoint again"):
        load(file)


def test_a_file_that_differs_is_not_written(checkpoint, tmp_path, capsys):
    file = tmp_path / "net.onnx"
    with mock.patch.dict(OPERATIONS, mul=OPERATIONS["add"]):
        assert commands.call(MODULE, checkpoint, "--out", file, "--size", "32x48") == 1
    assert "differs from the net, largest error relative to the largest logit" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_wrong_input(checkpoint, tmp_path, capsys):
    def fails(*arguments, of=checkpoint):
        return commands.fails_here(capsys, MODULE, of, *arguments)

    size, file = ["--size", "32x48"], tmp_path / "net.onnx"
    assert "--size is HEIGHTxWIDTH" in fails("--out", file, "--size", "64")
    assert "--batch is a number or any" in fails("--out", file, *size, "--batch", "some")
    assert "--platforms is for StableHLO" in fails("--out", file, *size, "--platforms", "cuda")
    with mock.patch.dict(sys.modules, onnxruntime=None):
        assert "pip install openseg_jax[onnx]" in fails("--out", file, *size)
    for other in ("net", "net.tflite", "net.pth"):
        assert "--out ends in .onnx or .stablehlo" in fails("--out", tmp_path / other, *size)
    attention = save(tmp_path / "isanet", "isanet")
    assert "isanet needs a number of images" in fails("--out", file, *size, "--batch", "any", of=attention)
    file.touch()
    assert "exists: give another file" in fails("--out", file, *size)
