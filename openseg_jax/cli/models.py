"""Lists the named models: parameters, multiply-adds, and what is known of them.

    openseg models
    openseg models hrnet_w48_ocr isanet --num_classes 150
    openseg models --backbones

Multiply-adds are those of the convolutions and matrix products of one image, counted in the traced program. mIoU is
what the original publishes for its checkpoint of that model: Cityscapes val, trained on train, single scale. The
747.5 G that are published for HRNet-W48 are those of its authors' 1x1 head; the original's hrnet_w48 has a 3x3 one.
"""

from openseg_jax.cli.arguments import add_command

PAPERS = {
    "HRNet": "arXiv:1908.07919",
    "FCN": "arXiv:1411.4038",
    "OCNet": "arXiv:1809.00916",
    "ISA": "arXiv:1907.12273",
    "OCR": "arXiv:1909.11065",
    "CE2P": "arXiv:1809.05996",
    "SegFix": "arXiv:2007.04269",
}
# mIoU in percent, from the MODEL_ZOO of openseg.pytorch, with the backbones that are the default here.
PUBLISHED = {
    "hrnet_w48": "80.6",
    "hrnet_w48_ocr": "81.09",
    "base_ocnet": "79.49",
    "isanet": "79.55",
    "spatial_ocrnet": "79.63",
    "spatial_asp_ocrnet": "79.89",
}
SIZES = ((512, 1024), (1024, 2048))


def add(commands) -> None:
    command = add_command(commands, "models", __doc__, run)
    command.add_argument("names", nargs="*", metavar="MODEL", help="all if none is given, which takes a few minutes")
    command.add_argument("--num_classes", type=int, default=19, help="classes of the nets (%(default)s)")
    command.add_argument("--backbones", action="store_true", help="list backbones, with parameters and taps")


def run(arguments) -> None:
    from openseg_jax.console import Console

    show = _backbones(arguments.names) if arguments.backbones else _models(arguments.names, arguments.num_classes)
    Console(width=140).print(show)


def _models(names: list[str], num_classes: int):
    from rich.table import Table

    from openseg_jax import models
    from openseg_jax.console import Console, track
    from openseg_jax.models.counting import multiply_adds, parameters

    for name in names:
        models.default_options(name)  # an unknown name ends here
    table = Table(
        "model", "backbone", "parameters", *(f"{h}x{w}" for h, w in SIZES), "stride", "paper", "mIoU",
        title=f"{num_classes} classes; multiply-adds in 10^9",
    )  # fmt: skip
    for name in track(names or list(models.MODELS), "tracing", console=Console(stderr=True), transient=True):
        recipe = models.MODELS.get(name)
        model = models.create(name, num_classes if recipe and recipe.head.build.needs_classes else None)
        table.add_row(
            name,
            model.spec.backbone,
            f"{parameters(model):,}",
            *(f"{multiply_adds(model, *size) / 1e9:.1f}" for size in SIZES),
            str(model.backbone.taps.high.stride),
            f"{recipe.paper} {PAPERS[recipe.paper]}" if recipe else "",
            PUBLISHED.get(name, ""),
        )
    return table


def _backbones(names: list[str]):
    from rich.table import Table

    from openseg_jax import models
    from openseg_jax.models.counting import parameters

    table = Table("backbone", "parameters", "taps: channels at stride")
    for name in names or list(models.BACKBONES):
        model = models.create(name)
        taps = ", ".join(f"{tap.channels} at {tap.stride}" for tap in model.backbone.taps.maps)
        table.add_row(name, f"{parameters(model):,}", taps)
    return table
