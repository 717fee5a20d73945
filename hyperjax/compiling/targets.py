"""Accelerators by name, for their compilers alone.

XLA's compilers for NVIDIA GPUs and TPUs need no such device, but jax's packages
for them: `pip install 'hyperjax[compile-gpu]'` or `'hyperjax[compile-tpu]'`.
"""

import contextlib
import dataclasses
import importlib
import importlib.util
import os
from collections.abc import Iterator

import jax
from jax.experimental import topologies

from hyperjax.errors import UserError, did_you_mean

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Gpu:
  """An NVIDIA GPU as XLA's compiler wants it described.

  Attributes:
    name: as its driver says it.
    capability: of CUDA.
    cores: multiprocessors.
    fpus: float32 units of a multiprocessor.
    clock_ghz: the highest.
    memory: bytes.
    bandwidth: of the memory, bytes a second.
    l2: bytes of the cache.
    shared: bytes of shared memory of a multiprocessor.
  """

  name: str
  capability: int
  cores: int
  fpus: int
  clock_ghz: float
  memory: int
  bandwidth: int
  l2: int
  shared: int

  @property
  def config(self) -> str:
    """The text of XLA's `GpuTargetConfigProto`."""
    return f"""
      gpu_device_info {{
        threads_per_block_limit: 1024
        threads_per_warp: 32
        shared_memory_per_block: 49152
        shared_memory_per_core: {self.shared}
        shared_memory_per_block_optin: {self.shared - 1024}
        threads_per_core_limit: 2048
        core_count: {self.cores}
        fpus_per_core: {self.fpus}
        block_dim_limit_x: 2147483647
        block_dim_limit_y: 65535
        block_dim_limit_z: 65535
        memory_bandwidth: {self.bandwidth}
        l2_cache_size: {self.l2}
        clock_rate_ghz: {self.clock_ghz}
        device_memory_size: {self.memory}
        cuda_compute_capability {{ major: {self.capability} }}
        registers_per_core_limit: 65536
        registers_per_block_limit: 65536
      }}
      platform_name: "CUDA"
      dnn_version_info {{ major: 9 minor: 8 }}
      runtime_version {{ major: 12 minor: 9 patch: 0 }}
      device_description_str: "{self.name}"
    """


GPUS = {
  'h100': Gpu(
    'NVIDIA H100 80GB HBM3',
    capability=9,
    cores=132,
    fpus=128,
    clock_ghz=1.98,
    memory=84_929_347_584,
    bandwidth=3_352_320_000_000,
    l2=52_428_800,
    shared=233_472,
  ),
  'h200': Gpu(
    'NVIDIA H200',
    capability=9,
    cores=132,
    fpus=128,
    clock_ghz=1.98,
    memory=150_000_000_000,
    bandwidth=4_800_000_000_000,
    l2=52_428_800,
    shared=233_472,
  ),
  'a100': Gpu(
    'NVIDIA A100-SXM4-80GB',
    capability=8,
    cores=108,
    fpus=64,
    clock_ghz=1.41,
    memory=84_987_740_160,
    bandwidth=2_039_000_000_000,
    l2=41_943_040,
    shared=167_936,
  ),
}
# The smallest topology, and the bytes of a chip's memory.
TPUS = {
  'v4': ('2x2x1', 32 * GIB),
  'v5e': ('2x2', 16 * GIB),
  'v5p': ('2x2x1', 95 * GIB),
  'v6e': ('2x2', 32 * GIB),
}


@dataclasses.dataclass(frozen=True)
class Target:
  """Devices to compile for.

  Attributes:
    name: 'h100', 'v5e:4x4' and so on.
    devices: of which nothing can be asked but to compile for them.
    memory: bytes of each.
    gpu: its description, or None for TPUs.
  """

  name: str
  devices: list[jax.Device]
  memory: int
  gpu: Gpu | None

  @contextlib.contextmanager
  def lowering(self) -> Iterator[None]:
    """To lower programs in; Pallas' Triton asks here which GPU it is for."""
    kind = getattr(jax.sharding, 'AbstractDevice', None)
    if self.gpu is None or kind is None:
      yield
      return
    mesh = jax.sharding.AbstractMesh(
      (), (), abstract_device=kind(self.gpu.name, None, 'gpu')
    )
    with jax.sharding.use_abstract_mesh(mesh):
      yield


def find(name: str) -> Target:
  """A target by its name, NAME or NAME:TOPOLOGY.

  To be called before anything else asks jax for devices; from then on the CPU
  is all that this process computes on.

  Args:
    name: of `GPUS` or `TPUS`, which is one device. The topology is a number of
      GPUs, at most 8 on a host, or the chips of a TPU slice along each axis,
      such as 4x4.

  Raises:
    UserError: there is no such target, or its compiler is not installed.
  """
  kind, _, topology = name.partition(':')
  if kind not in GPUS and kind not in TPUS:
    raise UserError(
      f"--target: no '{kind}'{did_you_mean(kind, [*GPUS, *TPUS])}"
    )
  jax.config.update('jax_platforms', 'cpu')
  if kind in GPUS:
    devices = _gpus(name, GPUS[kind], topology or '1')
    return Target(name, devices, GPUS[kind].memory, GPUS[kind])
  smallest, memory = TPUS[kind]
  devices = _tpus(name, kind, topology or smallest)
  return Target(name, devices if topology else devices[:1], memory, None)


def _gpus(name, gpu, count):
  if not count.isdecimal() or not 1 <= int(count) <= 8:
    raise UserError(
      f"--target={name}: '{count}' is no number of GPUs on a host; give 1 to 8"
    )
  plugins = [f'jax_plugins.xla_cuda{version}' for version in (13, 12)]
  _need('NVIDIA GPUs', 'compile-gpu', 'jax_plugins', plugins)
  # There is nothing to try kernels on.
  flags = os.environ.get('XLA_FLAGS', '')
  os.environ['XLA_FLAGS'] = f'{flags} --xla_gpu_autotune_level=0'
  plugin = next(p for p in plugins if importlib.util.find_spec(p))
  with contextlib.suppress(Exception):  # that it is registered already
    importlib.import_module(plugin).initialize()
  shape = f'1x1x{count}'
  return _topology(
    name,
    platform='cuda',
    topology_name=shape,
    topology=shape,
    target_config=gpu.config,
  )


def _tpus(name, kind, topology):
  _need('TPUs', 'compile-tpu', 'libtpu', ['libtpu'])
  os.environ.setdefault('TPU_SKIP_MDS_QUERY', '1')
  os.environ.setdefault('TPU_ACCELERATOR_TYPE', 'v5litepod-4')
  os.environ.setdefault('TPU_WORKER_HOSTNAMES', 'localhost')
  os.environ.setdefault('TPU_MIN_LOG_LEVEL', '3')
  # A lock keeps two processes from one TPU; here there is none.
  os.environ.setdefault('ALLOW_MULTIPLE_LIBTPU_LOAD', '1')
  return _topology(name, platform='tpu', topology_name=f'{kind}:{topology}')


def _need(what, extra, package, modules):
  if importlib.util.find_spec(package) and any(
    map(importlib.util.find_spec, modules)
  ):
    return
  raise UserError(
    f'--target: the compiler for {what} is not installed; pip install '
    f"'hyperjax[{extra}]'"
  )


def _topology(name, **options):
  try:
    return list(topologies.get_topology_desc(**options).devices)
  except Exception as error:  # of C++, by many names
    reason = str(error).strip().split('\n')[0]
    raise UserError(f'--target={name}: no such topology ({reason})') from error
