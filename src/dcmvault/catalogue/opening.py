"""Opening the catalogue: one database, narrow ports."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from dcmvault.catalogue.accounts import (
    AccountsInDatabase,
    IdentitiesInDatabase,
    LinksInDatabase,
    SessionsInDatabase,
)
from dcmvault.catalogue.alerts import AlertsInDatabase
from dcmvault.catalogue.association_shares import AssociationsInDatabase
from dcmvault.catalogue.bandwidth import BandwidthInDatabase
from dcmvault.catalogue.database import Database, connect
from dcmvault.catalogue.deletion import DeletionInDatabase
from dcmvault.catalogue.exclusions import ExclusionsInDatabase
from dcmvault.catalogue.history import HistoryInDatabase
from dcmvault.catalogue.holdings import HoldingsInDatabase
from dcmvault.catalogue.jobs import JobsInDatabase
from dcmvault.catalogue.kept_counts import CountsInDatabase
from dcmvault.catalogue.lessons import LessonsInDatabase
from dcmvault.catalogue.live import LiveInDatabase
from dcmvault.catalogue.login_failures import LoginFailuresInDatabase
from dcmvault.catalogue.manifests import ManifestsInDatabase
from dcmvault.catalogue.migrate import migrate
from dcmvault.catalogue.notices import NoticesInDatabase
from dcmvault.catalogue.overview import OverviewInDatabase
from dcmvault.catalogue.patients import PatientsInDatabase
from dcmvault.catalogue.planning import PlansInDatabase
from dcmvault.catalogue.restores import RestoresInDatabase
from dcmvault.catalogue.reverification import ReverificationInDatabase
from dcmvault.catalogue.routes import RoutesInDatabase
from dcmvault.catalogue.runs import RunsInDatabase
from dcmvault.catalogue.samples import SamplesInDatabase
from dcmvault.catalogue.saved_views import ViewsInDatabase
from dcmvault.catalogue.scan import SourcesInDatabase
from dcmvault.catalogue.schedules import SchedulesInDatabase
from dcmvault.catalogue.signs import SignsInDatabase
from dcmvault.catalogue.snapshots import SnapshotsInDatabase
from dcmvault.catalogue.statistics import StatisticsInDatabase
from dcmvault.catalogue.status import StatusInDatabase
from dcmvault.catalogue.study_details import StudyDetailsInDatabase
from dcmvault.catalogue.study_facts import StudyFactsInDatabase
from dcmvault.catalogue.study_matrix import StudyMatrixInDatabase
from dcmvault.catalogue.tables import snapshots
from dcmvault.catalogue.work_figures import WorkFiguresInDatabase
from dcmvault.catalogue.workers import WorkersInDatabase
from dcmvault.ports.accounts import AccountBook, LinkBook, SessionBook
from dcmvault.ports.alerts import AlertBook
from dcmvault.ports.catalogue import (
    JobCatalogue,
    PlanCatalogue,
    RunCatalogue,
    SnapshotWitness,
    SourceCatalogue,
)
from dcmvault.ports.deletion import DeletionCatalogue
from dcmvault.ports.exclusions import ExclusionBook
from dcmvault.ports.history import History
from dcmvault.ports.holdings import HoldingCatalogue
from dcmvault.ports.identities import IdentityBook
from dcmvault.ports.kept_counts import CountBook
from dcmvault.ports.live import LiveCatalogue, SlowedBook
from dcmvault.ports.login_failures import LoginFailureBook
from dcmvault.ports.manifests import ManifestCatalogue
from dcmvault.ports.overview import OverviewCatalogue
from dcmvault.ports.pacing import BandwidthShares
from dcmvault.ports.patients import PatientNames
from dcmvault.ports.restores import RestoreBook
from dcmvault.ports.reverification import ReverificationCatalogue
from dcmvault.ports.samples import SampleBook, WorkFigures
from dcmvault.ports.schedules import QueueHolds, ScheduleBook, UnfinishedRuns
from dcmvault.ports.signs import SignBook
from dcmvault.ports.statistics import StatisticsCatalogue
from dcmvault.ports.status import StatusCatalogue
from dcmvault.ports.strategy import LessonBook, RouteBook, StudyFactsCatalogue
from dcmvault.ports.study_details import StudyDetails
from dcmvault.ports.study_matrix import StudyMatrix, ViewBook
from dcmvault.ports.workers import AssociationShares, WorkerBook


@dataclass(frozen=True, slots=True)
class Catalogue:
    """An open catalogue; hand each part of the flow the narrowest port it needs."""

    sources: SourceCatalogue
    plans: PlanCatalogue
    jobs: JobCatalogue
    runs: RunCatalogue
    status: StatusCatalogue
    kept_counts: CountBook
    snapshots: SnapshotWitness
    holdings: HoldingCatalogue
    restores: RestoreBook
    reverification: ReverificationCatalogue
    deletion: DeletionCatalogue
    manifests: ManifestCatalogue
    schedules: ScheduleBook
    queue_holds: QueueHolds
    history: History
    unfinished: UnfinishedRuns
    study_facts: StudyFactsCatalogue
    lessons: LessonBook
    routes: RouteBook
    notices: NoticesInDatabase
    signs: SignBook
    samples: SampleBook
    work: WorkFigures
    alerts: AlertBook
    statistics: StatisticsCatalogue
    matrix: StudyMatrix
    views: ViewBook
    exclusions: ExclusionBook
    details: StudyDetails
    overview: OverviewCatalogue
    live: LiveCatalogue
    slowed: SlowedBook
    accounts: AccountBook
    identities: IdentityBook
    sessions: SessionBook
    links: LinkBook
    login_failures: LoginFailureBook
    patients: PatientNames
    #: Where workers share limits; None where only one can work at a time.
    bandwidth: BandwidthShares | None
    associations: AssociationShares | None
    workers: WorkerBook | None
    database: Database

    def close(self) -> None:
        """Close all connections; what was written is durable already."""
        self.database.close()


def has_catalogue(url_or_path: str) -> bool:
    """Say whether a catalogue was ever opened there; nothing is made by asking.

    Raises StateError when that cannot be found out.
    """
    if "://" not in url_or_path:
        return Path(url_or_path).is_file()
    database = connect(url_or_path)
    try:
        with database.read() as connection:
            return sa.inspect(connection).has_table(snapshots.name)
    finally:
        database.close()


def open_catalogue(url_or_path: str) -> Catalogue:
    """Open the catalogue in a SQLite file, or at a `postgresql://` URL; made at first sight.

    Several processes may open the same one at once. The schema is brought up to date first.
    A file gets mode 0600. Raises StateError when it cannot be used or is of a newer release.
    """
    database = connect(url_or_path)
    try:
        migrate(database)
    except BaseException:
        database.close()
        raise
    schedules = SchedulesInDatabase(database)
    live = LiveInDatabase(database)
    return Catalogue(
        sources=SourcesInDatabase(database),
        plans=PlansInDatabase(database),
        jobs=JobsInDatabase(database),
        runs=RunsInDatabase(database),
        status=StatusInDatabase(database),
        kept_counts=CountsInDatabase(database),
        snapshots=SnapshotsInDatabase(database),
        holdings=HoldingsInDatabase(database),
        restores=RestoresInDatabase(database),
        reverification=ReverificationInDatabase(database),
        deletion=DeletionInDatabase(database),
        manifests=ManifestsInDatabase(database),
        schedules=schedules,
        queue_holds=schedules,
        history=HistoryInDatabase(database),
        unfinished=schedules,
        study_facts=StudyFactsInDatabase(database),
        lessons=LessonsInDatabase(database),
        routes=RoutesInDatabase(database),
        notices=NoticesInDatabase(database),
        signs=SignsInDatabase(database),
        samples=SamplesInDatabase(database),
        work=WorkFiguresInDatabase(database),
        alerts=AlertsInDatabase(database),
        statistics=StatisticsInDatabase(database),
        matrix=StudyMatrixInDatabase(database),
        views=ViewsInDatabase(database),
        exclusions=ExclusionsInDatabase(database),
        details=StudyDetailsInDatabase(database),
        overview=OverviewInDatabase(database),
        live=live,
        slowed=live,
        accounts=AccountsInDatabase(database),
        identities=IdentitiesInDatabase(database),
        sessions=SessionsInDatabase(database),
        links=LinksInDatabase(database),
        login_failures=LoginFailuresInDatabase(database),
        patients=PatientsInDatabase(database),
        bandwidth=None if database.is_sqlite else BandwidthInDatabase(database),
        associations=None if database.is_sqlite else AssociationsInDatabase(database),
        workers=None if database.is_sqlite else WorkersInDatabase(database),
        database=database,
    )
