//! Errands: what a service must do outside its database, such as charge, send, hand over.
//!
//! The work waits in a table. It is taken with a lease (a short transaction), done with no
//! transaction open and the row's id as idempotency key, and its outcome is settled as a
//! [decision](crate::Decisions). Whoever dies on the way lets the lease run out, and the errand is
//! run again; the idempotency key makes that harmless.

use std::sync::Arc;
use std::time::Duration;

use sqlx::PgConnection;
use telemetry::TraceContext;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::Db;
use crate::fault_points::reach;
use crate::pace::Pace;

/// How many of one kind run at once.
const WIDTH: usize = 64;
/// How long at least, when what is due is held by another replica.
const SOON: Duration = Duration::from_millis(5);
/// How long at most until the table is looked at again, in case another replica left work there.
const IDLE: Duration = Duration::from_secs(1);

/// A kind of work that waits in a table.
pub trait Errand: Send + Sync + 'static {
    /// One piece of it.
    type Job: Send + 'static;

    /// Its name in spans and logs.
    const NAME: &'static str;

    /// Takes up to `limit` pieces that are due and leases them, skipping what others hold; one statement.
    fn take(&self, session: &mut PgConnection, limit: i64)
    -> impl Future<Output = sqlx::Result<Vec<Self::Job>>> + Send;

    /// Does one piece and settles it; an error leaves it to the end of its lease.
    fn perform(&self, job: Self::Job) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// The trace that the piece belongs to.
    fn trace(job: &Self::Job) -> &TraceContext;

    /// How long until the next piece is due, or none when none waits.
    fn next_due(&self, session: &mut PgConnection) -> impl Future<Output = sqlx::Result<Option<Duration>>> + Send;
}

/// Runs the errand until shutdown; pieces under way are finished first.
pub async fn run_errand<E: Errand>(db: Db, errand: E, shutdown: CancellationToken) {
    let errand = Arc::new(errand);
    let width = Arc::new(Semaphore::new(WIDTH));
    let under_way = TaskTracker::new();
    let mut commits = db.commits();
    let mut pace = Pace::default();
    while !shutdown.is_cancelled() {
        commits.mark_unchanged();
        let Ok(_slot) = width.acquire().await else { break };
        drop(_slot);
        let pause = match look(&db, errand.as_ref(), width.available_permits()).await {
            Ok(Due::Now(jobs)) => {
                for job in jobs {
                    let Ok(permit) = width.clone().acquire_owned().await else {
                        break;
                    };
                    let (errand, span) = (errand.clone(), span::<E>(&job));
                    let piece = async move {
                        if let Err(error) = perform(errand.as_ref(), job).await {
                            tracing::warn!(
                                errand = E::NAME,
                                error = format!("{error:#}"),
                                "not done yet, will be tried again"
                            );
                        }
                        drop(permit);
                    };
                    under_way.spawn(piece.instrument(span));
                }
                continue;
            }
            Ok(Due::In(pause)) => pause,
            Err(error) => {
                tracing::warn!(errand = E::NAME, %error, "cannot look for work");
                IDLE
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            _ = commits.changed() => pace.wait().await,
            () = tokio::time::sleep(pause) => {}
        }
    }
    under_way.close();
    under_way.wait().await;
}

async fn perform<E: Errand>(errand: &E, job: E::Job) -> anyhow::Result<()> {
    reach("errand.taken").await?;
    errand.perform(job).await
}

enum Due<J> {
    Now(Vec<J>),
    In(Duration),
}

/// One look at the table: two statements when nothing is due, one otherwise.
async fn look<E: Errand>(db: &Db, errand: &E, limit: usize) -> sqlx::Result<Due<E::Job>> {
    db.once(async |session| {
        let jobs = errand.take(session, limit as i64).await?;
        if !jobs.is_empty() {
            return Ok(Due::Now(jobs));
        }
        let due = errand.next_due(session).await?;
        Ok(Due::In(due.map_or(IDLE, |due| due.clamp(SOON, IDLE))))
    })
    .await
}

fn span<E: Errand>(job: &E::Job) -> tracing::Span {
    let parent = E::trace(job);
    let span = tracing::info_span!("errand", otel.name = E::NAME, trace_id = parent.trace_id());
    telemetry::follow(&span, parent);
    span
}
