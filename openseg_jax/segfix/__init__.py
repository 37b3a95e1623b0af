"""SegFix (Yuan et al., ECCV 2020, arXiv:2007.04269): ground truth, direction codes, refinement of label maps."""
