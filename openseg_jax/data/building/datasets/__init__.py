"""The builders, one benchmark each: which archives it needs and where images and labels lie in them."""

from openseg_jax.data.building.datasets.ade20k import Ade20k
from openseg_jax.data.building.datasets.camvid import CamVid
from openseg_jax.data.building.datasets.celeba import CelebA
from openseg_jax.data.building.datasets.cityscapes import Cityscapes
from openseg_jax.data.building.datasets.coco_stuff import CocoStuff10k, CocoStuff164k
from openseg_jax.data.building.datasets.human_parsing import Atr, Cihp, Lip
from openseg_jax.data.building.datasets.mapillary import Mapillary
from openseg_jax.data.building.datasets.oxford_pets import OxfordPets
from openseg_jax.data.building.datasets.pascal_context import PascalContext
from openseg_jax.data.building.datasets.pascal_voc import PascalVoc

BUILDERS = {
    builder.name: builder
    for builder in (Cityscapes, Ade20k, Lip, Atr, Cihp, PascalContext, CocoStuff10k, CocoStuff164k, Mapillary, CelebA,
                    PascalVoc, CamVid, OxfordPets)
}  # fmt: skip
