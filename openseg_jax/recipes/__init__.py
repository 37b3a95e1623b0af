"""Training recipes by name: a module for each data set, whose `get_config(argument)` returns a config."""
