"""Metadata and dependencies; tool settings are in pyproject.toml."""

import pathlib

from setuptools import find_packages, setup

here = pathlib.Path(__file__).parent
version = next(
  line.split("'")[1]
  for line in (here / 'hyperjax' / '__init__.py').read_text().splitlines()
  if line.startswith('__version__')
)
# Engines of scripts/sweep.py.
RAY = ['ray[tune]>=2.50']
SLURM = ['submitit>=1.5']
DOCS = ['furo>=2025.12.19', 'myst-nb>=1.4', 'sphinx>=9.0']

setup(
  name='hyperjax',
  version=version,
  description='HyperNetworks (Ha, Dai, Le 2016) in JAX and Flax',
  long_description=(here / 'README.md').read_text(),
  long_description_content_type='text/markdown',
  license='Apache-2.0',
  packages=find_packages(include=['hyperjax', 'hyperjax.*']),
  python_requires='>=3.11',
  install_requires=[
    'absl-py>=2.1',
    'flax>=0.12.8',
    'Hershey-Fonts>=2.1',
    'importlib_resources>=6.0',  # tfds needs it and does not declare it
    'jax>=0.10.2,<0.13',
    'jinja2>=3.1',
    'markdown-it-py>=4.0',
    'matplotlib>=3.10.7',
    'ml_collections>=1.1',
    'numpy>=2.0',
    'optax>=0.2.8',
    'optuna>=5.0',
    'orbax-checkpoint>=0.12.8',
    'pillow>=11.0',
    'requests>=2.31',
    'safetensors>=0.5',
    'sacrebleu>=2.5',
    'sentencepiece>=0.2.2',
    'tensorboardX>=2.6.2',
    'tensorflow-datasets>=4.9.10',
    'tqdm>=4.66',
  ],
  extras_require={
    'gpu': ['jax[cuda12]>=0.10.2,<0.13'],
    'gpu-cuda13': ['jax[cuda13]>=0.10.2,<0.13'],
    'tpu': ['jax[tpu]>=0.10.2,<0.13'],
    # For --mode=compile, on machines without such a device.
    'compile-gpu': ['jax[cuda12]>=0.10.2,<0.13'],
    'compile-tpu': ['jax[tpu]>=0.10.2,<0.13'],
    'tensorflow': ['tensorflow>=2.18'],
    'bench': ['torch>=2.6'],  # peers of scripts/bench.py
    'ray': RAY,
    'slurm': SLURM,
    'docs': DOCS,
    'dev': [
      'hypothesis>=6.100',
      'ipykernel>=7.0',
      'nbclient>=0.10.2',
      'nbformat>=5.10',
      'pytest>=8.4',
      'pytest-xdist>=3.6',
      'ruff>=0.14',
      'uv>=0.9',  # scripts/bounds.sh, and the lock file
      *DOCS,
      *RAY,
      *SLURM,
    ],
  },
  classifiers=[
    'License :: OSI Approved :: Apache Software License',
    'Programming Language :: Python :: 3.11',
    'Programming Language :: Python :: 3.12',
    'Topic :: Scientific/Engineering :: Artificial Intelligence',
  ],
)
