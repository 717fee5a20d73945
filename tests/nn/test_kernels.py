import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import export

from hyperjax.errors import UserError
from hyperjax.nn.unroll import unroll
from hyperjax.ops import fused_lstm
from tests.nn import small

# JAX 0.11 announced that Pallas' Triton backend will go.
pytestmark = pytest.mark.filterwarnings(
  'ignore:The Pallas Triton backend:DeprecationWarning'
)


def at(name, kernels):
  """A loss of a cell with all of its noise, and where to take it."""
  options = {'kernels': kernels, **small.noise(name)}
  graph, params = small.split(name, **options)

  def loss(params, carry, xs):
    cell = nnx.merge(graph, params)
    carry, hs = unroll(cell, carry, xs, jax.random.key(0))
    weights = small.random_like((carry, hs), seed=3)
    return sum(
      jnp.sum(x * weight)
      for x, weight in zip(
        jax.tree.leaves((carry, hs)), jax.tree.leaves(weights), strict=True
      )
    ), (carry, hs)

  return loss, (params, small.carry(name), small.sequence())


@pytest.mark.parametrize(
  'name', ['ln_lstm', 'ln_hyper_rnn/full/lstm', small.slow('ln_hyper_lstm')]
)
def test_pallas_equals_xla(name):
  results = {}
  for kernels in ('xla', 'pallas'):
    loss, args = at(name, kernels)
    run = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))
    results[kernels] = jax.tree.leaves(run(*args))

  for a, b in zip(results['pallas'], results['xla'], strict=True):
    largest = np.abs(b).max()
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * largest)


# One kernel forward and one backward: that the backward pass finds statistics
# kept means that nothing runs the first again. It is so in the lowered program
# alone, from which what nobody reads is gone. A hyper cell's output, though, is
# read in its own step by products whose kernels' gradients need it, so one
# kernel more makes it anew, as elementwise arithmetic does on the XLA path.
@pytest.mark.parametrize(
  ('name', 'expected', 'platform'),
  [
    ('ln_lstm', 2, 'cuda'),
    ('ln_lstm', 2, 'tpu'),
    ('ln_hyper_lstm', 5, 'tpu'),
    ('lstm', 0, 'tpu'),
    small.slow('ln_hyper_lstm', 5, 'cuda'),
    small.slow('lstm', 0, 'cuda'),
  ],
)
def test_lowers_within_the_scan_with_no_kernel_in_vain(
  name, expected, platform, monkeypatch
):
  small.skip_without_gpu(platform)
  call = {'cuda': '__gpu$xla.gpu.triton', 'tpu': 'tpu_custom_call'}[platform]

  def compiled(*args, interpret, update=fused_lstm.norm_lstm_update, **options):
    assert interpret  # as this is no accelerator
    return update(*args, **options)

  monkeypatch.setattr(fused_lstm, 'norm_lstm_update', compiled)
  loss, args = at(name, 'pallas')
  gradient = jax.grad(loss, argnums=(0, 1, 2), has_aux=True)

  exported = export.export(
    # Only arrays: export cannot write down the tree of a module.
    jax.jit(lambda *args: jax.tree.leaves(gradient(*args))),
    platforms=[platform],
    disabled_checks=[export.DisabledSafetyCheck.custom_call(call)],
  )(*args)

  assert exported.mlir_module().count(f'@{call}') == expected


def test_an_unknown_name_is_answered_with_the_nearest():
  with pytest.raises(UserError, match=r"config\.unroll\.kernels: .*'pallas'"):
    small.build('ln_lstm', kernels='palas')
