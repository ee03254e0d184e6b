"""What a drift report makes of images that were refused: a real tracking store, a real inference log."""

from drift_scene import UNTIL, Report, Scene, last_run, live, post

from records.log_database import open_log
from records.watch.reports import WindowReport, latest_reports


def kept(scene: Scene) -> WindowReport:
    engine = open_log(scene.log)
    (row,) = latest_reports(engine, "resunet", kind="window by hand")
    engine.dispose()
    return row


def refuse(scene: Scene, count: int, route: str = "production") -> None:
    post(scene, live(1, count), version="1", route=route, status="refused")


def test_many_refused_images_are_drift_beside_images_that_are_well(scene: Scene, report: Report) -> None:
    post(scene, live(2, 60), version="1")
    refuse(scene, 20)
    code, printed, _ = report(*UNTIL, "--brief")
    assert code == 3
    assert printed.startswith("drift: 20 of 80 images were refused [resunet version 1,")
    assert (kept(scene).verdict, kept(scene).rows, kept(scene).moved) == ("drift", 60, ())


def test_a_window_of_refused_images_alone_is_drift(scene: Scene, report: Report) -> None:
    refuse(scene, 20)
    code, printed, _ = report(*UNTIL)
    assert code == 3
    assert "20 of 20 images were refused" in printed
    assert (kept(scene).verdict, kept(scene).rows) == ("drift", 0)
    assert last_run(scene.client).data.tags["verdict"] == "drift"


def test_two_bad_uploads_in_an_idle_window_are_too_few_rows(scene: Scene, report: Report) -> None:
    refuse(scene, 2)
    code, _, errors = report(*UNTIL)
    assert code == 2
    assert "holds 0 rows of resunet version 1 (left out: 2 refused images); at least 20 are needed" in errors
    assert (kept(scene).verdict, last_run(scene.client).data.tags["verdict"]) == ("too few rows", "too few rows")
    # What is enough is what the report was told to be.
    assert report(*UNTIL, "--min-rows", "2", "--brief")[0] == 3


def test_some_refused_images_among_many_are_told_and_are_no_drift(scene: Scene, report: Report) -> None:
    post(scene, live(2, 60), version="1")
    refuse(scene, 10)
    code, printed, _ = report(*UNTIL)
    assert code == 0
    assert "10 of 70 images were refused" in printed


def test_images_that_were_refused_on_other_routes_are_not_held_against_a_window(scene: Scene, report: Report) -> None:
    refuse(scene, 30, route="batch")
    assert report(*UNTIL, "--brief")[0] == 2
    code, printed, _ = report(*UNTIL, "--brief", "--route", "batch")
    assert code == 3 and printed.startswith("drift: 30 of 30 images were refused")
