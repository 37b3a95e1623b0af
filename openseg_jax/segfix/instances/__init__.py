"""Instance predictions in the files of Cityscapes and of COCO, and their refinement by offsets.

Refinement as in SegFix (Yuan, Xie, Chen and Wang, ECCV 2020, arXiv:2007.04269), of each mask alone.
"""

from openseg_jax.segfix.instances.cityscapes import Instance, read_cityscapes, refine_cityscapes, write_cityscapes
from openseg_jax.segfix.instances.coco import (
    decode,
    encode,
    images_of,
    read_coco,
    read_image_names,
    refine_coco,
    write_coco,
)
