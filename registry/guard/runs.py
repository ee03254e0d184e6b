"""What a registered version's files lie in is not deleted: `mlflow gc` would take them with it.

Nor is anything else of this server's disk: a trace says itself where its archived spans are, and MLflow would delete
what lies there.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any, Final

from mlflow.entities import LifecycleStage
from mlflow.entities.model_registry.model_version_stages import STAGE_DELETED_INTERNAL
from mlflow.entities.span import Span
from mlflow.entities.trace_info import TraceInfo
from mlflow.entities.trace_info_v2 import TraceInfoV2
from mlflow.entities.trace_status import TraceStatus
from mlflow.server import handlers
from mlflow.store.artifact.utils.models import _parse_model_uri
from mlflow.store.model_registry.dbmodels.models import SqlModelVersion
from mlflow.store.tracking.dbmodels.models import SqlExperiment, SqlLoggedModel, SqlRun
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.tracing.constant import SpanAttributeKey, TraceTagKey
from mlflow.utils.uri import is_models_uri
from sqlalchemy import ColumnElement, or_
from sqlalchemy.orm import InstrumentedAttribute

from registry.guard import locations
from registry.guard.answers import told_as_mlflow
from registry.guard.artifacts import PLACE
from registry.guard.store import GuardedStore
from registry.guard.writing import writing
from resunet.errors import RefusedError

# Where a trace's spans are, which the server alone says.
_RESERVED_TAGS: Final = frozenset({TraceTagKey.SPANS_LOCATION, TraceTagKey.ARCHIVE_LOCATION})
_RESERVED_ATTRIBUTES: Final = frozenset(f"{SpanAttributeKey.TRACE_TAG_PREFIX}{tag}" for tag in _RESERVED_TAGS)
# It is a part of the path where the spans are archived to.
_TRACE_ID: Final = re.compile(r"[\w-]+")


class GuardedTrackingStore(SqlAlchemyStore):
    """MLflow's SQL tracking store that keeps the runs, experiments and logged models of registered versions."""

    def delete_run(self, run_id: str) -> None:
        with _writing():
            with told_as_mlflow():
                _refuse_registered(f"run {run_id}", [run_id], [str(self.get_run(run_id).info.artifact_uri)])
            super().delete_run(run_id)

    def delete_experiment(self, experiment_id: str) -> None:
        with _writing():
            with told_as_mlflow():
                number = int(self.get_experiment(experiment_id).experiment_id)
                runs, places = self._inside(number)
                _refuse_registered(f"experiment {experiment_id}", runs, places)
            super().delete_experiment(experiment_id)

    def delete_logged_model(self, model_id: str) -> None:
        with _writing():
            with told_as_mlflow():
                place = str(self.get_logged_model(model_id).artifact_location)
                _refuse_registered(f"logged model {model_id}", [], [place])
            super().delete_logged_model(model_id)

    def start_trace(self, trace_info: TraceInfo) -> TraceInfo:
        if not _TRACE_ID.fullmatch(trace_info.trace_id):
            with told_as_mlflow():
                raise RefusedError("a trace's id holds letters, digits, `-` and `_` alone: let MLflow's client make it")
        return super().start_trace(replace(trace_info, tags=_free(trace_info.tags)))

    def log_spans(self, location: str, spans: list[Span], tracking_uri: Any = None) -> list[Span]:
        for span in spans:
            if _RESERVED_ATTRIBUTES.intersection(span._span.attributes or ()):
                with told_as_mlflow():
                    raise RefusedError("where a trace's spans are is this server's to say: send them without that tag")
        return super().log_spans(location, spans, tracking_uri)

    def deprecated_start_trace_v2(
        self, experiment_id: str, timestamp_ms: int, request_metadata: dict[str, str], tags: dict[str, str]
    ) -> TraceInfoV2:
        return super().deprecated_start_trace_v2(experiment_id, timestamp_ms, request_metadata, _free(tags))

    def deprecated_end_trace_v2(
        self,
        request_id: str,
        timestamp_ms: int,
        status: TraceStatus,
        request_metadata: dict[str, str],
        tags: dict[str, str],
    ) -> TraceInfoV2:
        return super().deprecated_end_trace_v2(request_id, timestamp_ms, status, request_metadata, _free(tags))

    def _delete_archived_trace_payloads(self, selected_traces: list[Any]) -> list[str]:
        """All of them go from the tables, and no file does: where files lie was said by whoever sent the trace."""
        return [selected.trace_id for selected in selected_traces]

    def refuse_source(self, source: str) -> None:
        """See that a version's files are its own, and that nothing that was deleted takes them with it later.

        Raises:
            RefusedError: they lie in what is left of a deleted run or logged model, or all kinds of others' do.
        """
        place = source
        if is_models_uri(source):
            model_id = _parse_model_uri(source).model_id
            if model_id is None:
                return
            place = str(self.get_logged_model(model_id).artifact_location)
        elif not locations.checked_by_mlflow(source):
            self._refuse_others(source)
        around = {one for way in locations.spellings(place) for one in locations.above(way)}
        with self.ManagedSessionMaker() as session:
            for table, column in ((SqlRun, SqlRun.artifact_uri), (SqlLoggedModel, SqlLoggedModel.artifact_location)):
                gone: ColumnElement[bool] = table.lifecycle_stage == LifecycleStage.DELETED
                if session.query(column).filter(gone, column.in_(around)).first() is not None:
                    raise RefusedError(
                        "these files belong to a run or a logged model that was deleted, and `mlflow gc` will take "
                        "them: restore it, or log the model anew, and register that"
                    )

    def _refuse_others(self, source: str) -> None:
        """See that a place that MLflow has not compared with any run is not one where others keep their files.

        Raises:
            RefusedError: no file could be written there any more, for anybody.
        """
        if locations.is_served(locations.plain(source)):
            raise RefusedError(
                "these files are in what this server serves, and are registered as that alone: give the source as "
                "`models:/…`, `runs:/…` or `mlflow-artifacts:/…`"
            )
        ways = locations.spellings(source)
        column: InstrumentedAttribute[str] = SqlExperiment.artifact_location
        below = [column.startswith(f"{way.rstrip('/')}/", autoescape=True) for way in ways]
        with self.ManagedSessionMaker() as session:
            shared = session.query(column).filter(or_(column.in_(ways), *below)).first() is not None
        if shared or locations.holds_everything(source):
            raise RefusedError(
                "this is the place of whole experiments, not of a model: register the model's own folder"
            )

    def _inside(self, experiment: int) -> tuple[list[str], list[str]]:
        """The runs of an experiment, and the places of their files and of its logged models."""
        with self.ManagedSessionMaker() as session:
            runs = session.query(SqlRun.run_uuid, SqlRun.artifact_uri).filter(SqlRun.experiment_id == experiment).all()
            models = session.query(SqlLoggedModel.artifact_location).filter(SqlLoggedModel.experiment_id == experiment)
            return [run for run, _ in runs], [str(place) for _, place in runs] + [str(place) for (place,) in models]


