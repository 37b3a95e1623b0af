"""Conversion between checkpoints of openseg.pytorch and variables of openseg_jax.

    variables = converters.import_state_dict(state_dict, model)
    state_dict = converters.export_state_dict(variables, model)

`openseg convert import|export|inspect|verify` does the same from the command line. PyTorch is imported when a function
needs it, so this package imports without it.
"""

from openseg_jax.converters.convert import ConversionError, export_state_dict, import_state_dict, normalise_keys
from openseg_jax.converters.files import read_checkpoint, read_state_dict, write_state_dict
from openseg_jax.converters.loading import fingerprint, load, read_recognised
from openseg_jax.converters.recognition import Recognised, recognise

__all__ = [
    "ConversionError",
    "Recognised",
    "export_state_dict",
    "fingerprint",
    "import_state_dict",
    "load",
    "normalise_keys",
    "read_checkpoint",
    "read_recognised",
    "read_state_dict",
    "recognise",
    "write_state_dict",
]
