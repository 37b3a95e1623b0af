"""Wrong configs: each gives one sentence that names the field, the value and what is allowed."""

import copy
import dataclasses
import functools
import math
import typing

import pytest

from openseg_jax import config
from openseg_jax.config.check import hints_of
from openseg_jax.config.schema import Config, ExtraData
from openseg_jax.errors import InputError
from tests import commands

NONSENSE = object()


def fields(kind=Config, path=""):
    """(dotted name, type, setting) of every field with a value."""
    for field in dataclasses.fields(kind):
        name, hint = f"{path}{field.name}", hints_of(kind)[field.name]
        if dataclasses.is_dataclass(hint):
            yield from fields(hint, f"{name}.")
        else:
            yield name, hint, field.metadata["setting"]


def wrong_values(hint, setting):
    """Values of another type, beyond each limit, not finite, of another length, in another order."""
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is tuple:
        inner = arguments[0]
        yield from ("text", 3, None)
        if ExtraData in arguments:
            yield ({"root": 3},)
            yield ({"splitt": "val"},)
            return
        if inner in (int, float, str):
            count = 1 if arguments[1:] == (...,) else len(arguments)
            yield from ((value,) * count for value in wrong_values(inner, setting))
        if arguments[1:] != (...,):
            good = max(setting.above or 0, setting.least or 0, 1)
            yield (good,) * (len(arguments) + 1)
            yield ()
        if setting.ordered:
            good = max(setting.above or 0, setting.least or 0) + 1
            yield (good + 1, good)
        if setting.ordered == "rising":
            yield (good, good)
    elif typing.get_origin(hint) is not None and tuple[()] in arguments:
        yield from (value for value in wrong_values(arguments[0], setting) if value != ())
    elif hint is str:
        yield from (3, None, ("text",))
        yield from ["nonsense"] if setting.choices else [""] if setting.filled else []
    elif hint is bool:
        yield from (1, 0.0, "yes", None)
    elif hint in (int, float):
        yield from ("text", None, True, (1,), math.nan, math.inf, -math.inf)
        yield from [2.5] if hint is int else []
        yield from [setting.above, -1] if setting.above is not None else []
        yield from [setting.least - 1] if setting.least is not None else []
        yield from [setting.below, setting.below + 1] if setting.below is not None else []
        yield from [setting.most + 1] if setting.most is not None else []
    else:
        yield from (3, "text", None)  # model.options


WRONG = [(name, value) for name, hint, setting in fields() for value in wrong_values(hint, setting)]


@functools.cache
def start_of(spec):
    return config.load(spec).to_dict()


def changed(changes, start="folder:hrnet_w18_small_v1_ocr"):
    """The dictionary of a config with values set by dotted names."""
    found = copy.deepcopy(start_of(start))
    for name, value in changes.items():
        *sections, last = name.split(".")
        node = found
        for section in sections:
            node = node[section]
        node[last] = value
    return found


@pytest.mark.parametrize(("name", "value"), WRONG, ids=lambda x: str(x)[:40])
def test_each_field_refuses(name, value):
    with pytest.raises(InputError) as error:
        config.typed(changed({name: value}))
    message = str(error.value)
    assert name in message
    assert "\n" not in message
    if name != "data.extra":
        assert message.startswith(f"{name} must be ")
        assert ", found " in message


def test_there_are_enough():
    assert len(WRONG) >= 600


