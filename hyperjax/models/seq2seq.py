"""An encoder and a decoder that reads it by attention (paper, Sec. 4.6).

The network of GNMT (Wu et al. 2016, arXiv 1609.08144), of any cell and size.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike

from hyperjax import by_name
from hyperjax.models.recurrent import build_cells
from hyperjax.nn.attention import AttentionCell, Memory
from hyperjax.nn.embedding import Embedding
from hyperjax.nn.initializers import orthogonal
from hyperjax.nn.linear import Linear
from hyperjax.nn.unroll import unroll
from hyperjax.ops.dropout import dropout
from hyperjax.types import Carry, Cell

# Layers from here on, counted from 0, have their input added to their output.
FIRST_RESIDUAL = 2


class Encoder(nnx.Module):
  """A layer in both directions, and layers above it.

  Args:
    forward: the lowest layer that reads on.
    backward: the one that reads from the end.
    above: the other layers, from the bottom up.
    keep_prob: keep probability of the dropout between layers.
  """

  def __init__(
    self,
    forward: Cell,
    backward: Cell,
    above: Sequence[Cell],
    keep_prob: float = 1.0,
  ):
    self.forward, self.backward = forward, backward
    self.above = nnx.List(above)
    self.keep_prob = keep_prob

  def __call__(
    self, xs: Array, mask: Array, key: Array | None = None, **options
  ) -> Array:
    """Vectors [S, B, E] and a mask [S, B] -> [S, B, H], of one layer [.., 2 H].

    Args:
      xs: of sentences that are padded behind their end.
      mask: true up to the end of each.
      key: PRNG key of all dropout; None means no dropout.
      **options: of `nn.unroll`.
    """
    keys = _split(key, 2 + 2 * len(self.above))
    carry = self.forward.initial_carry(xs.shape[1])
    _, on = unroll(self.forward, carry, xs, keys[0], mask=mask, **options)
    # From the end, the padding comes first, and the carry stands still there.
    carry = self.backward.initial_carry(xs.shape[1])
    _, back = unroll(
      self.backward, carry, xs[::-1], keys[1], mask=mask[::-1], **options
    )
    hs = jnp.concatenate([on, back[::-1]], axis=-1)
    for depth, cell in enumerate(self.above, 1):
      below = dropout(hs, keys[2 * depth], self.keep_prob)
      carry = cell.initial_carry(xs.shape[1])
      _, hs = unroll(
        cell, carry, below, keys[2 * depth + 1], mask=mask, **options
      )
      if depth >= FIRST_RESIDUAL:
        hs = hs + below
    return hs


class Decoder(nnx.Module):
  """A layer that reads the encoder, and layers above that see what it reads.

  Args:
    bottom: reads.
    above: the other layers, whose inputs are [h; w].
    keep_prob: keep probability of the dropout between layers.
  """

  def __init__(
    self, bottom: AttentionCell, above: Sequence[Cell], keep_prob: float = 1.0
  ):
    self.bottom = bottom
    self.above = nnx.List(above)
    self.keep_prob = keep_prob

  def initial_carry(self, batch_size: int) -> tuple[Carry, ...]:
    """One carry a layer."""
    return tuple(
      cell.initial_carry(batch_size) for cell in (self.bottom, *self.above)
    )

  def __call__(
    self,
    carry: tuple[Carry, ...],
    memory: Memory,
    ys: Array,
    key: Array | None = None,
    **options,
  ) -> tuple[tuple[Carry, ...], Array, Array]:
    """Goes on from a carry.

    Args:
      carry: one a layer.
      memory: of the encoder.
      ys: [T, B, E], vectors of the symbols.
      key: PRNG key of all dropout; None means no dropout.
      **options: of `nn.unroll`.

    Returns:
      The carries, outputs [T, B, H], and attention [T, B, S].
    """
    keys = _split(key, 1 + 2 * len(self.above))
    bottom = self.bottom.reading(memory)
    first, outputs = unroll(bottom, carry[0], ys, keys[0], **options)
    hs, read, attention = bottom.parts(outputs)
    carries = [first]
    for depth, cell in enumerate(self.above, 1):
      below = dropout(hs, keys[2 * depth - 1], self.keep_prob)
      new, hs = unroll(
        cell,
        carry[depth],
        jnp.concatenate([below, read], axis=-1),
        keys[2 * depth],
        **options,
      )
      carries.append(new)
      if depth >= FIRST_RESIDUAL:
        hs = hs + below
    return tuple(carries), hs, attention


class Seq2Seq(nnx.Module):
  """Symbols of a sentence, and logits of those of its translation.

  Args:
    encoder: the layers that read.
    decoder: the layers that write.
    hidden_size: width of the decoder's output.
    vocab_size: V, of both languages.
    input_keep_prob: keep probability of dropout on the symbols' vectors.
    output_keep_prob: of dropout on the decoder's output.
    unroll: options of `nn.unroll`.
    dtype: precision of the products, see `ops.product`.
    key: PRNG key of the vectors and the output layer.
  """

  def __init__(
    self,
    encoder: Encoder,
    decoder: Decoder,
    hidden_size: int,
    vocab_size: int,
    *,
    embedding_size: int,
    input_keep_prob: float = 1.0,
    output_keep_prob: float = 1.0,
    unroll: Mapping[str, Any] | None = None,
    dtype: DTypeLike = jnp.float32,
    key: Array,
  ):
    self.unroll = dict(unroll or {})
    self.input_keep_prob = input_keep_prob
    self.output_keep_prob = output_keep_prob
    source_key, target_key, head_key = jax.random.split(key, 3)
    size = vocab_size, embedding_size
    self.source = Embedding(*size, dtype=dtype, key=source_key)
    self.target = Embedding(*size, dtype=dtype, key=target_key)
    self.encoder, self.decoder = encoder, decoder
    self.head = Linear(
      orthogonal(head_key, hidden_size, vocab_size),
      jnp.zeros(vocab_size),
      dtype=dtype,
    )

  def encode(
    self, symbols: Array, mask: Array, key: Array | None = None
  ) -> Memory:
    """Reads sentences: int [B, S] -> what `decode` wants.

    Args:
      symbols: padded behind their end.
      mask: bool [B, S], true up to the end.
      key: PRNG key of all dropout; None means no dropout.
    """
    input_key, key = _split(key, 2)
    xs = self.source(symbols.T)
    xs = dropout(xs, input_key, self.input_keep_prob)
    hs = self.encoder(xs, mask.T, key, **self.unroll)
    return self.decoder.bottom.remember(hs.swapaxes(0, 1), mask)

  def initial_carry(self, batch_size: int) -> Carry:
    """The decoder's carry before the first symbol."""
    return self.decoder.initial_carry(batch_size)

  def decode(
    self,
    carry: Carry,
    memory: Memory,
    symbols: Array,
    key: Array | None = None,
  ) -> tuple[Carry, Array, Array]:
    """Goes on writing behind symbols [B, T].

    Args:
      carry: from `initial_carry`, or of the symbols before.
      memory: of `encode`.
      symbols: integers below V.
      key: PRNG key of all dropout; None means no dropout.

    Returns:
      The carry, logits [B, T, V] and attention [B, T, S].
    """
    input_key, key, output_key = _split(key, 3)
    ys = dropout(self.target(symbols.T), input_key, self.input_keep_prob)
    carry, hs, attention = self.decoder(carry, memory, ys, key, **self.unroll)
    logits = self.head(dropout(hs, output_key, self.output_keep_prob))
    return carry, logits.swapaxes(0, 1), attention.swapaxes(0, 1)


