"""PyTorch checkpoints of openseg.pytorch <-> openseg_jax variables.

    variables = converters.import_state_dict(state_dict, model)
    state_dict = converters.export_state_dict(variables, model)

and on the command line `python -m converters import|inspect|export`. The only package that imports torch.
"""

from openseg_jax.converters.convert import ConversionError, export_state_dict, import_state_dict, normalise_keys
from openseg_jax.converters.files import read_checkpoint, read_state_dict, write_state_dict
from openseg_jax.converters.recognise import Recognised, recognise

__all__ = [
    "ConversionError",
    "Recognised",
    "export_state_dict",
    "import_state_dict",
    "normalise_keys",
    "read_checkpoint",
    "read_state_dict",
    "recognise",
    "write_state_dict",
]