CONTRADICTIONS = [
    ("folder", {"train.accumulate": 3}, "train.accumulate=3 must divide train.batch_size=8"),
    ("cityscapes", {"train.batch_size": 6}, "loss.replicas=4 must divide train.batch_size=6"),
    ("cityscapes", {"train.batch_size": 1}, "loss.replicas=4 must divide train.batch_size=1"),
    ("cityscapes", {"train.accumulate": 4}, "loss.replicas=4 must divide train.batch_size=8 divided by"),
    ("folder", {"train.accumulate": 2, "loss.name": "aux_ohem"}, "is not a sum over its parts"),
    ("folder", {"loss.name": "segfix", "data.maps": ("offset",)}, "takes the outputs direction, mask"),
    ("folder", {"loss.name": "ce2p"}, "loss.name=ce2p takes the outputs"),
    ("folder", {"loss.name": "ohem"}, 'it takes loss.name="ce" or "aux_ce" or "aux_ohem" or "aux_rmi"'),
    ("folder:hrnet_w18", {"loss.name": "aux_ce"}, "takes the outputs aux, out, but model.name=hrnet_w18"),
    ("folder:hrnet_w18", {"loss.name": "aux_rmi"}, "has out"),
    ("folder:fcnet", {"model.options.aux_channels": 0}, "loss.name=aux_ce takes the outputs aux, out"),
    ("segfix:folder", {"loss.name": "aux_ce"}, "model.name=segfix_hrnet has direction, mask"),
    ("segfix:folder", {"data.maps": ()}, "loss.name=segfix needs 'offset' in data.maps"),
    ("lip:ce2p_ocrnet", {"loss.name": "ce"}, "model.name=ce2p_ocrnet has edge_out"),
    ("cityscapes", {"data.classes": "camvid"}, "loss.class_weights has 19 numbers, but data.classes=camvid has 11"),
    ("cityscapes", {"data.classes": "celeba"}, "are those of the classes of cityscapes, but data.classes=celeba has"),
    ("camvid", {"loss.class_weights": (1, 2, 3)}, "loss.class_weights has 3 numbers"),
    ("folder", {"loss.class_weights": (0, 0)}, "loss.class_weights must not all be 0"),
    ("folder", {"loss.aux_weight": 0, "loss.out_weight": 0}, "loss.out_weight and loss.aux_weight must not both be 0"),
    ("segfix:folder", {"loss.segfix.mask_weight": 0, "loss.segfix.direction_weight": 0}, "must not both be 0"),
    ("segfix:folder", {"loss.segfix.min_distance": 6}, "loss.segfix.min_distance=6 must be at most"),
    ("folder", {"data.weights": (1,), "data.extra": ({"split": "more"},)}, "data.weights must have a number for"),
    ("folder", {"data.weights": (1, 2)}, "data.weights must have a number for"),
    ("folder", {"data.maps": ("edge", "edge")}, "data.maps must name each map once"),
    ("synthetic", {"data.maps": ("edge",)}, "are files, which data.source=synthetic does not have"),
    ("synthetic", {"data.offset_folder": "instance"}, "are files, which data.source=synthetic does not have"),
    ("synthetic", {"data.val_split": "test"}, 'data.val_split must be "train" or "val"'),
    ("synthetic", {"data.train_split": "all"}, 'data.train_split must be "train" or "val"'),
    ("ade20k", {"augment.resize.size": (520, 520)}, "augment.resize.size=(520, 520) and augment.resize.min_side=520"),
    ("ade20k", {"augment.resize.min_side": 0}, "resize in augment.chain needs"),
    ("ade20k", {"augment.resize.bound": 500}, "augment.resize.bound=500 must be at least augment.resize.min_side=520"),
    ("folder", {"augment.collate.mode": "multi_size"}, "augment.collate.mode=multi_size needs augment.collate.sizes"),
    ("folder", {"augment.collate.size": (256, 512)}, "augment.crop=(512, 512) does not fit"),
    ("folder", {"augment.on_device": True, "data.maps": ("edge",)}, "augment.on_device knows images and labels only"),
    (
        "folder",
        {"augment.on_device": True, "augment.collate.mode": "multi_size", "augment.collate.sizes": ((512, 512),)},
        "augment.on_device gives batches of one size",
    ),
    (
        "folder",
        {"augment.on_device": True, "augment.chain": ("random_crop", "random_blur")},
        "augment.on_device cannot do random_blur of augment.chain",
    ),
    (
        "folder",
        {"augment.collate.mode": "multi_size", "augment.collate.sizes": ((256, 256), (512, 512))},
        "augment.crop=(512, 512) does not fit into augment.collate.size=(256, 256)",
    ),
    (
        "folder",
        {"augment.chain": ("random_crop", "random_resize")},
        "augment.chain makes samples of up to 1080x1074 pixels, which do not fit into batches of (512, 512)",
    ),
    ("folder", {"augment.chain": ("center_crop", "random_rotate")}, "samples of up to 725x725 pixels"),
    (
        "folder",
        {"augment.on_device": True, "augment.chain": ("random_crop", "random_resize"),
         "augment.scale": (0.5, 1), "augment.aspect": (1, 1)},
        "augment.on_device resizes before it crops",
    ),
    ("folder", {"train.batch_size": 65_536}, "train.batch_size=65536 images of 262144 pixels are more than the"),
    ("folder", {"normalization.mean": (102.9, 115.9, 122.7)}, "is brighter than white, which normalization.divisor"),
    ("folder", {"normalization.std": (57, 57, 57)}, "normalization.std=(57.0, 57.0, 57.0) is more than white"),
    ("folder", {"schedule.name": "multistep", "schedule.milestones": (5000, 10_000)}, "must lie before the end, train"),
    ("folder", {"schedule.name": "step"}, "schedule.step_size=30000 must be less than train.steps=10000"),
    ("folder", {"schedule.name": "multistep"}, "schedule.name=multistep needs schedule.milestones"),
    ("folder", {"schedule.warmup.steps": 10_001}, "schedule.warmup.steps=10001 must be at most train.steps=10000"),
    ("folder", {"optimizer.nesterov": True, "optimizer.momentum": 0}, "optimizer.nesterov needs"),
    ("ade20k", {"eval.size": (512, 512)}, "eval.size=(512, 512) and eval.min_side=520 exclude each other"),
    ("folder", {"eval.pad_size": (64, 64), "eval.pad_stride": 8}, "eval.pad_size=(64, 64) and eval.pad_stride=8"),
    ("folder", {"eval.scale_weights": (1, 2)}, "eval.scale_weights must have a number for each of 1 eval.scales"),
    ("folder", {"eval.protocol": "ms", "eval.scale_weights": (1, 2)}, "each of 7 eval.scales"),
    ("folder", {"eval.scales": (1, 2), "eval.scale_weights": (0, 0)}, "eval.scale_weights must not all be 0"),
    ("folder", {"eval.crop": (64, 64)}, 'eval.crop=(64, 64) is for eval.protocol="crops" or "ms_crops"'),
    ("folder", {"eval.crop_stride": (64, 64)}, "eval.crop_stride=(64, 64) is for eval.protocol="),
    ("folder", {"eval.protocol": "crops", "eval.crop_stride": (513, 64)}, "leaves gaps between the windows"),
]  # fmt: skip