def _split(key, count):
  """As many keys, or None as often."""
  return (None,) * count if key is None else jax.random.split(key, count)


def build(
  *,
  vocab_size: int,
  hidden_size: int,
  embedding_size: int,
  attention_size: int,
  num_layers: int = 1,
  num_encoder_layers: int = 1,
  input_keep_prob: float = 1.0,
  output_keep_prob: float = 1.0,
  unroll: Mapping[str, Any] | None = None,
  dtype: DTypeLike = jnp.float32,
  key: Array,
  **options: Any,
) -> Seq2Seq:
  """The model of `config.model`.

  Args:
    vocab_size: number of symbols; from `config.data`.
    hidden_size: units of each layer; of the lowest of the encoder, in each
      direction.
    embedding_size: width of the symbols' vectors.
    attention_size: units of the attention.
    num_layers: of the decoder.
    num_encoder_layers: of the encoder.
    input_keep_prob: of dropout on the symbols' vectors.
    output_keep_prob: of dropout between layers and on the decoder's output.
    unroll: see `build_cells`; from `config.unroll`.
    dtype: precision of all products; from `config.dtype`.
    key: PRNG key of the initial weights.
    **options: of `build_cells`, and any others that the cell takes.
  """
  memory_size = hidden_size * (2 if num_encoder_layers == 1 else 1)
  above = num_encoder_layers - 1
  # Forward, backward, the rest of the encoder; then the decoder.
  sizes = [
    *(embedding_size, embedding_size),
    *([2 * hidden_size] + [hidden_size] * above)[:above],
    embedding_size + memory_size,
    *[hidden_size + memory_size] * (num_layers - 1),
  ]
  own_key, attention_key, *keys = jax.random.split(key, len(sizes) + 2)
  given = {
    'input_sizes': sizes,
    'hidden_size': hidden_size,
    'unroll': unroll,
    'dtype': dtype,
    'keys': keys,
  }
  by_name.check(
    build_cells, options, given, field='config.model', what="'seq2seq'"
  )
  cells, unroll = build_cells(**options, **given)
  encoder = Encoder(*cells[:2], cells[2 : above + 2], output_keep_prob)
  bottom, *rest = cells[above + 2 :]
  bottom = AttentionCell(
    bottom,
    hidden_size,
    memory_size,
    attention_size,
    dtype=dtype,
    key=attention_key,
  )
  return Seq2Seq(
    encoder,
    Decoder(bottom, rest, output_keep_prob),
    hidden_size,
    vocab_size,
    embedding_size=embedding_size,
    input_keep_prob=input_keep_prob,
    output_keep_prob=output_keep_prob,
    unroll=unroll,
    dtype=dtype,
    key=own_key,
  )
