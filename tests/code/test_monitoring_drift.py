"""The verdict on a window: its false-alarm rate, what moved, and what is worth an alarm."""

from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from records_rows import NOON
from scipy.stats import binom, ks_2samp, kstest

import monitoring.judge
from monitoring.answer import Answer, Question
from monitoring.drift import Drift, Family, Rule
from monitoring.families import make_families
from monitoring.judge import TESTED_LIVE, TESTED_REFERENCE, answerable, effect, judge, level, sampled
from monitoring.live import LIVE_ROUTES, RowCounts
from monitoring.statistics.relabelling import Floats, Labels, Permuted, permutation_test
from monitoring.tracking import WatchedVersion
from monitoring.window import Window
from monitoring.words import summary
from resunet.descriptors import IMAGE_DESCRIPTORS, PREDICTION_DESCRIPTORS


def rows(seed: int, count: int, shift: float = 0.0) -> Floats:
    return np.random.default_rng(seed).normal(shift, 1, count)


def family(*pairs: tuple[Floats, Floats]) -> Family:
    names = tuple(f"c{place}" for place in range(len(pairs)))
    return Family("input", names, np.stack([r for r, _ in pairs], axis=1), np.stack([x for _, x in pairs], axis=1))


def verdict(*pairs: tuple[Floats, Floats], rule: Rule | None = None) -> Drift:
    return judge([family(*pairs)], rule or Rule())