@contextmanager
def _writing() -> Iterator[None]:
    """While nothing is registered."""
    registry = handlers._get_model_registry_store()
    with ExitStack() as held:
        if isinstance(registry, GuardedStore):
            with told_as_mlflow():
                held.enter_context(writing(registry.lifecycle.settings.home))
        yield


def _free(tags: Mapping[str, str]) -> dict[str, str]:
    """The tags of a trace that whoever sends it may set."""
    return {key: value for key, value in tags.items() if key not in _RESERVED_TAGS}


def _refuse_registered(what: str, runs: list[str], places: list[str]) -> None:
    """See that no registered version was made by these runs, or has files at, above or below these places.

    Raises:
        RefusedError: one was or has.
    """
    registry = handlers._get_model_registry_store()
    if not isinstance(registry, GuardedStore):
        return
    made, at, holds = _registered(registry)
    found = next((made[run] for run in runs if run in made), None)
    for place in map(locations.plain, places):
        found = found or holds.get(place) or next((at[one] for one in locations.above(place) if one in at), None)
    if found:
        raise RefusedError(f"{what} made {found}, which is registered: delete that version first")


def _registered(registry: GuardedStore) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    """The registered versions, for people: by run, by the place of their files, and by each folder that holds that."""
    made: dict[str, str] = {}
    at: dict[str, str] = {}
    holds: dict[str, str] = {}
    with registry.ManagedSessionMaker() as session:
        there: ColumnElement[bool] = SqlModelVersion.current_stage != STAGE_DELETED_INTERNAL
        columns = (SqlModelVersion.name, SqlModelVersion.version, SqlModelVersion.run_id, PLACE)
        for name, version, run_id, place in session.query(*columns).filter(there):
            one = f"version {version} of {name}"
            made[run_id] = at[locations.plain(place)] = one
            holds.update(dict.fromkeys(locations.above(locations.plain(place)), one))
    return made, at, holds
