"""Prediction of single images and videos, by command and in Python."""

import cv2
import numpy as np
import pytest
from PIL import Image

from openseg_jax.errors import InputError
from openseg_jax.predict import Predictor
from tests import commands, segmented

pytestmark = [
    pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning"),  # of ml_collections
    pytest.mark.filterwarnings("ignore:.*found in sys.modules after import of package"),  # predict, as a command
]


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    return segmented.write(tmp_path_factory.mktemp("data"))


def test_predict_command(setting, tmp_path, capsys):
    root = setting[0]
    pictures = [root / "val" / "image" / f"scene{i}.png" for i in (0, 3, 6)]
    arguments = ["openseg_jax.predict", f"--checkpoint={root / 'checkpoint'}", f"--out={tmp_path}"]
    assert commands.call(*arguments, *pictures) == 0
    for picture in pictures:
        label = np.asarray(Image.open(tmp_path / "label" / f"{picture.stem}.png"))
        assert label.shape == np.asarray(Image.open(picture)).shape[:2]
        assert (tmp_path / "overlay" / f"{picture.stem}.jpg").is_file()
    assert "called scene0" in commands.fails_here(capsys, *arguments, pictures[0], pictures[0])
    assert "nothing.png" in commands.fails_here(capsys, *arguments, root / "nothing.png")


def test_predict_command_finds_pictures(setting, tmp_path, capsys):
    """A folder, a pattern, a list, a video."""
    root = setting[0]
    images = root / "val" / "image"
    arguments = ["openseg_jax.predict", f"--checkpoint={root / 'checkpoint'}", f"--out={tmp_path / 'out'}"]
    (tmp_path / "list.txt").write_text(f"{images / 'scene3.png'}\n\n{images / 'scene4.png'}\n")
    film = cv2.VideoWriter(str(tmp_path / "film.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 10, (64, 48))
    for _ in range(3):
        film.write(np.random.default_rng(0).integers(0, 256, (48, 64, 3)).astype(np.uint8))
    film.release()
    assert commands.call(*arguments, images / "scene[01].png", tmp_path / "list.txt", tmp_path / "film.mp4") == 0
    assert {p.stem for p in (tmp_path / "out" / "label").iterdir()} == {"scene0", "scene1", "scene3", "scene4"}
    assert cv2.VideoCapture(str(tmp_path / "out" / "film.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == 3
    assert "no image or video fits" in commands.fails_here(capsys, *arguments, images / "none*.png")
    (tmp_path / "empty.mp4").write_bytes(b"")
    assert "cannot read the video" in commands.fails_here(capsys, *arguments, tmp_path / "empty.mp4")


def test_one_bad_picture_does_not_cost_the_others_and_a_second_start_goes_on(setting, tmp_path, capsys):
    checkpoint, folder, out = setting[0] / "checkpoint", tmp_path / "trip", tmp_path / "out"
    (folder / "day [1]").mkdir(parents=True)
    for place in ("a.png", "day [1]/a.png"):
        Image.fromarray(np.full((40, 64, 3), 90, np.uint8)).save(folder / place)
    (folder / "bad.png").write_bytes(b"\x89PNG nothing")
    arguments = ["openseg_jax.predict", f"--checkpoint={checkpoint}", f"--out={out}", "--probabilities"]
    assert commands.call(*arguments, folder) == 1
    shown = capsys.readouterr()
    assert str(folder / "bad.png") in shown.out
    assert "1 of 3 files could not be read" in shown.err
    results = ["label/a.png", "label/day [1]/a.png", "color/day [1]/a.png", "overlay/a.jpg", "prob/day [1]/a.npy"]
    before = [(out / result).stat().st_mtime_ns for result in results]
    (folder / "bad.png").unlink()
    assert commands.call(*arguments, folder) == 0
    assert "2 were there already" in capsys.readouterr().out
    assert [(out / result).stat().st_mtime_ns for result in results] == before
    assert commands.call(*arguments, folder / "day [1]" / "a.png", "--min_side=30") == 0, "a file is no pattern"
    assert (out / results[0]).stat().st_mtime_ns > before[0], "of other options"


def test_nothing_is_written_over_inputs_or_other_files(setting, tmp_path, capsys):
    arguments = ["openseg_jax.predict", f"--checkpoint={setting[0] / 'checkpoint'}"]
    truth = setting[0] / "val" / "label" / "scene0.png"
    before = truth.read_bytes()
    images = setting[0] / "val" / "image"
    assert "did not write it" in commands.fails_here(capsys, *arguments, images, f"--out={setting[0] / 'val'}")
    assert truth.read_bytes() == before
    (tmp_path / "a.mp4").write_bytes(b"film")
    assert "did not write it" in commands.fails_here(capsys, *arguments, tmp_path / "a.mp4", f"--out={tmp_path}")
    assert (tmp_path / "a.mp4").read_bytes() == b"film"
    for other in ("x", "y"):
        (tmp_path / other).mkdir()
        (tmp_path / other / "b.mp4").touch()
    films, out = [tmp_path / other / "b.mp4" for other in ("x", "y")], f"--out={tmp_path / 'out'}"
    assert "both called b" in commands.fails_here(capsys, *arguments, *films, out)
    (tmp_path / "list.txt").write_text(f"{tmp_path / 'list.txt'}\n")
    assert "names itself" in commands.fails_here(capsys, *arguments, tmp_path / "list.txt", out)


def test_predictor_in_python(setting):
    """Mixed sizes in one call are as each alone; probabilities agree with the labels."""
    predictor = Predictor(setting[0] / "checkpoint")
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (h, w, 3)).astype(np.uint8) for h, w in ((40, 64), (57, 33), (64, 41))]
    together = predictor(images)
    for image, labels in zip(images, together, strict=True):
        assert labels.shape == image.shape[:2]
        assert (predictor([image])[0] != labels).sum() <= 1
    (probabilities,) = predictor(images[:1], probabilities=True)
    assert (probabilities.argmax(-1) != together[0]).mean() < 0.01
    np.testing.assert_allclose(probabilities.astype(np.float32).sum(-1), 1, atol=5e-3)
    with pytest.raises(InputError, match=r"image 0 is float64 \(4, 4\), wanted uint8"):
        predictor([np.zeros((4, 4))])
    with pytest.raises(InputError, match="unknown option 'scale'"):
        Predictor(setting[0] / "checkpoint", scale=2)
    assert all(runner._step._cache_size() <= 4 for runner in predictor._runners.values()), "one per shape"