@pytest.mark.parametrize(("start", "changes", "message"), CONTRADICTIONS)
def test_contradictions(start, changes, message):
    with pytest.raises(InputError) as error:
        config.typed(changed(changes, start))
    assert message in str(error.value)
    assert ";" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("train.ema", 1 - 1e-12, "(1.0 in float32)"),
        ("optimizer.epsilon", 1e-60, "(0.0 in float32)"),
        ("optimizer.learning_rate", 1e39, "(inf in float32)"),
        ("optimizer.learning_rate", 10**400, "found 1000"),
        ("train.steps", 2**31, "(too large for int32)"),
        ("train.eval_every", -1, ""),
        ("augment.crop", (32_768, 32_768), "(1073741824 pixels, of which there may be 67108864)"),
        ("augment.crop", (10**5000, 1), "found a tuple that cannot be shown"),
        ("data.root", "a\0b", "(with a NUL character)"),
        ("normalization.mean", (0.5,), "three numbers"),
    ],
)  # fmt: skip
def test_what_becomes_of_a_value_is_said(name, value, hint):
    with pytest.raises(InputError) as error:
        config.typed(changed({name: value}))
    assert str(error.value).startswith(f"{name} must be ")
    assert hint in str(error.value)


OPTIONS = [
    ("hrnet_w18_ocr", "width", 0), ("hrnet_w18_ocr", "width", "18"), ("hrnet_w18_ocr", "width", 18.0),
    ("hrnet_w18_ocr", "blocks", True), ("hrnet_w18_ocr", "modules", (1, 4)), ("hrnet_w18_ocr", "modules", (1, 0, 3)),
    ("hrnet_w18_ocr", "dropout", 1.0), ("hrnet_w18_ocr", "dropout", -0.1), ("hrnet_w18_ocr", "dropout", math.nan),
    ("hrnet_w18_ocr", "scales", ()), ("hrnet_w18_ocr", "scales", (0,)), ("hrnet_w18_ocr", "drop_stage4", 1),
    ("hrnet_w18_ocr", "channels", None), ("hrnet_w18_ocr", "key_chanels", 3), ("hrnet_w18_ocr", "factors", ((8, 8),)),
    ("isanet", "factors", ((8,),)), ("isanet", "factors", (8, 8)), ("isanet", "multi_grid", 4),
    ("isanet", "width", -64), ("isanet", "width", 8193), ("hrnet_w18_ocr", "blocks", 65),
    ("spatial_asp_ocrnet", "dilations", (12, "24", 36)), ("segfix_hrnet", "num_directions", -8),
    ("ce2p_asp_ocrnet", "object_context", 3),
]  # fmt: skip


