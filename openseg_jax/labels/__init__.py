"""Label maps: what their ids mean, and their geometry (boundaries, distances, directions, refinement)."""
