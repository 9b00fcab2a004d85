"""Statistics against scipy, closed forms and simulation."""

import subprocess
import sys

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import binom, binomtest, false_discovery_control, norm
from sklearn.metrics import f1_score

from evals.stats.bootstrap import (
    bootstrap_accuracy_difference,
    bootstrap_f1,
    bootstrap_f1_difference,
    bootstrap_ratio,
    bootstrap_ratio_difference,
)
from evals.stats.stats import (
    chance_band,
    clustered_error,
    detectable_drop,
    holm,
    mcnemar,
    paired_drop,
    tango_bounds,
    verdict,
    wilson,
)


def answers(rng, n, both=0.5, lost=0.1, gained=0.1):
    """Paired booleans with the given shares of right-right, right-wrong, wrong-right."""
    kind = rng.choice(4, size=n, p=[both, lost, gained, 1 - both - lost - gained])
    return (kind == 0) | (kind == 1), (kind == 0) | (kind == 2)


def test_a_planted_change_is_seen_and_a_planted_rest_is_not():
    """Answers altered on known items give exactly the known counts and scipy's p-value."""
    rng = np.random.default_rng(22)
    drawn = [tuple(int(x) for x in rng.integers(0, 60, size=2)) for _ in range(50)]
    for lost, gained in ((0, 0), (30, 30), (80, 20), (5, 60), *drawn):
        base = rng.random(1000) < 0.6
        arm = base.copy()
        arm[rng.choice(np.flatnonzero(base), lost, replace=False)] = False
        arm[rng.choice(np.flatnonzero(~base), gained, replace=False)] = True
        found, test = paired_drop(base, arm), mcnemar(base, arm)
        assert (found.lost, found.gained) == (test.lost, test.gained) == (lost, gained)
        assert found.drop == pytest.approx((lost - gained) / 1000)
        expected = binomtest(lost, lost + gained, 0.5).pvalue if lost + gained else 1.0
        assert found.p_value == test.p_value == pytest.approx(expected)
        assert found.lower <= found.drop <= found.upper
        assert found.detectable == detectable_drop(1000, (lost + gained) / 1000)
    with pytest.raises(ValueError, match="shapes"):
        mcnemar(base, base[:5])


def test_null_rejections_stay_under_alpha():
    rng = np.random.default_rng(1)
    nulls = [mcnemar(*answers(rng, 400)).p_value for _ in range(2000)]
    assert np.mean(np.array(nulls) <= 0.05) <= 0.06
    planted = [mcnemar(*answers(rng, 400, lost=0.2, gained=0.05)).p_value for _ in range(200)]
    assert np.mean(np.array(planted) <= 0.05) > 0.95


def test_wilson_and_chance_band():
    assert wilson(30, 40) == pytest.approx((0.5981, 0.8581), abs=1e-4)
    assert wilson(0, 20).low == 0.0
    assert wilson(0, 20).high == pytest.approx(1.96**2 / (20 + 1.96**2), abs=1e-3)
    for n in (20, 100, 1140, 14042):
        low, high = chance_band(n)
        inside = binom.cdf(round(high * n), n, 0.25) - binom.cdf(round(low * n) - 1, n, 0.25)
        assert inside >= 0.95
        narrower = binom.cdf(round(high * n) - 1, n, 0.25) - binom.cdf(round(low * n), n, 0.25)
        assert narrower < 0.95
    assert chance_band(14042) == pytest.approx((0.2428, 0.2572), abs=2e-4)


def test_wilson_covers():
    rng = np.random.default_rng(2)
    covered = []
    for share in (0.1, 0.5, 0.9):
        for successes in rng.binomial(150, share, size=400):
            low, high = wilson(successes, 150)
            covered.append(low <= share <= high)
    assert 0.93 <= np.mean(covered) <= 0.97


