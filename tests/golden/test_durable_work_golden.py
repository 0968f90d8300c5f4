"""Durable work as an earlier release wrote it down: it is found, understood and ended.

What is here never changes: workers of two releases share a database, and a release goes on with
what the one before left unfinished.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from tests.integration.engine_world import EngineWorld, eventually

from dcmvault.engine.names import APPLICATION_VERSION
from dcmvault.model.identifiers import DestinationId
from dcmvault.testing.scripted_stages import ScriptedJob

_AT = 1_750_000_000_000
_ALL: dict[str, Any] = {
    "application_version": "1",
    "application_name": "dcmvault",
    "serialization": "portable_json",
    "created_at": _AT,
    "updated_at": _AT,
    "was_forked_from": False,
    "rate_limited": False,
    "is_debounced": False,
}
#: A run that its worker had planned when it died, a job alone, and two small ones in a bundle.
WORKFLOWS: tuple[dict[str, Any], ...] = (
    {"workflow_uuid": "run-a", "name": "dcmvault.run", "queue_name": "runs", "priority": 0},
    {
        "workflow_uuid": "job-1/1.1",
        "name": "dcmvault.job",
        "queue_name": "destination:7",
        "priority": 4,
    },
    {
        "workflow_uuid": "job-2+1/1.1",
        "name": "dcmvault.job",
        "queue_name": "destination:7",
        "priority": 4,
    },
)
INPUTS = {
    "run-a": '{"namedArgs":{},"positionalArgs":["run-a"]}',
    "job-1/1.1": '{"namedArgs":{},"positionalArgs":["job-1","destination:7",1,1]}',
    "job-2+1/1.1": ('{"namedArgs":{},"positionalArgs":["job-2","destination:7",1,1,["job-3"]]}'),
}
PLANNED = '{"jobs":[[["job-1"],"destination:7",4],[["job-2","job-3"],"destination:7",4]]}'
JOBS = (
    ScriptedJob("job-1", 7),
    ScriptedJob("job-2", 7, small=True),
    ScriptedJob("job-3", 7, small=True),
)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.peers)])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EngineWorld]:
    address: Path | str = tmp_path / "engine.sqlite3"
    if request.param == "postgresql":
        address = str(request.getfixturevalue("postgresql_url")).replace("+psycopg", "")
    with ExitStack() as stack:
        yield EngineWorld(tmp_path, address, stack)


def _tables(world: EngineWorld) -> tuple[sa.Engine, dict[str, sa.Table]]:
    engine = world.database.prepare()
    metadata = sa.MetaData()
    metadata.reflect(engine, schema=None if world.database.is_embedded else "dbos")
    return engine, {table.name: table for table in metadata.sorted_tables}


def test_what_a_dead_worker_left_unfinished_ends(world: EngineWorld) -> None:
    """Without a second plan: what an earlier release wrote down of its steps is believed."""
    world.stages.script("run-a", JOBS)
    engine, tables = _tables(world)
    executor = "local" if world.database.is_embedded else "worker-3"
    with engine.begin() as connection:
        for row in WORKFLOWS:
            # The run had begun; its jobs waited.
            status = "PENDING" if row["name"] == "dcmvault.run" else "ENQUEUED"
            parent = None if status == "PENDING" else "run-a"
            connection.execute(
                sa.insert(tables["workflow_status"]).values(
                    **_ALL, **row, status=status, executor_id=executor, parent_workflow_id=parent
                )
            )
            connection.execute(
                sa.insert(tables["workflow_input"]).values(
                    workflow_uuid=row["workflow_uuid"],
                    inputs=INPUTS[row["workflow_uuid"]],
                    retention_timestamp=_AT,
                )
            )
        connection.execute(
            sa.insert(tables["operation_outputs"]).values(
                workflow_uuid="run-a",
                function_id=1,
                function_name="plan",
                output=PLANNED,
                serialization="portable_json",
                application_name="dcmvault",
                retention_timestamp=_AT,
            )
        )
    world.ledger.ensure_queue("destination:7")
    world.worker.start()
    world.await_finish("run-a")
    assert world.runs("plan") == []
    delivered = sorted(set(world.jobs("end")))
    assert delivered == ["job-1", "job-2", "job-3"]


def test_work_is_written_down_as_ever(world: EngineWorld) -> None:
    """Names, queues, order and inputs are those of the first release, byte for byte."""
    world.queue.pause(DestinationId(7))
    world.submit("run-a", *JOBS)
    world.worker.start()
    engine, tables = _tables(world)
    workflows, inputs = tables["workflow_status"].c, tables["workflow_input"].c

    def written() -> int:
        with engine.connect() as connection:
            return int(connection.scalar(sa.select(sa.func.count(workflows.workflow_uuid))) or 0)

    eventually(lambda: written() == len(WORKFLOWS))
    world.worker.stop(grace_s=20)
    with engine.connect() as connection:
        found = {
            row.workflow_uuid: dict(row._mapping)
            for row in connection.execute(sa.select(tables["workflow_status"]))
        }
        chosen = connection.execute(sa.select(inputs.workflow_uuid, inputs.inputs))
        said = {row.workflow_uuid: row.inputs for row in chosen}
    assert said == INPUTS
    for row in WORKFLOWS:
        assert row.items() <= found[row["workflow_uuid"]].items()
        assert found[row["workflow_uuid"]]["application_version"] == APPLICATION_VERSION == "1"
        assert found[row["workflow_uuid"]]["serialization"] == "portable_json"
