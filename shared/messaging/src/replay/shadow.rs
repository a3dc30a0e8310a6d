//! The tables beside the live ones, and the one session that may put them in their place.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Executor, PgConnection};
use uuid::Uuid;

use super::report::Difference;
use super::{Projection, Table};
use crate::Db;

/// The schema of the tables beside; its functions know it as well.
const SCHEMA: &str = "replay";
/// What the messaging core writes in a unit of work that tells nothing.
const CORE: [&str; 2] = ["inbox", "dead_letters"];
/// Our advisory lock: one replay of a database at a time, whichever replica it runs in.
const LOCK: i64 = 0x7265_706c_6179;

/// How long the server may take to notice that whoever held it is dead.
const GIVEN_UP_WITHIN: Duration = Duration::from_secs(10);

/// Tables beside the live ones.
pub(super) struct Shadow {
    /// Units of work go here.
    pub(super) db: Db,
    /// When it began, by the database's clock.
    pub(super) began_at: DateTime<Utc>,
    service: &'static str,
    exchanged: Vec<String>,
    /// Holds the right to replay, and goes with it.
    session: PgConnection,
}

impl Shadow {
    /// Takes the right to replay, and makes empty tables.
    pub(super) async fn make<W>(db: &Db, service: &'static str, projection: &Projection<W>) -> Result<Self> {
        let mut session = open(db).await?;
        ensure!(is_free(&mut session).await?, "another replica is replaying");
        let own = projection.tables.iter().map(|table| table.name);
        let exchanged: Vec<String> = CORE.into_iter().chain(own).map(str::to_owned).collect();
        let gauges = projection.gauges.iter().map(|name| (*name).to_owned());
        let all: Vec<String> = exchanged.iter().cloned().chain(gauges).collect();
        sqlx::query!("select replay_prepare($1)", &all)
            .execute(&mut session)
            .await?;
        let now = sqlx::query_scalar!(r#"select clock_timestamp() as "now!""#);
        let mut shadow = Self {
            db: db.beside(SCHEMA),
            began_at: now.fetch_one(&mut session).await?,
            service,
            exchanged,
            session,
        };
        shadow.carry_letters(false).await?;
        Ok(shadow)
    }

    /// Lets the planner know how much there is.
    pub(super) async fn analyze(&mut self) -> sqlx::Result<()> {
        let analyze = sqlx::query!("select replay_analyze($1)", &self.exchanged);
        analyze.execute(&mut self.session).await.map(drop)
    }

    /// Begins a transaction that no unit of work of the live service ends beside: from here on it waits.
    pub(super) async fn lock_the_live_inbox(&mut self) -> sqlx::Result<()> {
        self.session.execute("begin").await?;
        let lock = "lock table public.inbox, public.dead_letters in exclusive mode";
        self.session.execute(lock).await.map(drop)
    }

    /// Lets the live service go on, and leaves everything as it was.
    pub(super) async fn unlock(&mut self) -> sqlx::Result<()> {
        self.session.execute("rollback").await.map(drop)
    }

    /// What the live service has heard and the replay has not, and when.
    pub(super) async fn missing(&mut self) -> sqlx::Result<Vec<(Uuid, DateTime<Utc>)>> {
        let missing = sqlx::query!(
            r#"select event_id as "event_id!", heard_at as "heard_at!" from replay_missing($1)"#,
            self.service,
        );
        let rows = missing.fetch_all(&mut self.session).await?;
        Ok(rows.into_iter().map(|row| (row.event_id, row.heard_at)).collect())
    }

    /// How many of these the live service has not heard yet.
    pub(super) async fn ahead(&mut self, ids: &[Uuid]) -> sqlx::Result<i64> {
        ahead(&mut self.session, self.service, ids).await
    }

    /// Rows that differ, so many at most, and how many there are.
    pub(super) async fn differences(
        &mut self,
        table: &Table,
        range: Option<(Uuid, Uuid)>,
        most: i64,
    ) -> sqlx::Result<(u64, Vec<Difference>)> {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let rows = sqlx::query!(
            r#"
            select key as "key!", live, rebuilt, total as "total!"
            from replay_differences($1, $2, $3, $4, $5, $6)
            "#,
            table.name,
            &owned(table.ignored),
            &owned(table.sums),
            range.map(|range| range.0),
            range.map(|range| range.1),
            most,
        );
        let rows = rows.fetch_all(&mut self.session).await?;
        let total = rows.first().map_or(0, |row| row.total.unsigned_abs());
        let difference = |(key, live, rebuilt)| Difference { key, live, rebuilt };
        let rows = rows.into_iter().map(|row| difference((row.key, row.live, row.rebuilt)));
        Ok((total, rows.collect()))
    }

    /// Rows of a replayed table, so many at most.
    pub(super) async fn rows(&mut self, table: &Table, most: i64) -> sqlx::Result<Vec<Value>> {
        let rows = sqlx::query_scalar!(r#"select replay_rows($1, $2) as "row!""#, table.name, most);
        rows.fetch_all(&mut self.session).await
    }

    /// Puts the tables in place of the live ones and commits.
    pub(super) async fn exchange(&mut self) -> sqlx::Result<()> {
        self.carry_letters(true).await?;
        let exchange = sqlx::query!("select replay_exchange($1)", &self.exchanged);
        exchange.execute(&mut self.session).await?;
        self.session.execute("commit").await.map(drop)
    }

    async fn carry_letters(&mut self, lost_too: bool) -> sqlx::Result<()> {
        let carry = sqlx::query!("select replay_carry_letters($1, $2)", self.service, lost_too);
        carry.execute(&mut self.session).await.map(drop)
    }
}

/// How many of these events the live service has not heard yet.
pub(super) async fn ahead(session: &mut PgConnection, service: &str, ids: &[Uuid]) -> sqlx::Result<i64> {
    let ahead = sqlx::query_scalar!(r#"select replay_ahead($1, $2) as "ahead!""#, service, ids);
    ahead.fetch_one(session).await
}

/// Takes the lock; that of a process which has just died is given up a moment later.
async fn is_free(session: &mut PgConnection) -> sqlx::Result<bool> {
    let deadline = Instant::now() + GIVEN_UP_WITHIN;
    loop {
        let free = sqlx::query_scalar!(r#"select pg_try_advisory_lock($1) as "free!""#, LOCK);
        if free.fetch_one(&mut *session).await? {
            return Ok(true);
        }
        if Instant::now() > deadline {
            return Ok(false);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// A session that may read whole tables, and hold a transaction while others work.
async fn open(db: &Db) -> sqlx::Result<PgConnection> {
    let options = PgConnectOptions::clone(&db.pool().connect_options()).options([
        ("statement_timeout", "10min"),
        ("lock_timeout", "30s"),
        ("idle_in_transaction_session_timeout", "60s"),
        // Whoever dies in the middle of it keeps nobody waiting.
        ("client_connection_check_interval", "1s"),
    ]);
    options.connect().await
}
