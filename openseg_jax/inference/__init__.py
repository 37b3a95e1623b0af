"""Inference over images of any sizes with few compiled programs."""
