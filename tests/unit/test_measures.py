"""What the fidelity benchmark says of sets of pictures."""

import numpy as np
import pytest

pytest.importorskip("tqdm")

from benchmarks.measures import kernel_distance


def test_two_sets_of_one_distribution_are_no_distance_apart() -> None:
    """Its mean over many pairs of sets is 0, with small ones too: it is unbiased."""
    rng = np.random.default_rng(0)
    distances = [kernel_distance(rng.normal(size=(60, 8)), rng.normal(size=(20, 8))) for _ in range(200)]
    assert abs(np.mean(distances)) < 3 * np.std(distances) / np.sqrt(len(distances))


@pytest.mark.parametrize("change", ["shifted", "duller", "one for all"])
def test_sets_that_differ_in_their_mean_their_spread_or_their_variety_are_apart(change: str) -> None:
    rng = np.random.default_rng(1)
    real, drawn = rng.normal(size=(400, 8)), rng.normal(size=(300, 8))
    changed = {"shifted": drawn + 0.8, "duller": drawn * 0.3, "one for all": np.repeat(drawn[:1], 300, 0)}
    assert kernel_distance(real, changed[change]) > 3 * abs(kernel_distance(real, drawn)) + 0.05


def test_the_scale_of_a_feature_does_not_matter() -> None:
    rng = np.random.default_rng(2)
    real, drawn = rng.normal(size=(64, 4)), rng.normal(size=(32, 4)) + 0.3
    units = np.array([1, 10, 1e3, 1e-3])
    assert kernel_distance(real * units, drawn * units) == pytest.approx(
        kernel_distance(real, drawn), rel=0.01
    )