@pytest.mark.parametrize(("model", "name", "value"), OPTIONS)
def test_model_options(model, name, value):
    start = "lip" if model.startswith("ce2p") else "folder"
    with pytest.raises(InputError, match=f"model.options.{name}"):
        config.typed(changed({f"model.options.{name}": value}, f"{start}:{model}"))


def test_an_option_of_the_own_backbone_may_stay_on_another():
    found = config.load("cityscapes:fcnet,hrnet48")
    assert "output_stride" in found.model.options
    with pytest.raises(InputError, match="model.options.output_stride is no option of fcnet on hrnet48"):
        config.typed(changed({"model.options.output_stride": 16}, "cityscapes:fcnet,hrnet48"))


def test_everything_is_said_at_once():
    with pytest.raises(InputError) as error:
        config.load(
            "cityscapes",
            [
                "--config.train.stepz=5", "--config.train.steps=many", "--config.train.batch_size=0",
                "--config.optimizer.learning_rate=nan", "--config.loss.name=dice", "--config.augment.crop=(0, 0)",
                "--config.eval.size=(64, 64)", "--config.eval.min_side=64",
            ],
        )  # fmt: skip
    for part in (
        "there is no field train.stepz: did you mean train.steps?",
        "train.steps must be a whole number of at least 1, found 'many'",
        "train.batch_size must be a whole number from 1 to 65536, found 0",
        "optimizer.learning_rate must be a number above 0, found nan",
        'loss.name must be "ce", "aux_ce", "ohem", "aux_ohem", "rmi", "aux_rmi", "segfix" or "ce2p", found \'dice\'',
        "augment.crop must be two whole numbers from 1 to 32768, found (0, 0)",
        "eval.size=(64, 64) and eval.min_side=64 exclude each other",
    ):
        assert part in str(error.value)
    assert "loss.replicas" not in str(error.value)  # the batch size is wrong itself


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (3, "a config is a ConfigDict or nested dictionaries, found 3"),
        ({"train": 3}, "train must be a section of fields, found 3"),
        ({"trian": {}}, "there is no field trian: did you mean train?"),
        ({"data": {"rot": "x"}}, "there is no field data.rot: did you mean data.root?"),
        ({"model": {"name": "hrnet_w49_ocr"}}, "(did you mean hrnet_w"),
        (
            {"model": {"options": {"widht": 3}}},
            "there is no field model.options.widht: did you mean model.options.width?",
        ),
        ({"data": {"extra": ({"splitt": "val"},)}}, "there is no field data.extra[0].splitt"),
    ],
)
def test_structure(values, message):
    with pytest.raises(InputError) as error:
        config.typed(values)
    assert message in str(error.value)


START = "from openseg_jax.recipes.common import base\ndef get_config():\n    c = base('fcnet')\n"
WRONG_SPECS = [
    ("cityscape", "unknown recipe 'cityscape'; did you mean cityscapes?"),
    ("kitti", "unknown recipe 'kitti'; there are ade20k, camvid"),
    ("common", "unknown recipe 'common'"),
    ("configs/kitti.py", "there is no config file configs/kitti.py"),
    ("configs/camvid", "there is no config file configs/camvid; did you mean configs/camvid.py?"),
    ("cityscapes:hrnet_w99", "unknown model 'hrnet_w99'"),
    ("cityscapes:hrnet_w48_ocr,ohme", "unknown option 'ohme'; there are v17, ohem, rmi, trainval"),
    ("cityscapes:hrnet_w48_ocr,ohem,rmi", "the options ohem and rmi exclude each other"),
    ("cityscapes:hrnet_w48_ocr,coarse,from_coarse", "exclude each other"),
    ("cityscapes:fcnet,hrnet48,hrnet32", "the options hrnet48 and hrnet32 exclude each other"),
    ("cityscapes:segfix_hrnet,rmi", "segfix_hrnet has direction, mask and is trained with the loss segfix"),
    ("lip:ce2p_ocrnet,rmi", "ce2p_ocrnet has edge_out, seg_dsn, seg_out1, seg_out2 and is trained with the loss ce2p"),
    ("lip:hrnet_w48_ocr,ohem", "unknown option 'ohem'; there are v17, rmi, eight_gpus"),
    ("segfix:cityscapes,rmi", "unknown option 'rmi'"),
    ("segfix:hrnet_w48", "unknown data set 'hrnet_w48'"),
    ("segfix:ade20k,ade20k_too", "the option ade20k_too is for cityscapes"),
    ("camvid:hrnet_w18_ocr,smal", "unknown option 'smal'; there are small, the names of backbones (did you mean small"),
    ("folder:hrnet_w18_ocr,small", "unknown option 'small'"),
    ("synthetic:hrnet_w18_ocr,v17", "unknown option 'v17'"),
    ("cityscapes:", None),
    ("cityscapes", None),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "message"), WRONG_SPECS)
