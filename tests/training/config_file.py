"""The run of runs.py as a config file for the commands."""

from tests.training.runs import config


def get_config():
    return config()
