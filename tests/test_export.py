"""Exported programs, run as the page in docs does: with JAX alone."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from jax import export
from PIL import Image

from openseg_jax import checkpoints
from openseg_jax.data.normalize import Normalization
from openseg_jax.predict import Predictor
from tests import commands, tiny

pytestmark = pytest.mark.filterwarnings("ignore:.*found in sys.modules after import of package")
MODULE = "openseg_jax.export"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    model = tiny.create("spatial_ocrnet", 4)
    saved = checkpoints.Checkpoints(folder)
    saved.save(tiny.random_variables(model), checkpoints.Metadata(model.spec.to_dict(), Normalization()))
    saved.close()
    return folder


def test_the_example_of_the_page(checkpoint, tmp_path, capsys):
    """For a picture smaller than the program's size, with nothing of this package: the labels of the predictor."""
    file = tmp_path / "camvid.stablehlo"
    assert commands.call(MODULE, checkpoint, "--out", file, "--size", "64x80", "--batch", "any") == 0
    assert "share of other class ids, on random pictures: 0.0e+00" in capsys.readouterr().out
    picture = np.random.default_rng(0).integers(0, 256, (50, 61, 3)).astype(np.uint8)
    Image.fromarray(picture).save(tmp_path / "street.png")
    page = (Path(__file__).parent.parent / "docs" / "export.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(example.splitlines()) <= 20
    assert "openseg" not in example
    subprocess.run([sys.executable, "-c", example], cwd=tmp_path, env=commands.environment(), check=True)
    found = np.asarray(Image.open(tmp_path / "labels.png"))
    assert (found != Predictor(checkpoint)([picture])[0]).sum() <= 1


def test_logits_of_a_fixed_batch(checkpoint, tmp_path, capsys):
    file = tmp_path / "net"
    assert commands.call(MODULE, checkpoint, "--out", file, "--size", "32x48", "--batch", "2", "--logits") == 0
    program = export.deserialize(file.read_bytes())
    assert program.out_avals[0].shape == (2, 32, 48, 4)
    assert "exists; give another file" in commands.fails_here(
        capsys, MODULE, checkpoint, "--out", file, "--size", "8x8"
    )
    other = ["--out", tmp_path / "other"]
    assert "--size is HEIGHTxWIDTH" in commands.fails_here(capsys, MODULE, checkpoint, *other, "--size", "64")
