//! The service's own database, and what its errors mean for whoever tries again.

use std::borrow::Cow;

use sqlx::migrate::{Migration, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{PgConnection, PgPool};
use tokio::sync::watch;

use crate::session::{Sessions, Tx};

/// The database, and the signal that something was committed to it.
#[derive(Debug, Clone)]
pub struct Db {
    pool: PgPool,
    sessions: Sessions,
    committed: watch::Sender<()>,
}

impl Db {
    /// Wraps a pool; clones share the signal. Units of work have sessions of their own, with the same options.
    pub fn new(pool: PgPool) -> Self {
        Self {
            sessions: Sessions::new(&pool.connect_options()),
            pool,
            committed: watch::Sender::new(()),
        }
    }

    /// The same database with nothing but the tables of this schema, for work that may take its time.
    ///
    /// What is written there need not be on disk at each commit: whatever makes use of it later commits in earnest.
    pub(crate) fn beside(&self, schema: &str) -> Self {
        let options = PgConnectOptions::clone(&self.pool.connect_options()).options([
            ("search_path", schema),
            ("statement_timeout", "60s"),
            ("synchronous_commit", "off"),
        ]);
        Self::new(PgPoolOptions::new().max_connections(1).connect_lazy_with(options))
    }

    /// For queries that change nothing.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Begins a transaction.
    pub async fn begin(&self) -> sqlx::Result<Tx> {
        self.sessions.begin().await
    }

    /// Does one thing that needs no transaction, on a session that nobody else uses meanwhile.
    pub(crate) async fn once<T>(
        &self,
        work: impl AsyncFnOnce(&mut PgConnection) -> sqlx::Result<T>,
    ) -> sqlx::Result<T> {
        self.sessions.once(work).await
    }

    /// Tells relay and errands that there may be work; costs nothing when nobody waits.
    pub(crate) fn announce_commit(&self) {
        self.committed.send_replace(());
    }

    /// Sees every commit of this process from now on; commits of other replicas are found by polling.
    pub fn commits(&self) -> watch::Receiver<()> {
        self.committed.subscribe()
    }
}

/// Why a unit of work did not commit, in terms of what to do next.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// The database cannot be reached or is overloaded: the same work will succeed later.
    #[error("the database is unavailable: {0}")]
    Unavailable(#[source] sqlx::Error),
    /// Somebody else changed the same rows first: decide again on what they left.
    #[error("lost a race: {0}")]
    Conflict(#[source] sqlx::Error),
    /// It will fail again: a bug or a broken invariant.
    #[error("{0}")]
    Broken(String),
}

impl From<sqlx::Error> for Trouble {
    fn from(error: sqlx::Error) -> Self {
        use sqlx::Error as E;
        match &error {
            E::Io(_) | E::Tls(_) | E::PoolTimedOut | E::PoolClosed | E::WorkerCrashed | E::Protocol(_) => {
                Self::Unavailable(error)
            }
            E::RowNotFound => Self::Conflict(error),
            E::Database(cause) => match cause.code() {
                // Serialization failure, deadlock, unique violation: a concurrent writer was faster.
                Some(Cow::Borrowed("40001" | "40P01" | "23505")) => Self::Conflict(error),
                // Connection trouble, refused login, no such database, out of resources, shutdown, cancelled by a
                // timeout, lock not available, input or output error.
                Some(code)
                    if ["08", "28", "3D", "53", "57", "55", "58", "25"]
                        .iter()
                        .any(|class| code.starts_with(class)) =>
                {
                    Self::Unavailable(error)
                }
                _ => Self::Broken(error.to_string()),
            },
            _ => Self::Broken(error.to_string()),
        }
    }
}

/// Checks that a guarded `insert … on conflict do update … where version = …` saved every row.
///
/// A row that was not saved had been changed by somebody else: the error makes the unit of work
/// roll back, load again and decide again.
pub fn all_saved(saved: u64, expected: usize) -> sqlx::Result<()> {
    if saved == expected as u64 {
        Ok(())
    } else {
        Err(sqlx::Error::RowNotFound)
    }
}

/// A service's migrations preceded by those of the messaging core.
///
/// Files of a service begin at version 1001, so that the core can grow without renumbering them.
pub fn migrations(service: Migrator) -> Migrator {
    let core = sqlx::migrate!("../../migrations/messaging");
    let all: Vec<Migration> = core.iter().chain(service.iter()).cloned().collect();
    Migrator::with_migrations(all)
}
