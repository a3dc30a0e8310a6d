//! Who relays what: the outbox has lanes, and each is owned by one relay at a time.
//!
//! Ownership is a session-level advisory lock, so it ends with the session, whatever happens to the
//! process. Each relay also holds a *shared* lock as a sign of life; counting those tells how many
//! share the lanes, and everyone keeps a fair part. Of the relays that read the log only one takes part,
//! the leader; the others stand by and hold nothing.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, PgConnection, PgPool};

use crate::outbox::LANES;
use crate::session::by_key;

/// First key of our advisory locks; the second is the lane, [`PRESENCE`] or [`LEADER`].
const NAMESPACE: i32 = 0x7469_6469;
const PRESENCE: i32 = 1_000;
const LEADER: i32 = 1_001;
/// The server ends a session that says nothing for so long: a stopped process must not keep its lanes.
const SILENCE: Duration = Duration::from_secs(15);

/// A session of its own that holds lanes.
pub(crate) struct Lanes {
    session: PgConnection,
    held: BTreeSet<i16>,
    relays: i64,
    /// How many lanes were ever taken.
    taken: u64,
    /// When the session was last asked something that it answered.
    renewed: Instant,
}

impl Lanes {
    /// Opens the session; no lock is held yet.
    pub(crate) async fn open(pool: &PgPool) -> sqlx::Result<Self> {
        let options = by_key(PgConnectOptions::clone(&pool.connect_options()))
            .application_name("relay")
            .options([
                ("idle_session_timeout", SILENCE.as_millis().to_string()),
                ("tcp_keepalives_idle", "5".into()),
                ("tcp_keepalives_interval", "2".into()),
                ("tcp_keepalives_count", "3".into()),
            ]);
        let asked = Instant::now();
        Ok(Self {
            session: options.connect().await?,
            held: BTreeSet::new(),
            relays: 1,
            taken: 0,
            renewed: asked,
        })
    }

    /// Takes part from now on.
    pub(crate) async fn join(&mut self) -> sqlx::Result<()> {
        sqlx::query!("select pg_advisory_lock_shared($1, $2)", NAMESPACE, PRESENCE)
            .execute(&mut self.session)
            .await?;
        Ok(())
    }

    /// Becomes the leader, unless there is one.
    pub(crate) async fn lead(&mut self) -> sqlx::Result<bool> {
        sqlx::query_scalar!(r#"select pg_try_advisory_lock($1, $2) as "leads!""#, NAMESPACE, LEADER)
            .fetch_one(&mut self.session)
            .await
    }

    /// Makes way for another leader.
    pub(crate) async fn resign(&mut self) -> sqlx::Result<()> {
        let resigned = sqlx::query_scalar!("select pg_advisory_unlock($1, $2)", NAMESPACE, LEADER);
        resigned.fetch_one(&mut self.session).await?;
        Ok(())
    }

    /// Takes free lanes up to a fair part, and gives back what exceeds it.
    ///
    /// Only called between batches, so a lane never changes hands while its events are under way.
    pub(crate) async fn balance(&mut self) -> sqlx::Result<()> {
        let asked = Instant::now();
        self.relays = sqlx::query_scalar!(
            r#"
            select count(*) as "relays!" from pg_locks
            where locktype = 'advisory' and classid = $1::int::oid and objid = $2::int::oid and granted
              and database = (select oid from pg_database where datname = current_database())
            "#,
            NAMESPACE,
            PRESENCE,
        )
        .fetch_one(&mut self.session)
        .await?
        .max(1);
        let fair = (i64::from(LANES) + self.relays - 1) / self.relays;
        while self.held.len() as i64 > fair {
            let Some(lane) = self.held.pop_last() else { break };
            let released = sqlx::query_scalar!("select pg_advisory_unlock($1, $2)", NAMESPACE, i32::from(lane));
            released.fetch_one(&mut self.session).await?;
        }
        let wanted: Vec<i32> = (0..LANES)
            .filter(|lane| !self.held.contains(lane))
            .map(i32::from)
            .collect();
        for lane in wanted {
            if self.held.len() as i64 >= fair {
                break;
            }
            let taken = sqlx::query_scalar!(r#"select pg_try_advisory_lock($1, $2) as "taken!""#, NAMESPACE, lane);
            if taken.fetch_one(&mut self.session).await? {
                self.held.insert(lane as i16);
                self.taken += 1;
            }
        }
        self.renewed = asked;
        Ok(())
    }

    /// Fails if the server may have given our lanes to somebody else: this process was stopped for too long.
    pub(crate) fn are_ours(&self) -> anyhow::Result<()> {
        let silent = self.renewed.elapsed();
        anyhow::ensure!(
            silent < SILENCE,
            "this process stood still for {silent:?}, its lanes may be another's"
        );
        Ok(())
    }

    /// Changes whenever a lane was taken.
    pub(crate) fn taken(&self) -> u64 {
        self.taken
    }

    /// The lanes this relay may publish.
    pub(crate) fn held(&self) -> Vec<i16> {
        self.held.iter().copied().collect()
    }

    /// Whether other relays hold the rest.
    pub(crate) fn shared(&self) -> bool {
        self.relays > 1
    }

    /// The session that holds the locks: when it is lost, whatever runs on it fails.
    pub(crate) fn session(&mut self) -> &mut PgConnection {
        &mut self.session
    }

    /// Gives everything back by ending the session.
    pub(crate) async fn close(self) {
        use sqlx::Connection;
        if let Err(error) = self.session.close().await {
            tracing::debug!(%error, "the relay's session was already gone");
        }
    }
}
