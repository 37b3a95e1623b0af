"""Configs of openseg.pytorch as configs of this package."""
