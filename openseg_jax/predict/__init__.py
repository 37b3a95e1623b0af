"""Segments images of your own: files, folders, patterns, lists of files, videos.

    openseg predict --checkpoint=DIR street.jpg holiday/ "trip/*.png" --out=DIR

In Python:

    labels = Predictor("DIR")(images)  # a list of uint8 (H, W, 3) RGB arrays of any sizes -> uint8 (H, W) train ids
"""

from openseg_jax.predict.predictor import Predictor as Predictor
from openseg_jax.predict.writing import predict_images as predict_images
