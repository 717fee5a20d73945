"""Labelled images as records: a byte of label, then the bytes of the pixels."""

import numpy as np


def pack(images: np.ndarray, labels: np.ndarray) -> bytes:
  """Images and labels as records.

  Args:
    images: uint8 [N, ...].
    labels: from 0 to 255, [N].
  """
  pixels = images.reshape(len(images), -1)
  labels = np.asarray(labels).astype(np.uint8)[:, None]
  return np.concatenate([labels, pixels], 1).tobytes()


def unpack(
  content: bytes, shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
  """The images uint8 [N, *shape] and labels int32 [N] of records.

  Raises:
    ValueError: the content ends within a record.
  """
  records = np.frombuffer(content, np.uint8).reshape(-1, 1 + np.prod(shape))
  images = records[:, 1:].reshape(-1, *shape)
  return images, records[:, 0].astype(np.int32)
