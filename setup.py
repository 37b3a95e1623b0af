from pathlib import Path

from setuptools import find_packages, setup

setup(
    name="openseg_jax",
    version="0.1.0",
    description="HRNet, OCR, OCNet, ISA and SegFix semantic segmentation in JAX and Flax",
    long_description=Path("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.11",
    packages=find_packages(include=["openseg_jax", "openseg_jax.*", "converters", "converters.*"]),
    package_data={"openseg_jax.data": ["tables/*.json"]},
    install_requires=[
        "absl-py>=2.1",
        "array_record>=0.8",
        "flatbuffers>=24.0",
        "flax>=0.12,<0.13",
        "grain>=0.2.18",
        "jax>=0.10,<0.12",
        "matplotlib>=3.9",
        "ml_collections>=1.1",
        "numpy>=2.0",
        "opencv-python-headless>=4.11",
        "optax>=0.2.8",
        "orbax-checkpoint>=0.12",
        "pillow>=11.0",
        "pyyaml>=6.0",
        "rich>=13.0",
        "scipy>=1.11",
        "tensorboardX>=2.6",
        "tensorflow-datasets>=4.9.10",
    ],
    extras_require={
        "cuda": ["jax[cuda13]>=0.10,<0.12"],
        "torch": ["torch>=2.6"],
        "test": ["pytest>=8.0", "pytest-xdist>=3.6", "ruff>=0.9"],
    },
)