def test_specs(spec, message):
    if message is None:
        assert config.load(spec).model.name == "hrnet_w48_ocr"
        return
    with pytest.raises(InputError) as error:
        config.load(spec)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def get_config(:\n", "line 1: invalid syntax"),
        ("import nonsense_module\n", "fails in line 1: ModuleNotFoundError: No module named 'nonsense_module'"),
        ("x = 3\n", "has no function get_config"),
        ("def get_config():\n    return 3\n", "must return a ConfigDict, found int"),
        ("def get_config():\n    return {}['x']\n", "fails in line 2: KeyError: 'x'"),
        ("def get_config(a):\n    return a\n", "takes an argument, as in NAME:ARGUMENT"),
        (f"{START}    c.train.stepz = 3\n    return c\n", "there is no field train.stepz: did you mean train.steps?"),
        (f"{START}    c.train.steps = 'a'\n",
         "fails in line 4: TypeError"),
    ],
)  # fmt: skip
def test_files(source, message, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(source)
    with pytest.raises(InputError) as error:
        config.load(str(path))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["steps=3"], "a change of the config is --config.FIELD=VALUE, found 'steps=3'"),
        (["--config.train.steps=3", "stray"], "train.steps"),
        (["--config.data.check=perhaps"], "data.check must be True or False, found 'perhaps'"),
        (["--config.train.steps.x=3"], "there is no field train.steps.x: train.steps is no section"),
        (["--config.train.steps=3", "--config.train={'steps': 4}"], "would undo --config.train.steps"),
        (["--config.augment.crop=(1, 'x'"], "augment.crop must be two whole numbers"),
        (["--config.model.options.width=wide"], "model.options.width"),
        (["--config.train={'steps'"], "--config.train is wrong"),
    ],
)
def test_changes(changes, message):
    with pytest.raises(InputError) as error:
        config.load("folder", changes)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_many_faults_are_cut():
    with pytest.raises(InputError, match="and 280 more$"):
        config.typed({"data": {"extra": [{"root": 3}] * 300}})


def test_a_command_ends_with_2_and_writes_nothing(tmp_path):
    arguments = ["--config=folder", "--config.optimizer.learning_rate=-1", f"--workdir={tmp_path / 'run'}"]
    assert "optimizer.learning_rate must be a number above 0, found -1.0" in commands.fails("train.py", *arguments)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["train", "train --dry_run", "eval", "data replay"])
@pytest.mark.parametrize(
    "changes",
    [
        ["--config=synthetic:hrnet_w18_small_v1_ocr", "--config.train.log_every=0", "--config.eval.pad_stride=0"],
        ["--config=lip:ce2p_ocrnet,rmi"],
        [f"--config={commands.ROOT / 'configs' / 'cityscapes.py'}", "--config.train.batch_size=7"],
        ["--config=folder", "--config.train.stepz=3"],
        ["--config=nowhere.py"],
    ],
    ids=str,
)
def test_every_command_that_takes_a_config_refuses(command, changes, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    more = {"eval": ["--checkpoint=c", "--out=o"], "data replay": ["--out=o", "--step=1"]}.get(command, ["--workdir=w"])
    module, *words = command.split()
    commands.fails_here(capsys, module, *words, *changes, *more)
    assert not any(tmp_path.iterdir())
