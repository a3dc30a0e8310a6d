//! Which idempotency keys are being worked on, in all replicas of a service.
//!
//! A key under way is an advisory lock of a session that this process keeps for nothing else. Nothing is written, and
//! nothing can be left behind: when the process dies its session ends, and when its link dies in silence the server
//! ends the session after [`LEASE`], because nobody says that it is still needed. The lock only decides who is told to
//! wait. That a key has one effect is the business of the table of answers, so one that is lost too early does no harm.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use messaging::Db;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, PgConnection};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use uuid::Uuid;

use crate::ApiError;

/// How long the server keeps a session of which nothing is heard, and with it the keys.
const LEASE: &str = "10s";
/// How often the server hears of it.
const RENEW: Duration = Duration::from_secs(3);
/// How many claims and releases share one statement at most.
const BATCH: usize = 256;
/// How long a statement may take, or opening the session.
const WITHIN: Duration = Duration::from_secs(2);

/// The keys under way; clones share them.
#[derive(Debug, Clone)]
pub struct InFlight {
    here: Arc<Mutex<HashSet<i64>>>,
    keeper: mpsc::UnboundedSender<Ask>,
}

/// A key of which this request is the only one under way, until it is dropped.
#[derive(Debug)]
pub struct Claim {
    entry: Entry,
    keeper: mpsc::UnboundedSender<Ask>,
}

/// The place of a key among those of this process.
#[derive(Debug)]
struct Entry {
    key: i64,
    here: Arc<Mutex<HashSet<i64>>>,
}

#[derive(Debug)]
enum Ask {
    Claim(Entry, oneshot::Sender<Option<Entry>>),
    Release(i64),
}

impl InFlight {
    /// Starts the task that keeps the session; it ends with the last clone and the last claim.
    pub fn start(db: &Db) -> Self {
        let (keeper, asked) = mpsc::unbounded_channel();
        let options = PgConnectOptions::clone(&db.pool().connect_options());
        tokio::spawn(keep(options.options([("idle_session_timeout", LEASE)]), asked));
        Self {
            here: Arc::default(),
            keeper,
        }
    }

    /// Claims a key for as long as the claim lives; 409 while another request has it, here or in another replica.
    pub async fn claim(&self, scope: &str) -> Result<Claim, ApiError> {
        let entry = Entry::of(number(scope), &self.here).ok_or_else(under_way)?;
        let away = || ApiError::unavailable("the database cannot be reached, try again");
        let (reply, answer) = oneshot::channel();
        self.keeper.send(Ask::Claim(entry, reply)).map_err(|_| away())?;
        let entry = answer.await.map_err(|_| away())?.ok_or_else(under_way)?;
        Ok(Claim {
            entry,
            keeper: self.keeper.clone(),
        })
    }
}

/// Of two keys with one number, one would have to wait for the other: of 2⁶⁴ numbers, at worst a delay.
fn number(scope: &str) -> i64 {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, scope.as_bytes()).as_u64_pair().0 as i64
}

fn under_way() -> ApiError {
    let detail = "a request with this Idempotency-Key is under way, repeat yours in a second";
    ApiError::new(StatusCode::CONFLICT, "idempotency-key-in-flight", detail).retry_after(1)
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Before the entry goes: whoever claims the key next stands behind this in the queue.
        let _ = self.keeper.send(Ask::Release(self.entry.key));
    }
}

impl Entry {
    /// None when the key has a place already.
    fn of(key: i64, here: &Arc<Mutex<HashSet<i64>>>) -> Option<Self> {
        let free = keys(here).insert(key);
        free.then(|| Self {
            key,
            here: Arc::clone(here),
        })
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        keys(&self.here).remove(&self.key);
    }
}

fn keys(here: &Mutex<HashSet<i64>>) -> MutexGuard<'_, HashSet<i64>> {
    here.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn keep(options: PgConnectOptions, mut asked: mpsc::UnboundedReceiver<Ask>) {
    let mut keeper = Keeper { options, session: None };
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        match timeout(RENEW, asked.recv_many(&mut batch, BATCH)).await {
            Ok(0) => return,
            Ok(_) => keeper.serve(std::mem::take(&mut batch)).await,
            Err(_) => keeper.renew().await,
        }
    }
}

struct Keeper {
    options: PgConnectOptions,
    session: Option<PgConnection>,
}

impl Keeper {
    /// Releases first, in one statement; then claims, in another.
    async fn serve(&mut self, batch: Vec<Ask>) {
        let (mut releases, mut claims) = (Vec::new(), Vec::new());
        for ask in batch {
            match ask {
                Ask::Release(key) => releases.push(key),
                Ask::Claim(entry, reply) => claims.push((entry, reply)),
            }
        }
        self.release(releases).await;
        let wanted: Vec<i64> = claims.iter().map(|(entry, _)| entry.key).collect();
        if wanted.is_empty() {
            return;
        }
        let mut granted = self.lock(&wanted).await;
        if granted.is_err() {
            // The kept session may have died unnoticed.
            granted = self.lock(&wanted).await;
        }
        match granted {
            Ok(granted) => self.reply(claims, granted).await,
            Err(error) => tracing::warn!(%error, "idempotency keys could not be claimed"),
        }
    }

    /// Whoever has hung up meanwhile does not keep the key.
    async fn reply(&mut self, claims: Vec<(Entry, oneshot::Sender<Option<Entry>>)>, granted: Vec<bool>) {
        let mut unclaimed = Vec::new();
        for ((entry, reply), granted) in claims.into_iter().zip(granted) {
            let entry = granted.then_some(entry);
            unclaimed.extend(reply.send(entry).err().flatten());
        }
        self.release(unclaimed.iter().map(|entry| entry.key).collect()).await;
    }

    async fn lock(&mut self, keys: &[i64]) -> sqlx::Result<Vec<bool>> {
        self.ask(
            "select pg_try_advisory_lock(key) from unnest($1::bigint[]) as key",
            keys,
        )
        .await
    }

    /// With the session its locks are gone as well, so there is nothing to try again.
    async fn release(&mut self, keys: Vec<i64>) {
        if !keys.is_empty() && self.session.is_some() {
            let unlock = "select pg_advisory_unlock(key) from unnest($1::bigint[]) as key";
            let _ = self.ask(unlock, &keys).await;
        }
    }

    async fn renew(&mut self) {
        if self.session.is_some() {
            let _ = self.lock(&[]).await;
        }
    }

    /// A session that gave no answer in time is closed.
    async fn ask(&mut self, question: &'static str, keys: &[i64]) -> sqlx::Result<Vec<bool>> {
        let asked = async {
            let mut session = match self.session.take() {
                Some(session) => session,
                None => self.options.connect().await?,
            };
            let asked = sqlx::query_scalar(question).bind(keys);
            let answers = asked.fetch_all(&mut session).await?;
            Ok((session, answers))
        };
        let (session, answers) = timeout(WITHIN, asked).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))?;
        self.session = Some(session);
        Ok(answers)
    }
}
