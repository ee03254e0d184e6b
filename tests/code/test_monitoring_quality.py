"""Rules of input quality: what is plainly wrong is said, and what is like the reference never."""

import numpy as np
import pandas as pd
import pytest

from monitoring.quality import findings, refusals


def images(count: int, **changed: object) -> pd.DataFrame:
    rng = np.random.default_rng(count)
    frame = pd.DataFrame(
        {
            "width": rng.choice([128.0, 256.0], count),
            "height": 256.0,
            "contrast": rng.normal(30, 5, count),
            "clipped_high": rng.uniform(0, 0.02, count),
            "clipped_low": rng.uniform(0, 0.02, count),
            "image_digest": [f"image {n}" for n in range(count)],
        }
    )
    for name, value in changed.items():
        frame.loc[: count // 4, name] = value
    return frame


def alarms(live: pd.DataFrame) -> list[str]:
    return [one.name for one in findings(images(200), live) if one.alarm]


def test_images_like_the_reference_are_never_at_fault() -> None:
    assert findings(images(200), images(80)) == []


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("blank", {"contrast": 0.0}),
        ("overexposed", {"clipped_high": 0.7}),
        ("underexposed", {"clipped_low": 0.7}),
        ("tiny", {"width": 40.0}),
        ("huge", {"height": 900.0}),
    ],
)
def test_each_fault_is_told_by_its_name(name: str, changed: dict[str, float]) -> None:
    assert alarms(images(80, **changed)) == [name]
    assert alarms(images(80)) == []


FAULTS = [("blank", "contrast", 0.0), ("overexposed", "clipped_high", 1.0), ("underexposed", "clipped_low", 1.0)]


@pytest.mark.parametrize("share", [1 / 200, 0.1])
@pytest.mark.parametrize(("name", "column", "worst"), FAULTS)
def test_images_at_fault_among_the_training_images_switch_no_rule_off(
    name: str, column: str, worst: float, share: float
) -> None:
    reference = images(200)
    reference.loc[: round(share * 200) - 1, column] = worst
    # A quarter of a window is far more than one in 200, and not so far more than a tenth.
    quarter = [one.name for one in findings(reference, images(80, **{column: worst})) if one.alarm]
    assert quarter == ([name] if share < 0.1 else [])
    whole = images(80).assign(**{column: worst})
    assert [one.name for one in findings(reference, whole) if one.alarm] == [name]


@pytest.mark.parametrize(("name", "column", "worst"), FAULTS)
def test_one_training_image_at_fault_makes_no_rule_laxer(name: str, column: str, worst: float) -> None:
    reference = images(200)
    reference.loc[0, column] = worst
    live = images(80, **{column: 0.7})
    assert [one.name for one in findings(reference, live) if one.alarm] == [name]


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 1.0])
@pytest.mark.parametrize(("name", "column", "worst"), FAULTS)
def test_windows_like_a_reference_with_images_at_fault_raise_no_alarm(
    name: str, column: str, worst: float, share: float
) -> None:
    rng = np.random.default_rng(1)

    def draw(count: int) -> pd.DataFrame:
        frame = images(count)
        frame.loc[rng.random(count) < share, column] = worst
        return frame

    reference, told = draw(200), set[str]()
    reference.loc[0, column] = worst
    for count in (20, 20, 20, 50, 50, 200, 1_000, 10_000):
        found = findings(reference, draw(count))
        told |= {one.name for one in found}
        assert not any(one.alarm for one in found), count
    assert told == {name}


@pytest.mark.parametrize("column", ["clipped_high", "clipped_low"])
def test_images_that_are_all_clipped_to_much_are_overdone_beyond_that(column: str) -> None:
    rng = np.random.default_rng(2)
    bright = images(200).assign(**{column: rng.uniform(0.6, 0.8, 200)})
    like = images(80).assign(**{column: rng.uniform(0.6, 0.8, 80)})
    assert findings(bright, like) == []
    assert [one.alarm for one in findings(bright, like.assign(**{column: 0.97}))] == [True]


def test_one_odd_image_is_no_alarm_and_is_told() -> None:
    live = images(10)
    live.loc[0, "contrast"] = 0.0
    (found,) = findings(images(200), live)
    assert (found.words, found.alarm) == ("1 of 10 images are blank", False)


def test_a_flood_of_copies_is_told_and_some_copies_are_not() -> None:
    assert alarms(images(80).assign(image_digest="the same")) == ["copies"]
    assert alarms(images(80, image_digest="the same")) == []


def test_of_a_sampled_window_the_copies_are_those_of_all_its_rows_and_the_others_are_told_as_sampled() -> None:
    # Each image of the window was sent twice: the sample holds hardly a pair.
    live = images(80, contrast=0.0)
    found = {one.name: one for one in findings(images(200), live, copies=(5_000, 10_000))}
    assert found["copies"].alarm and found["copies"].words == "5,000 of 10,000 images are copies of another"
    assert found["blank"].words == "21 of 80 sampled images are blank"
    # A sample of few rows may hold one image often.
    flood = images(80).assign(image_digest="the same")
    assert not any(one.alarm for one in findings(images(200), flood, copies=(79, 10_000)))


def test_refused_images_count_beside_the_others() -> None:
    assert refusals(30, 80, min_rows=20).alarm
    assert not refusals(10, 80, min_rows=20).alarm


def test_of_too_few_images_none_are_too_many_refused() -> None:
    assert not refusals(2, 0, min_rows=20).alarm and not refusals(10, 9, min_rows=20).alarm
    assert refusals(10, 10, min_rows=20).alarm and refusals(2, 0, min_rows=2).alarm
