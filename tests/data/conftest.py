"""The data set of streets, once for all tests, and a copy of it that a test may spoil."""

import json
import shutil
from pathlib import Path

import pytest

from tests.data.streets import STREET, DataSet, write


@pytest.fixture(scope="session")
def streets(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("streets")
    write(root)
    return root


@pytest.fixture
def data(streets, tmp_path) -> DataSet:
    shutil.copytree(streets, tmp_path / "data")
    return DataSet(tmp_path / "data", json.loads(json.dumps(STREET)))
