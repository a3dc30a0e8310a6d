//! The relay that asks the table: woken in memory after each commit, with a slow poll as the net.

use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::PgListener;
use tokio::sync::watch;

use super::feed::Feed;
use super::row::{self, Row};
use super::slot;
use crate::Db;
use crate::lanes::Lanes;

/// How often the outbox is looked at although nobody called.
const IDLE: Duration = Duration::from_millis(500);
/// The channel on which replicas wake each other, between transactions, never inside one.
const CHANNEL: &str = "outbox";

/// The outbox as a table, and the calls that it has changed.
pub(crate) struct Table {
    commits: watch::Receiver<()>,
    calls: PgListener,
}

impl Table {
    pub(crate) async fn open(db: &Db) -> sqlx::Result<Self> {
        let commits = db.commits();
        let mut calls = PgListener::connect_with(db.pool()).await?;
        calls.listen(CHANNEL).await?;
        Ok(Self { commits, calls })
    }

    /// The oldest rows, whatever called for them.
    pub(crate) async fn read(&mut self, lanes: &mut Lanes, limit: i64) -> sqlx::Result<Vec<Row>> {
        self.commits.mark_unchanged();
        row::read(lanes, limit).await
    }

    /// Until somebody committed, or called, or for a moment.
    pub(crate) async fn call(&mut self) -> anyhow::Result<()> {
        tokio::select! {
            _ = self.commits.changed() => {}
            call = self.calls.recv() => { call?; }
            () = tokio::time::sleep(IDLE) => {}
        }
        Ok(())
    }
}

/// Tells the other replicas of commits in lanes that they own.
pub(crate) async fn call_others(lanes: &mut Lanes) -> sqlx::Result<()> {
    sqlx::query!("select pg_notify($1, '')", CHANNEL)
        .execute(lanes.session())
        .await?;
    Ok(())
}

/// Publishes what the table holds, and sees to it that no slot is left behind.
pub(crate) struct Polling {
    table: Table,
    pool: PgPool,
}

impl Polling {
    pub(crate) async fn open(db: &Db) -> sqlx::Result<Self> {
        Ok(Self {
            table: Table::open(db).await?,
            pool: db.pool().clone(),
        })
    }
}

impl Feed for Polling {
    async fn join(&mut self, lanes: &mut Lanes) -> sqlx::Result<bool> {
        lanes.join().await?;
        self.drop_slot(lanes).await?;
        Ok(true)
    }

    async fn next(&mut self, lanes: &mut Lanes, limit: i64) -> anyhow::Result<Vec<Row>> {
        Ok(self.table.read(lanes, limit).await?)
    }

    fn settled(&mut self) {}

    async fn wait(&mut self) -> anyhow::Result<()> {
        self.table.call().await
    }

    fn look_again(&mut self) {}

    async fn tend(&mut self, lanes: &mut Lanes) -> anyhow::Result<()> {
        Ok(self.drop_slot(lanes).await?)
    }
}

impl Polling {
    /// A slot that nobody reads keeps the log until the disk is full. While a reader leads, it is not forgotten.
    async fn drop_slot(&self, lanes: &mut Lanes) -> sqlx::Result<()> {
        if !slot::exists(&self.pool).await? || !lanes.lead().await? {
            return Ok(());
        }
        match slot::discard(&self.pool).await {
            Ok(()) => tracing::info!("the replication slot of the other relay is dropped, this one needs none"),
            Err(error) => tracing::warn!(%error, "a replication slot that nobody reads cannot be dropped"),
        }
        lanes.resign().await
    }
}
