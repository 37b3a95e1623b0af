"""Configs: their schema, the check at the entrance, and the typed object that the rest of the package takes."""

from openseg_jax.config.check import typed as typed
from openseg_jax.config.load import load as load
from openseg_jax.config.load import recipes as recipes
from openseg_jax.config.schema import (
    AugmentSettings,
    Ce2pSettings,
    CollateSettings,
    Config,
    DataSettings,
    EvalSettings,
    ExtraData,
    LossSettings,
    MeshSettings,
    ModelSettings,
    NormalizationSettings,
    OptimizerSettings,
    PlateauSettings,
    PretrainedSettings,
    ResizeSettings,
    RmiSettings,
    ScheduleSettings,
    SegFixSettings,
    SyntheticSettings,
    TrainSettings,
    WarmupSettings,
)
