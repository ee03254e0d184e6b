"""Windows of one kind are points of one MLflow run, so that its UI draws lines."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from mlflow import MlflowClient

from monitoring.course import Course, log_course

DAY = timedelta(days=1)
MONDAY = datetime(2026, 3, 2, tzinfo=UTC)
DAILY = Course("res'unet", "windows", DAY, ("production", "canary"))


@pytest.fixture
def client(tmp_path: Path) -> MlflowClient:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    client.create_experiment("watch", artifact_location=str(tmp_path / "artifacts"))
    return client


def test_each_window_is_a_point_of_one_run(client: MlflowClient) -> None:
    runs = {
        log_course(client, "watch", DAILY, {"dice.estimated": 0.9 + day / 100, "rows": 5.0}, MONDAY + day * DAY)
        for day in range(3)
    }
    (run,) = runs
    points = client.get_metric_history(run, "dice.estimated")
    assert [point.value for point in points] == pytest.approx([0.9, 0.91, 0.92])
    assert [point.timestamp for point in points] == [int((MONDAY + day * DAY).timestamp() * 1000) for day in range(3)]
    minutes = 24 * 60
    assert [point.step - points[0].step for point in points] == [0, minutes, 2 * minutes]
    assert client.get_run(run).info.status == "FINISHED"
    assert client.get_run(run).info.run_name == "res'unet: course of windows, 1d, canary, production"


def test_windows_that_overlap_have_steps_of_their_own(client: MlflowClient) -> None:
    hour = timedelta(hours=1)
    (run,) = {log_course(client, "watch", DAILY, {"rows": 5.0}, MONDAY + place * hour) for place in range(3)}
    steps = [point.step for point in client.get_metric_history(run, "rows")]
    assert [step - steps[0] for step in steps] == [0, 60, 120]


def test_a_window_that_is_told_of_again_is_no_second_point(client: MlflowClient) -> None:
    for _ in range(2):
        run = log_course(client, "watch", DAILY, {"rows": 5.0}, MONDAY)
    assert len(client.get_metric_history(run, "rows")) == 1


def test_what_differs_has_a_run_of_its_own(client: MlflowClient) -> None:
    others = (
        DAILY,
        Course("another", "windows", DAY, DAILY.routes),
        Course(DAILY.model, "trends", DAY, DAILY.routes),
        Course(DAILY.model, "windows", DAY / 24, DAILY.routes),
        Course(DAILY.model, "windows", DAY, ("production",)),
    )
    assert len({log_course(client, "watch", one, {"rows": 1.0}, MONDAY) for one in others}) == len(others)
    again = Course(DAILY.model, DAILY.kind, DAY, ("canary", "production"))
    assert log_course(client, "watch", again, {"rows": 1.0}, MONDAY + DAY) == log_course(
        client, "watch", DAILY, {"rows": 1.0}, MONDAY
    )


def test_a_run_that_somebody_deleted_is_begun_anew(client: MlflowClient) -> None:
    run = log_course(client, "watch", DAILY, {"rows": 5.0}, MONDAY)
    client.delete_run(run)
    assert log_course(client, "watch", DAILY, {"rows": 5.0}, MONDAY + DAY) != run
