"""What a user installs: source distribution and wheel, and the commands in an empty folder without a checkout."""

import json
import subprocess
import sys
import tarfile
import zipfile

from tests import commands
from tests.data import folders
from tests.recipes.test_legacy import JSON

VERSIONS, TORCH = ("oldest", ["torch==2.13.0"]) if sys.version_info < (3, 12) else ("newest", [])
TINY = [f"--config.model.options.{name}={size}" for name, size in (("width", 4), ("blocks", 1), ("layer1_width", 8))]
TINY += [f"--config.model.options.{name}=16" for name in ("channels", "key_channels", "aux_channels")]
SHORT = ["--config.train.steps=2", "--config.train.eval_every=2", "--config.train.batch_size=2"]
MINE = """
from openseg_jax.recipes import folder

def get_config():
    config = folder.get_config("fcnet")
    config.data.root = "data"
    config.train.steps = 3
    return config
"""


def build(folder):
    """Builds the source distribution from the checkout, and the wheel from it; returns their paths."""
    arguments = ["-m", "build", "--no-isolation", "--outdir", folder, commands.ROOT]
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    return next(folder.glob("*.tar.gz")), next(folder.glob("*.whl"))


def test_a_wheel_in_an_empty_folder(tmp_path):
    source, wheel = build(tmp_path / "dist")
    with tarfile.open(source) as archive:
        files = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {"tests/test_wheel.py", "docs/architecture.md", "configs/camvid.py", "converters/__main__.py", "train.py"}
    assert files >= wanted | {"eval.py", "LICENSE", "CITATION.cff", "constraints/oldest.txt", "Makefile"}
    with zipfile.ZipFile(wheel) as archive:
        files = set(archive.namelist())
    assert {name.partition("/")[0].partition("-")[0] for name in files} == {"openseg_jax"}
    assert files >= {"openseg_jax/py.typed", "openseg_jax/labels/tables/camvid.json", "openseg_jax/cli/demo.py"}
    assert "openseg_jax/compiled/targets/h200.txtpb" in files

    python, empty = tmp_path / "venv" / "bin" / "python", tmp_path / "empty"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    constraints = commands.ROOT / "constraints" / f"{VERSIONS}.txt"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-compile", "-c", constraints]
    subprocess.run([*pip, *TORCH, wheel], check=True)
    empty.mkdir()
    variables = {name: value for name, value in commands.environment().items() if name != "PYTHONPATH"}

    def openseg(*arguments):
        command = [python.parent / "openseg", *map(str, arguments)]
        done = subprocess.run(command, cwd=empty, env=variables, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "openseg_jax 0." in openseg("--version")
    openseg("demo", "--steps=2", "--out=demo")
    assert len(list((empty / "demo" / "report" / "overlay").iterdir())) == 64

    folders.write(empty / "data")
    data = ["--config=folder:hrnet_w18_small_v1_ocr", "--config.data.root=data"]
    openseg("train", *data, "--workdir=run", *TINY, *SHORT, "--config.augment.crop=(32, 32)")
    openseg("eval", *data, "--checkpoint=run", "--out=report")
    assert 0 <= json.loads((empty / "report" / "report.json").read_text())["miou"] <= 1
    openseg("predict", "data/val/image", "--checkpoint=run", "--out=predicted")
    assert len(list((empty / "predicted" / "label").iterdir())) == len(list((empty / "data/val/image").iterdir()))
    openseg("export", "run", "--size=32x32", "--out=net.stablehlo")
    assert (empty / "net.stablehlo").stat().st_size > 10_000
    if TORCH:  # without it the sentence of `openseg convert` says what to install
        openseg("convert", "export", "run", "--out=net.pth")
        openseg("convert", "import", "net.pth", "--classes=data/classes.json", "--out=imported")
        openseg("predict", "data/val/image", "--checkpoint=imported", "--out=again")
        for path in (empty / "predicted" / "label").iterdir():
            assert (empty / "again" / "label" / path.name).read_bytes() == path.read_bytes()

    (empty / "mine.py").write_text(MINE)
    assert "steps: 3" in openseg("train", "--config=mine.py", "--workdir=mine", "--dry_run")
    (empty / "H.json").write_text(json.dumps(JSON))
    openseg("convert", "config", "H.json", "--loss_type", "fs_auxce_loss", "--out=legacy.py")
    changes = ["--config.data.root=data", "--config.data.classes=", "--config.loss.class_weights=()"]
    assert "base_ocnet" in openseg("train", "--config=legacy.py", "--workdir=legacy", "--dry_run", *changes)
