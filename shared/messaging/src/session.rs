//! Sessions for units of work: one that is not known to be sound is never used again.
//!
//! A pool would do, but for three things. A future that is dropped while a transaction begins can leave
//! it open in a pooled connection, and the next user's writes vanish with it (sqlx issue 4385). A link
//! that has died without a word keeps its place in the pool until TCP gives up, a quarter of an hour
//! later. And a pool asks every connection whether it lives, before and after each use. Here, whatever
//! did not end with a clean commit is closed, and the server rolls back.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Executor, PgConnection};
use tokio::time::timeout;

/// How many idle sessions are kept for the next unit of work.
const KEPT: usize = 4;
/// How long a session may take to be opened, or to begin.
const BEGIN_WITHIN: Duration = Duration::from_secs(2);
/// How long a single statement may take: longer than the server lets it run.
const ONCE_WITHIN: Duration = Duration::from_secs(10);

/// Sessions between two units of work; clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Sessions {
    options: Arc<PgConnectOptions>,
    idle: Arc<Mutex<Vec<PgConnection>>>,
}

impl Sessions {
    pub(crate) fn new(options: &PgConnectOptions) -> Self {
        Self {
            options: Arc::new(by_key(options.clone())),
            idle: Arc::default(),
        }
    }

    /// Begins a transaction. A kept session that has died is noticed here; the others then are no better.
    pub(crate) async fn begin(&self) -> sqlx::Result<Tx> {
        let kept = self.idle().pop();
        if let Some(session) = kept {
            match self.begin_on(session).await {
                Ok(tx) => return Ok(tx),
                Err(_) => self.idle().clear(),
            }
        }
        let session = self.open().await?;
        self.begin_on(session).await
    }

    /// One statement, without a transaction around it; afterwards the session is kept, unless there was an error.
    pub(crate) async fn once<T>(
        &self,
        work: impl AsyncFnOnce(&mut PgConnection) -> sqlx::Result<T>,
    ) -> sqlx::Result<T> {
        let kept = self.idle().pop();
        let mut session = match kept {
            Some(session) => session,
            None => self.open().await?,
        };
        let done = timeout(ONCE_WITHIN, work(&mut session)).await;
        let done = done.unwrap_or(Err(sqlx::Error::PoolTimedOut));
        match done {
            Ok(_) => self.keep(session),
            Err(_) => self.idle().clear(),
        }
        done
    }

    async fn open(&self) -> sqlx::Result<PgConnection> {
        let opened = timeout(BEGIN_WITHIN, self.options.connect()).await;
        opened.map_err(|_| sqlx::Error::PoolTimedOut)?
    }

    async fn begin_on(&self, mut session: PgConnection) -> sqlx::Result<Tx> {
        let begun = timeout(BEGIN_WITHIN, session.execute("begin")).await;
        begun.map_err(|_| sqlx::Error::PoolTimedOut)??;
        Ok(Tx {
            session,
            home: self.clone(),
            once_committed: Vec::new(),
        })
    }

    fn idle(&self) -> MutexGuard<'_, Vec<PgConnection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, session: PgConnection) {
        let mut idle = self.idle();
        if idle.len() < KEPT {
            idle.push(session);
        }
    }
}

/// Units of work and relays find rows by key. A plan that was made while a table was empty, and is kept
/// as long as the session, must not read the whole of it an hour later.
pub(crate) fn by_key(options: PgConnectOptions) -> PgConnectOptions {
    options.options([("enable_seqscan", "off"), ("jit", "off")])
}

/// A transaction of the service's database. Dropping it closes its session, which rolls it back.
pub struct Tx {
    session: PgConnection,
    home: Sessions,
    once_committed: Vec<Box<dyn FnOnce() + Send + Sync>>,
}

impl fmt::Debug for Tx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tx")
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}

impl Tx {
    /// Commits, and keeps the session for the next. After an error the outcome is unknown.
    pub async fn commit(mut self) -> sqlx::Result<()> {
        self.session.execute("commit").await?;
        self.home.keep(self.session);
        self.once_committed.into_iter().for_each(|tell| tell());
        Ok(())
    }

    /// Has something measured once it has really happened: after the commit, and never after a rollback.
    pub fn once_committed(&mut self, measure: impl FnOnce() + Send + Sync + 'static) {
        self.once_committed.push(Box::new(measure));
    }
}

impl Deref for Tx {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.session
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.session
    }
}
