import numpy as np
import pytest

from hyperjax.pictures import kernels


def test_filters_lie_by_output_row_and_input_column():
  rng = np.random.default_rng(0)
  kernel = rng.normal(size=(3, 3, 4, 5)).astype(np.float32)

  picture = kernels.grid(kernel)

  assert picture.shape == (5 * 4 - 1, 4 * 4 - 1)
  for n in range(4):
    for m in range(5):
      cell = picture[4 * m : 4 * m + 3, 4 * n : 4 * n + 3]
      np.testing.assert_array_equal(cell, kernel[:, :, n, m])
  assert np.isnan(picture[3]).all() and np.isnan(picture[:, 3]).all()


@pytest.mark.parametrize('ending', ['png', 'svg'])
def test_networks_of_different_depth_share_a_picture(tmp_path, ending):
  one = {'convolution 1': np.ones((3, 3, 3, 16))}
  two = {'first': np.zeros((3, 3, 16, 16)), 'last': np.ones((3, 3, 64, 64))}
  path = tmp_path / f'kernels.{ending}'

  kernels.kernel_grids(path, {'plain': one, 'hyper': two})

  assert path.stat().st_size > 1_000


def test_nothing_to_draw_is_an_error(tmp_path):
  with pytest.raises(ValueError, match='no kernels'):
    kernels.kernel_grids(tmp_path / 'x.png', {})


def test_the_plane_is_that_of_the_largest_spread():
  rng = np.random.default_rng(0)
  scores = rng.normal(size=(200, 2)) * [5.0, 2.0]
  axes = np.linalg.qr(rng.normal(size=(7, 7)))[0][:2]
  points = scores @ axes + 3.0

  plane, shares = kernels.principal_plane(points)

  covariance = np.cov(plane.T)
  expected = np.linalg.eigvalsh(np.cov(points.T))[::-1][:2]
  np.testing.assert_allclose(np.diag(covariance), expected, rtol=1e-6)
  np.testing.assert_allclose(covariance[0, 1], 0, atol=1e-8)
  assert shares.sum() == pytest.approx(1.0)


def test_two_points_make_no_plane():
  with pytest.raises(ValueError, match='2 embeddings make no plane'):
    kernels.principal_plane(np.ones((2, 5)))


def test_a_map_of_equal_embeddings_is_drawn(tmp_path):
  path = tmp_path / 'map.png'
  kernels.embedding_map(path, np.ones((4, 3)), ['a', 'a', 'b', 'b'])
  assert path.stat().st_size > 1_000