def score_statistic(d, lost, gained, n):
    """Tango's statistic with the share gained found by maximizing the likelihood numerically."""

    def minus_log_likelihood(q):
        shares = np.array([q + d, q, 1 - 2 * q - d])
        return -float((np.array([lost, gained, n - lost - gained]) * np.log(shares)).sum())

    bounds = (max(0.0, -d) + 1e-12, (1 - d) / 2 - 1e-12)
    q = minimize_scalar(
        minus_log_likelihood, bounds=bounds, method="bounded", options={"xatol": 1e-12}
    ).x
    return (lost - gained - n * d) / np.sqrt(n * (2 * q + d * (1 - d)))


def test_tango_bounds_solve_their_equation():
    rng = np.random.default_rng(15)
    z = norm.ppf(0.95)
    for _ in range(30):
        n = int(rng.integers(20, 500))
        lost, gained = (int(x) for x in rng.integers(1, n // 5 + 1, size=2))
        low, high = tango_bounds(lost, gained, n)
        assert score_statistic(low, lost, gained, n) == pytest.approx(z, abs=1e-3)
        assert score_statistic(high, lost, gained, n) == pytest.approx(-z, abs=1e-3)


def test_tango_bounds_cover():
    # No discordant pair: z^2 / (n + z^2), never certainty.
    z2 = norm.ppf(0.95) ** 2
    assert tango_bounds(0, 0, 50) == pytest.approx((-z2 / (50 + z2), z2 / (50 + z2)))
    assert tango_bounds(0, 50, 50).low == -1.0
    rng = np.random.default_rng(3)
    true_drop, under, over = 0.04, [], []
    for _ in range(1500):
        lost, gained, _ = rng.multinomial(300, [0.08, 0.04, 0.88])
        bounds = tango_bounds(int(lost), int(gained), 300)
        under.append(bounds.low <= true_drop)
        over.append(true_drop <= bounds.high)
    assert 0.93 <= np.mean(under) <= 0.97
    assert 0.93 <= np.mean(over) <= 0.97


def test_tango_bounds_mirror_and_widen():
    rng = np.random.default_rng(4)
    for _ in range(100):
        n = int(rng.integers(3, 300))
        lost, gained, _ = (int(x) for x in rng.multinomial(n, [0.2, 0.2, 0.6]))
        low, high = tango_bounds(lost, gained, n)
        assert -1 <= low <= (lost - gained) / n <= high <= 1
        assert tango_bounds(gained, lost, n) == pytest.approx((-high, -low), abs=1e-9)
        wide_low, wide_high = tango_bounds(lost, gained, n, confidence=0.99)
        assert wide_low <= low
        assert high <= wide_high


def test_clustered_error():
    rng = np.random.default_rng(5)
    values = rng.normal(size=400)
    alone = clustered_error(values, [str(i) for i in range(400)])
    assert alone == pytest.approx(values.std() / 20)
    # Copies in a cluster carry no information: the error is that of the distinct values.
    copied = np.repeat(values[:100], 4)
    clusters = [str(i // 4) for i in range(400)]
    assert clustered_error(copied, clusters) == pytest.approx(values[:100].std() / 10)
    names = [str(i) for i in rng.integers(0, 20, 400)]
    sums = [values[[n == name for n in names]].sum() for name in set(names)]
    counts = [names.count(name) for name in set(names)]
    centred = np.array(sums) - np.array(counts) * values.mean()
    assert clustered_error(values, names) == pytest.approx(np.sqrt((centred**2).sum()) / 400)


def test_clusters_widen_the_bounds_of_a_drop():
    rng = np.random.default_rng(6)
    base = np.ones(600, dtype=bool)
    clusters = [str(i // 100) for i in range(600)]
    arm = np.ones(600, dtype=bool)
    arm[:100] = rng.random(100) < 0.2  # one subject is forgotten, five are not
    alone, by_subject = paired_drop(base, arm), paired_drop(base, arm, clusters)
    assert by_subject.drop == alone.drop
    assert by_subject.clustered_error > 3 * alone.standard_error
    assert by_subject.upper > alone.upper
    assert by_subject.lower < alone.lower
    assert alone.clustered_error is None


def test_holm():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    rng = np.random.default_rng(7)
    rejected = [min(holm(list(rng.random(57)))) <= 0.05 for _ in range(2000)]
    assert np.mean(rejected) <= 0.06
    p = list(rng.random(20) ** 3)
    assert all(h >= f - 1e-12 for h, f in zip(holm(p), false_discovery_control(p), strict=True))


def test_detectable_drop_is_detected_in_four_of_five():
    assert detectable_drop(14042, 0.10) == pytest.approx(0.0075, abs=1e-4)
    assert detectable_drop(14042, 0.20) == pytest.approx(0.0106, abs=1e-4)
    n, discordance = 3000, 0.15
    drop = detectable_drop(n, discordance)
    rng = np.random.default_rng(8)
    shares = [(discordance + drop) / 2, (discordance - drop) / 2, 1 - discordance]
    counts = rng.multinomial(n, shares, size=1000)
    found = [binomtest(int(a), int(a + b), 0.5).pvalue <= 0.05 for a, b, _ in counts]
    assert 0.76 <= np.mean(found) <= 0.84


def test_verdicts():
    assert verdict(-0.01, 0.009, 0.01) == "kept"
    assert verdict(0.011, 0.03, 0.01) == "broken"
    assert verdict(0.0, 0.02, 0.01) == "inconclusive"
    rng = np.random.default_rng(9)
    found = {"kept": 0, "broken": 0, "inconclusive": 0}
    for _ in range(400):  # the true drop is exactly the budget: each claim is wrong, 5% of the time
        base, arm = answers(rng, 800, 0.5, 0.08, 0.04)
        drop = paired_drop(base, arm)
        found[verdict(drop.lower, drop.upper, 0.04)] += 1
    assert found["kept"] <= 0.08 * 400
    assert found["broken"] <= 0.08 * 400
    big = paired_drop(*answers(rng, 14042, 0.5, 0.11, 0.05))
    assert verdict(big.lower, big.upper, 0.01) == "broken"
    small = paired_drop(*answers(rng, 60, 0.5, 0.05, 0.05))
    assert verdict(small.lower, small.upper, 0.01) == "inconclusive"


def test_accuracy_bootstrap_equals_resampling_of_questions():
    rng = np.random.default_rng(10)
    base, arm = answers(rng, 250, 0.5, 0.15, 0.05)
    fast = bootstrap_accuracy_difference(base, arm, 20_000, seed=0)
    rows = rng.integers(0, 250, size=(20_000, 250))
    slow = (arm[rows].astype(float) - base[rows]).mean(axis=1)
    assert fast.value == pytest.approx(arm.mean() - base.mean())
    assert fast.low == pytest.approx(np.quantile(slow, 0.025), abs=0.005)
    assert fast.high == pytest.approx(np.quantile(slow, 0.975), abs=0.005)
    assert fast.low <= fast.lower <= fast.value <= fast.upper <= fast.high
    assert fast == bootstrap_accuracy_difference(base, arm, 20_000, seed=0)
    small = [bootstrap_accuracy_difference(base, arm, 50, seed=seed) for seed in range(5)]
    assert len(set(small)) > 1


def test_f1_bootstrap_uses_sklearns_f1():
    rng = np.random.default_rng(11)
    gold = rng.choice(list("abcd"), size=60, p=[0.5, 0.3, 0.15, 0.05])
    guess = np.where(rng.random(60) < 0.6, gold, rng.choice(list("abcx"), size=60))
    interval = bootstrap_f1(list(gold), list(guess), 400, seed=3)
    draws = np.random.default_rng(3).integers(0, 60, size=(400, 60))
    values = [
        f1_score(
            gold[d], guess[d], labels=sorted(set(gold[d])), average="weighted", zero_division=0
        )
        for d in draws
    ]
    assert interval == pytest.approx((np.quantile(values, 0.025), np.quantile(values, 0.975)))


def test_f1_difference_is_paired():
    rng = np.random.default_rng(12)
    gold = [str(x) for x in rng.integers(0, 6, 300)]
    base = [g if rng.random() < 0.6 else "0" for g in gold]
    same = bootstrap_f1_difference(gold, base, base, 200, seed=0)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    better = [g if i % 10 == 0 else b for i, (g, b) in enumerate(zip(gold, base, strict=True))]
    paired = bootstrap_f1_difference(gold, base, better, 500, seed=0)
    alone = bootstrap_f1(gold, base, 500, seed=0)
    assert paired.low > 0
    assert paired.high - paired.low < 0.6 * (alone.high - alone.low)
    expected = [f1_score(gold, x, average="weighted") for x in (base, better)]
    assert paired.value == pytest.approx(expected[1] - expected[0])


def test_bits_per_byte_intervals_cover_and_pair():
    rng = np.random.default_rng(13)
    covered = []
    for seed in range(300):
        sizes = rng.lognormal(6, 0.5, size=80)
        bits = sizes * rng.normal(1.2, 0.2, size=80)
        low, high = bootstrap_ratio(bits, sizes, 300, seed)
        covered.append(low <= 1.2 <= high)
    assert 0.90 <= np.mean(covered) <= 0.98
    change = bootstrap_ratio_difference(bits, bits + 0.05 * sizes, sizes, 300, seed=0)
    assert change.value == pytest.approx(0.05)
    assert (change.low, change.high) == pytest.approx((0.05, 0.05))


@pytest.mark.slow
def test_bootstrap_intervals_cover_95_percent():
    """Of a ratio of sums over documents, and of the weighted F1 over rows, whose true value is
    that of a population a thousand times as large."""
    rng = np.random.default_rng(20)
    covered = []
    for seed in range(1000):
        sizes = rng.lognormal(6, 0.5, size=200)
        bits = sizes * rng.normal(1.2, 0.2, size=200)
        low, high = bootstrap_ratio(bits, sizes, 500, seed)
        covered.append(low <= 1.2 <= high)
    assert 0.93 <= np.mean(covered) <= 0.97

    def rows(n):
        gold = rng.choice(list("abcdef"), size=n, p=[0.4, 0.2, 0.15, 0.1, 0.1, 0.05])
        return gold, np.where(rng.random(n) < 0.6, gold, rng.choice(list("abcdefx"), size=n))

    true = f1_score(*rows(500_000), labels=list("abcdef"), average="weighted", zero_division=0)
    covered = []
    for seed in range(1000):
        gold, guess = rows(500)
        low, high = bootstrap_f1(list(gold), list(guess), 500, seed)
        covered.append(low <= true <= high)
    assert 0.93 <= np.mean(covered) <= 0.97


def test_a_paired_bootstrap_covers_the_difference():
    rng = np.random.default_rng(21)
    covered = []
    for seed in range(1000):
        base, arm = answers(rng, 400, 0.5, 0.12, 0.06)
        found = bootstrap_accuracy_difference(base, arm, 500, seed)
        covered.append(found.low <= -0.06 <= found.high)
    assert 0.93 <= np.mean(covered) <= 0.97


def test_chunks_change_nothing(monkeypatch):
    rng = np.random.default_rng(14)
    bits, sizes = rng.random(50), np.ones(50)
    whole = bootstrap_ratio(bits, sizes, 1000, seed=0)
    monkeypatch.setattr("evals.stats.bootstrap._CHUNK_DRAWS", 1000)
    assert bootstrap_ratio(bits, sizes, 1000, seed=0) == pytest.approx(whole)


def test_reports_need_no_torch():
    code = (
        "import sys, evals.stats.bootstrap, evals.records, evals.summarize\n"
        "heavy = {'torch', 'transformers', 'lm_eval', 'datasets'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
