"""What the rest of the package knows of a head."""

from flax import nnx


class Head(nnx.Module):
    """taps -> a dict of logits (N, h, w, channels). Made as Head(taps, num_classes, norm, **options).

    main_output: which of the outputs is the segmentation. full_size: whether outputs are upsampled to the images.
    needs_classes: whether num_classes means anything. needs_labels: whether it is called with `labels`, a FeatureMap
    (N, H, W, 1) of class ids, -1 for pixels to ignore.
    """

    main_output = "out"
    full_size = True
    needs_classes = True
    needs_labels = False