def frames(seed: int, reference: int = 120, live: int = 60) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A reference of which two thirds were trained on, and live rows like it."""
    rng = np.random.default_rng(seed)
    names = [*IMAGE_DESCRIPTORS, *PREDICTION_DESCRIPTORS]
    known = pd.DataFrame(rng.normal(size=(reference, len(names))), columns=names)
    known["split"] = np.where(np.arange(reference) < reference * 2 // 3, "train", "test")
    known.loc[known["split"] == "train", list(PREDICTION_DESCRIPTORS)] = np.nan
    known["embedding"] = [
        None if split == "train" else rng.normal(size=8).astype(np.float32) for split in known["split"]
    ]
    came = pd.DataFrame(rng.normal(size=(live, len(names))), columns=names)
    came["embedding"] = list(rng.normal(size=(live, 8)).astype(np.float32))
    return known, came


def test_windows_without_drift_raise_alarms_at_the_stated_rate_at_most() -> None:
    windows, alpha = 60, 0.1
    alarms = 0
    for seed in range(windows):
        families, _ = make_families(*frames(seed), min_live=20)
        alarms += judge(families, Rule(alpha, min_effect=0, min_share=0, seed=seed)).verdict == "drift"
    assert alarms <= binom.ppf(0.999, windows, alpha)


def test_a_window_far_larger_than_the_reference_has_to_be_clearer() -> None:
    assert level(0.01, 1, 1, 10_000) == pytest.approx(0.01, rel=0.01)
    assert level(0.01, 2, 400, 400) == pytest.approx(0.005 * 0.1**0.5)
    assert level(0.01, 1, 1_000_000, 300) == pytest.approx(0.001, rel=0.01)


def test_windows_far_larger_than_the_reference_seldom_raise_an_alarm_however_unlucky_it_is() -> None:
    alpha, windows = 0.05, 8
    rng = np.random.default_rng(1)
    references = sorted(rng.normal(size=(200, 60)), key=lambda drawn: kstest(drawn, "norm").statistic)
    # But for six these lie furthest from what they were drawn from, and windows ten times as large see that.
    unlucky, alarms = references[186:194], 0
    for reference in unlucky:
        for _ in range(windows):
            window = rng.normal(size=(600, 1))
            alarms += judge([Family("prediction", ("c",), reference[:, None], window)], Rule(alpha)).verdict == "drift"
    assert alarms <= binom.ppf(0.999, windows * len(unlucky), alpha)


def test_no_more_images_a_side_are_tested_than_make_a_test_better(monkeypatch: pytest.MonkeyPatch) -> None:
    tested = []

    def recorded(live: Labels, *args: Any, **options: Any) -> Permuted:
        tested.append((int(live.sum()), int((~live).sum())))
        return permutation_test(live, *args, **options)

    monkeypatch.setattr(monitoring.judge, "permutation_test", recorded)
    rng = np.random.default_rng(3)
    sizes = {"reference": 2 * TESTED_REFERENCE, "live": 3 * TESTED_LIVE}
    reference, live = (rng.normal(size=(count, 1)) for count in sizes.values())
    for of_reference, of_live in ((reference, live), (reference[:300], live), (reference, live[:20]), (live, live[:1])):
        drift = judge([Family("prediction", ("c",), of_reference, of_live)], Rule())
        asked = min(len(of_live), TESTED_LIVE), min(len(of_reference), TESTED_REFERENCE)
        assert tested.pop() == asked
        assert [test.level for test in drift.tests] == [level(0.01, 1, *asked)]
        # What is told of a descriptor is of all images.
        assert (drift.columns[0].live_rows, drift.columns[0].reference_rows) == (len(of_live), len(of_reference))


def test_a_sample_of_the_images_keeps_what_belongs_to_each() -> None:
    count = 2 * TESTED_REFERENCE
    numbers = np.arange(count, dtype=np.float64)
    pair, whole = (numbers, -numbers), (numbers.astype(np.int64), numbers.astype(np.int64))
    names = numbers.astype(str), numbers.astype(str)
    one = Family("input", ("c",), *(side[:, None] for side in pair), points=pair, clusters=whole, names=names)
    small = sampled(one, np.random.default_rng(0))
    for place, (sign, most) in enumerate(((1, TESTED_REFERENCE), (-1, TESTED_LIVE))):
        chosen = sign * (small.reference, small.live)[place][:, 0]
        assert chosen.size == most == np.unique(chosen).size
        assert small.points is not None and small.clusters is not None and small.names is not None
        assert (sign * small.points[place] == chosen).all() and (small.clusters[place] == chosen).all()
        assert (small.names[place].astype(np.float64) == chosen).all()
        # Of all of them, not only of the first.
        assert abs(chosen.mean() / count - 0.5) < 0.05


def test_the_windows_own_p_value_keeps_to_alpha_as_its_answers_keep_to_their_levels() -> None:
    clear = verdict((rows(0, 300), rows(1, 60, shift=2)), (rows(2, 300), rows(3, 60)))
    still = verdict((rows(0, 300), rows(1, 60)))
    assert clear.verdict == "drift"
    assert clear.p_value is not None
    assert clear.p_value <= 0.01
    assert still.p_value is not None
    assert still.p_value > 0.01


def test_what_moved_most_comes_first() -> None:
    drift = verdict(
        (rows(0, 300), rows(1, 200)),
        (rows(2, 300), rows(3, 200, shift=1)),
        (rows(4, 300), rows(5, 200, shift=-3)),
        (rows(6, 300), rows(7, 200, shift=50)),
        (rows(6, 300), rows(7, 200, shift=90)),
    )
    assert [c.column for c in drift.columns] == ["c4", "c3", "c2", "c1", "c0"]
    assert [c.moved for c in drift.columns] == [True, True, True, True, False]
    assert drift.share_drifted == pytest.approx(0.8)
    assert drift.columns[2].shift == pytest.approx(-3, abs=0.3)


def test_a_trifle_is_no_drift_however_many_rows_show_it() -> None:
    pair = rows(0, 400), rows(1, 400, shift=0.45)
    assert ks_2samp(*pair).pvalue < 1e-6
    assert verdict(pair, rule=Rule(min_effect=0.3, min_share=0.3)).verdict == "no drift"
    assert verdict(pair).verdict == "drift"


def test_the_more_descriptors_the_stricter_each() -> None:
    pair = (rows(0, 200), rows(1, 100, shift=0.42))
    alone = verdict(pair).columns[0].p_value
    among = verdict(pair, *((rows(s, 200), rows(s + 50, 100)) for s in range(2, 23)))
    assert next(c for c in among.columns if c.column == "c0").p_value > 3 * alone


def test_constant_descriptors_break_nothing() -> None:
    still = verdict((np.full(300, 0.1), np.full(50, 0.1)), (rows(0, 300), rows(1, 50)))
    assert still.verdict == "no drift"
    assert next(c for c in still.columns if c.column == "c0").shift is None
    moved = verdict((np.full(300, 256.0), np.full(50, 320.0)), (rows(0, 300), rows(1, 50)))
    assert moved.verdict == "drift"
    assert (moved.columns[0].column, moved.columns[0].effect, moved.columns[0].shift) == ("c0", 1.0, None)
    assert verdict((rows(0, 300), np.zeros(50))).verdict == "drift"
    assert verdict((np.zeros(30), np.zeros(20))).verdict == "no drift"


def test_a_few_images_like_none_of_the_reference_are_drift_though_no_descriptor_moved() -> None:
    rng = np.random.default_rng(4)
    reference, live = rng.normal(size=(300, 6)), rng.normal(size=(50, 6))
    live[:5] = np.array([[-5], [5], [-5], [5], [-5]]) * [1, -1, 1, -1, 1, -1]
    one = Family("input", tuple("abcdef"), reference, live)
    drift = judge([one], Rule())
    assert [test.name for test in drift.alarms] == ["strangers"]
    assert drift.verdict == "drift"
    assert not drift.moved
    assert drift.alarms[0].effect == pytest.approx(0.1, abs=0.03)
    assert judge([one], Rule(min_share=0.3)).verdict == "no drift"


def test_embeddings_that_moved_are_drift_though_no_descriptor_did() -> None:
    rng = np.random.default_rng(6)
    reference, live = rng.normal(size=(150, 4)), rng.normal(size=(60, 4))
    known, came = rng.normal(size=(150, 16)), rng.normal(size=(60, 16))

    def predictions(points: tuple[Floats, Floats] | None, least: float = 0.1) -> Drift:
        return judge([Family("prediction", tuple("abcd"), reference, live, points)], Rule(min_effect=least))

    drift = predictions((known, came + 0.6))
    assert [(test.side, test.name) for test in drift.alarms] == [("prediction", "energy")]
    assert (drift.verdict, drift.moved) == ("drift", ())
    assert drift.alarms[0].effect > 0.3
    assert drift.p_value is not None and drift.p_value <= 0.01
    assert summary(drift) == "drift: embeddings of the predictions moved"
    assert predictions((known, came + 0.6), least=0.95).verdict == "no drift"
    # The very same descriptors, with embeddings that stay where they were, and without any.
    still = predictions((known, came))
    assert still.verdict == "no drift"
    assert [test.name for test in still.tests] == ["gaps", "energy"]
    assert [test.name for test in predictions(None).tests] == ["gaps"]


def test_the_effect_is_the_kolmogorov_smirnov_statistic() -> None:
    a, b = rows(1, 90), rows(2, 41, shift=0.5)
    assert effect(a, b) == pytest.approx(ks_2samp(a, b).statistic, abs=1e-6)


def test_images_are_compared_with_trained_ones_and_predictions_with_held_out_ones() -> None:
    families, left_out = make_families(*frames(1), min_live=20)
    assert not left_out
    assert [(f.side, len(f.reference), len(f.live)) for f in families] == [("input", 80, 60), ("prediction", 40, 60)]
    assert families[0].points is None
    assert families[1].points is not None
    assert families[1].points[0].shape == (40, 8)


def test_descriptors_without_enough_values_are_left_out_with_the_reason() -> None:
    reference, live = frames(2)
    reference["noise"] = np.nan
    reference = reference.drop(columns=["entropy"])
    live["sharpness"] = np.inf
    live.loc[5:14, "hue_spread"] = np.nan
    live.loc[3, "contrast"] = np.nan
    families, left_out = make_families(reference, live, min_live=20)
    assert {left.column: left.reason for left in left_out} == {
        "noise": "the reference holds 0 values, 10 are needed",
        "entropy": "the reference holds 0 values, 10 are needed",
        "sharpness": "the window holds 0 values, 20 are needed",
        "hue_spread": "10 of 60 rows of the window lack it",
    }
    assert len(families[0].columns) == len(IMAGE_DESCRIPTORS) - 4
    assert len(families[0].live) == 59


def test_a_side_without_enough_whole_rows_is_not_compared() -> None:
    reference, live = frames(3)
    families, left_out = make_families(reference[reference["split"] == "train"], live, min_live=20)
    assert [f.side for f in families] == ["input"]
    assert {left.column for left in left_out} == set(PREDICTION_DESCRIPTORS)
    families, left_out = make_families(reference, live[:10], min_live=20)
    assert not families
    assert len(left_out) == len(IMAGE_DESCRIPTORS) + len(PREDICTION_DESCRIPTORS)


def test_an_image_without_an_embedding_is_left_out_and_where_many_are_so_it_is_told() -> None:
    reference, live = frames(4)
    live.at[7, "embedding"] = None
    live.at[8, "embedding"] = np.full(8, np.nan, np.float32)
    families, left_out = make_families(reference, live, min_live=20)
    assert not left_out
    assert families[1].points is not None
    assert len(families[1].points[1]) == 58 == len(families[1].live)
    live.loc[:20, "embedding"] = None
    families, left_out = make_families(reference, live, min_live=20)
    assert families[1].points is None
    assert [left.column for left in left_out] == ["embedding"]


def test_copies_and_patients_count_once() -> None:
    reference, live = frames(5)
    assert make_families(reference, live, min_live=20)[0][0].clusters is None
    reference["cluster"] = ["p1", "p1", *[None] * (len(reference) - 2)]
    live["cluster"] = ["p1", "b", "b", *(f"image {n}" for n in range(len(live) - 3))]
    of_reference, of_live = make_families(reference, live, min_live=20)[0][0].clusters or pytest.fail("no clusters")
    assert np.unique(of_reference).size == 79
    assert np.unique(of_live).size == 59
    assert not set(of_reference) & set(of_live)


@pytest.mark.parametrize(("groups", "live", "able"), [(1, 500, False), (2, 20, False), (2, 150, True), (8, 20, True)])
def test_a_reference_of_too_few_groups_to_raise_an_alarm_is_not_asked(groups: int, live: int, able: bool) -> None:
    reference, window = frames(5, reference=300, live=live)
    reference["cluster"] = [f"p{place % groups}" for place in range(len(reference))]
    found, _ = make_families(reference, window, min_live=20)
    families, left_out = answerable(found, Rule())
    assert bool(families) == able == (left_out == [])
    if not able:
        window_of = Question(WatchedVersion("resunet", "7", None), Window(NOON, NOON + timedelta(days=1)), LIVE_ROUTES)
        answer = Answer(window_of, Drift("too few rows", Rule()), RowCounts(live, {}), tuple(left_out), "run")
        assert answer.summary.startswith(f"too few rows: {left_out[0].reason}. The window 2026-03-01")
        assert {left.column for left in left_out} == {name for family in found for name in family.columns}
        told = f"the reference is of {groups} group{'s' * (groups > 1)} (patients, slides, scenes): too few to tell"
        assert all(left.reason.startswith(told) for left in left_out)


def test_one_image_sent_again_and_again_is_one_image() -> None:
    reference, live = frames(6, reference=900, live=30)
    flood = pd.concat([live, *[live[:1]] * 30], ignore_index=True)
    flood["image_digest"] = [f"digest {n}" for n in range(30)] + ["digest 0"] * 30
    (images, predictions), _ = make_families(reference, flood, min_live=20)
    assert len(images.live) == len(predictions.live) == 30
    assert judge([images, predictions], Rule()).verdict == "no drift"
    flood["image_digest"] = None
    assert len(make_families(reference, flood, min_live=20)[0][0].live) == 60


def test_strangers_that_are_all_alike_are_strangers_still() -> None:
    rng = np.random.default_rng(1)
    reference, live = rng.normal(size=(340, 4)), rng.normal(size=(600, 4))
    live[:40] = 20 + 0.01 * rng.normal(size=(40, 4))
    drift = judge([Family("input", tuple("abcd"), reference, live)], Rule(min_effect=0.9))
    assert [test.name for test in drift.alarms] == ["strangers"]
    assert drift.alarms[0].effect == pytest.approx(40 / 600, abs=0.02)


def test_a_strict_alpha_can_be_kept_to() -> None:
    pairs = [(rows(seed, 100), rows(seed + 9, 100, shift=50)) for seed in range(3)]
    assert verdict(*pairs, rule=Rule(alpha=0.0005)).verdict == "drift"
