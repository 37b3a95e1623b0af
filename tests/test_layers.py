"""Imports of the package only go down."""

import ast
from pathlib import Path

import openseg_jax

ROOT = Path(openseg_jax.__file__).parent
# From top to bottom. What stands on one line does not import each other. Every __main__.py is a command.
LAYERS = """
cli
recipes
programs
evaluation segfix training export predict
inference
converters agreement
peers
checkpoints sharding
metrics
losses
data
compiled visualize page plots
config
labels
models
console trees results
files
errors
text
"""
HEIGHT = {unit: -height for height, line in enumerate(LAYERS.split("\n")) for unit in line.split()}


def imports(path: Path):
    """Yields the units that a module imports, and the lines on which it does."""
    tree = ast.parse(path.read_text())
    # what stands under `if __name__ == "__main__"` is a command
    tree.body = [node for node in tree.body if not (isinstance(node, ast.If) and "__main__" in ast.unparse(node.test))]
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno} is a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            package, _, rest = f"{name}.".partition(".")
            if package == "openseg_jax" and not rest.startswith("__"):
                yield rest.partition(".")[0], node.lineno
            assert package not in ("configs", "tests", "benchmarks"), f"{path}:{node.lineno} imports {name}"


def units():
    """Yields each module with the unit it is of: a folder of the package, or a module at its top."""
    for path in sorted(ROOT.rglob("*.py")):
        if path.name != "__main__.py" and path != ROOT / "__init__.py":
            yield path, path.relative_to(ROOT).with_suffix("").parts[0]


def test_imports_go_down():
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {imported}"
        for path, unit in units()
        for imported, line in imports(path)
        if imported != unit and HEIGHT[imported] >= HEIGHT[unit]
    ]
    assert not wrong, "\n" + "\n".join(wrong)


def test_every_part_of_the_package_has_a_layer():
    assert {unit for _, unit in units()} == HEIGHT.keys()
