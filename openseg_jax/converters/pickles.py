"""What the pickles of a PyTorch file ask for, found before PyTorch reads them, and without running anything.

PyTorch loads with weights_only=True, which refuses code. It believes sizes, though: a file of a hundred bytes can ask
for gigabytes. Here every name becomes a stub, so that a pickle can be read to its end for the sizes of its storages.
"""

import io
import pickle
import pickletools
from typing import Any, BinaryIO

_ITEM_SIZES = {"ComplexDouble": 16, "ComplexFloat": 8, "Double": 8, "Long": 8, "Float": 4, "Int": 4, "Half": 2,
               "BFloat16": 2, "Short": 2}  # fmt: skip  # of the others, 1
_MEMO = ("PUT", "BINPUT", "LONG_BINPUT")  # with the place in a table, which is made as long as that


class Stub:
    """Stands for whatever a pickle names; it takes everything and does nothing."""

    def __new__(cls, *_, **__):
        return super().__new__(cls)

    def __init__(self, *_, **__):
        pass

    def __call__(self, *_, **__):
        return self

    def __setstate__(self, state):
        pass

    def __setitem__(self, key, value):
        pass

    def append(self, item):
        pass

    extend = add = append


class Storages(pickle.Unpickler):
    """Reads one pickle; `sizes` are then the bytes of each storage that it asks for, by key."""

    def __init__(self, file: BinaryIO):
        super().__init__(file)
        self.sizes: dict[str, int] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("builtins", "bytearray"):  # which PyTorch would make as long as the pickle says
            raise pickle.UnpicklingError("it makes a bytearray")
        return type(name, (Stub,), {})

    def persistent_load(self, pid: Any) -> Any:
        if not (isinstance(pid, tuple) and len(pid) >= 5 and isinstance(pid[4], int) and 0 <= pid[4] < 2**48):
            raise pickle.UnpicklingError("it has a storage without a size")
        kind = getattr(pid[1], "__name__", "").removesuffix("Storage")
        self.sizes[str(pid[2])] = pid[4] * _ITEM_SIZES.get(kind, 1)
        return Stub()


def storage_sizes(file: BinaryIO, most: int) -> dict[str, int]:
    """Returns the bytes of each storage that the pickle at the position of a file asks for, and moves behind it.

    Args:
        file: A file that can seek.
        most: The length of the file: nothing in it may ask for more.

    Raises:
        pickle.UnpicklingError: The pickle is damaged, or asks for more than there is.
        ValueError: The same.
    """
    start = file.tell()
    for operation, argument, _ in pickletools.genops(file):
        if operation.name in _MEMO and argument > most:
            raise pickle.UnpicklingError("it numbers more objects than it has bytes")
    length = file.tell() - start
    file.seek(start)
    reader = Storages(io.BytesIO(file.read(length)))
    reader.load()
    if sum(reader.sizes.values()) > most:
        raise pickle.UnpicklingError(f"it asks for {sum(reader.sizes.values())} bytes")
    return reader.sizes
