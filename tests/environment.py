"""The process that tests run in; what they start inherits the variables."""

import gc
import importlib.metadata
import os
import tempfile

# Programs of tests are small and run once or twice, so it is compiling them
# that takes time. XLA_FLAGS that are set, even to nothing, are left alone.
COMPILE_FAST = [
  '--xla_backend_optimization_level=0',
  '--xla_llvm_disable_expensive_passes=true',
  '--xla_cpu_parallel_codegen_split_count=1',
]
if importlib.metadata.version('jaxlib').startswith('0.10.'):
  COMPILE_FAST.append('--xla_cpu_use_fusion_emitters=false')  # gone in 0.11

os.environ.setdefault('JAX_PLATFORMS', 'cpu')
os.environ.setdefault('XLA_FLAGS', ' '.join(COMPILE_FAST))

# Tracing leaves many objects that live as long as their program does. To look
# through them all as often as Python does took an eighth of the time.
gc.set_threshold(200_000, 50, 100)

# Some libraries make temporary folders that they leave behind. They go where
# all is removed at the end, and pytest's own stay where they are looked for.
if not os.environ.get('PYTEST_DEBUG_TEMPROOT'):
  os.environ['PYTEST_DEBUG_TEMPROOT'] = tempfile.gettempdir()
  temporary = tempfile.TemporaryDirectory(
    prefix='hj-', ignore_cleanup_errors=True
  )
  os.environ['TMPDIR'] = tempfile.tempdir = temporary.name
