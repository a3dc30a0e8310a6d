//! The relay that reads the log: logical replication of what is inserted into the outbox.
//!
//! The outbox stays the truth, and the locks of the lanes say who may publish; the log replaces only the
//! question "is there anything new?". So the slot may be lost, taken away or refused at any time: the
//! table is polled until there is a slot again, and switching needs no more than three steps:
//!
//! 1. The log is read from somewhere before now.
//! 2. What the table holds is published, as by the polling relay. Where the log ends after that is remembered.
//! 3. From there on the log alone tells what is new. What it tells from before may have been published
//!    since: the table is asked whether it still waits.
//!
//! The same three steps are made when a lane is taken over, and twice a minute as a net.

use std::collections::{BTreeSet, HashSet};
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnectOptions;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::feed::Feed;
use super::polling::Table;
use super::row::{self, Row};
use super::status::Standing;
use super::tail::{Change, Tail};
use super::{slot, tail};
use crate::lanes::Lanes;
use crate::{Db, metrics};

/// How long the table is polled before a slot is asked for again.
const RETRY: Duration = Duration::from_secs(5);
/// The longest wait for the log, so that the lanes are balanced and the session stays awake.
const IDLE: Duration = Duration::from_secs(1);

/// Publishes what the log tells, or what the table holds while there is no slot.
pub(crate) struct Cdc {
    options: PgConnectOptions,
    table: Table,
    source: Source,
    /// Whether the table may hold what the log will not tell.
    unread: bool,
    /// What is told from before may have been published since.
    known_until: u64,
    lanes_taken: u64,
    standing: watch::Sender<Standing>,
}

enum Source {
    /// The table, until this has come to an end.
    Table(AbortOnDropHandle<Tail>),
    Log(Tail),
}

impl Cdc {
    pub(crate) async fn open(db: &Db, standing: watch::Sender<Standing>) -> sqlx::Result<Self> {
        Ok(Self {
            options: PgConnectOptions::clone(&db.pool().connect_options()),
            table: Table::open(db).await?,
            // Nobody but the leader asks for the slot.
            source: Source::Table(AbortOnDropHandle::new(tokio::spawn(std::future::pending()))),
            unread: true,
            known_until: 0,
            lanes_taken: 0,
            standing,
        })
    }

    /// Polls the table until there is a slot.
    fn ask_for_slot(&mut self, anew: bool, after: Duration) {
        let asking = obtain(self.options.clone(), self.standing.clone(), anew, after);
        self.source = Source::Table(AbortOnDropHandle::new(tokio::spawn(asking)));
    }

    fn fall_back(&mut self, error: &tail::Broken) {
        metrics::messaging().relay_fallbacks.add(1, &[]);
        tracing::warn!(%error, "the log cannot be read any further, the outbox is polled meanwhile");
        self.standing.send_replace(Standing::Polling(error.to_string()));
        self.ask_for_slot(error.slot_is_useless(), RETRY / 10);
    }

    /// Follows the log as soon as there is a slot.
    async fn switch(&mut self) -> anyhow::Result<()> {
        if let Source::Table(asking) = &mut self.source
            && asking.is_finished()
        {
            let tail = asking.await?;
            self.source = Source::Log(tail);
            self.unread = true;
            self.standing.send_replace(Standing::Following);
            metrics::messaging().relay_streams.add(1, &[]);
            tracing::info!("events are published as the log tells of them");
        }
        Ok(())
    }

    /// Leaves what is ours and still waits, in the order of ids, which within a subject is that of commits.
    async fn ours(&self, lanes: &mut Lanes, mut told: Vec<Change>) -> sqlx::Result<Vec<Row>> {
        let held: BTreeSet<i16> = lanes.held().into_iter().collect();
        told.retain(|change| held.contains(&change.row.lane));
        let doubtful: Vec<&Change> = told
            .iter()
            .filter(|change| change.committed < self.known_until)
            .collect();
        if !doubtful.is_empty() {
            let ids: Vec<i64> = doubtful.iter().map(|change| change.row.id).collect();
            let writers: BTreeSet<u32> = doubtful.iter().map(|change| change.writer).collect();
            let writers: Vec<String> = writers.iter().map(ToString::to_string).collect();
            let waiting: HashSet<i64> = row::waiting(lanes, &ids, &writers).await?.into_iter().collect();
            told.retain(|change| change.committed >= self.known_until || waiting.contains(&change.row.id));
        }
        let mut rows: Vec<Row> = told.into_iter().map(|change| change.row).collect();
        rows.sort_unstable_by_key(|row| row.id);
        rows.dedup_by_key(|row| row.id);
        Ok(rows)
    }
}

impl Feed for Cdc {
    async fn join(&mut self, lanes: &mut Lanes) -> sqlx::Result<bool> {
        if !lanes.lead().await? {
            self.standing.send_replace(Standing::StandingBy);
            return Ok(false);
        }
        lanes.join().await?;
        self.standing
            .send_replace(Standing::Polling("the slot is being asked for".into()));
        self.ask_for_slot(false, Duration::ZERO);
        Ok(true)
    }

    async fn next(&mut self, lanes: &mut Lanes, limit: i64) -> anyhow::Result<Vec<Row>> {
        self.switch().await?;
        if self.lanes_taken != lanes.taken() {
            (self.lanes_taken, self.unread) = (lanes.taken(), true);
        }
        let Source::Log(tail) = &mut self.source else {
            return Ok(self.table.read(lanes, limit).await?);
        };
        if self.unread {
            let rows = self.table.read(lanes, limit).await?;
            self.known_until = row::end_of_log(lanes).await?;
            self.unread = rows.len() as i64 == limit;
            if !rows.is_empty() {
                return Ok(rows);
            }
        }
        let told = match tail.told(limit) {
            Ok(told) => told,
            Err(error) => {
                self.fall_back(&error);
                return Ok(self.table.read(lanes, limit).await?);
            }
        };
        let rows = self.ours(lanes, told).await?;
        if rows.is_empty() {
            self.settled();
        }
        Ok(rows)
    }

    fn settled(&mut self) {
        if let Source::Log(tail) = &mut self.source {
            tail.confirm();
        }
    }

    async fn wait(&mut self) -> anyhow::Result<()> {
        match &mut self.source {
            Source::Table(_) => self.table.call().await,
            Source::Log(tail) => {
                tail.wait(IDLE).await;
                Ok(())
            }
        }
    }

    fn look_again(&mut self) {
        self.unread = true;
    }

    async fn tend(&mut self, lanes: &mut Lanes) -> anyhow::Result<()> {
        self.unread = true;
        let slot = slot::status(lanes.session()).await?;
        let lag = slot.as_ref().map_or(0, |slot| slot.lag_bytes);
        if let Some(slot) = slot.filter(|slot| slot.wal_status == "unreserved") {
            tracing::warn!(
                slot = slot.name,
                lag,
                "the replication slot is about to be lost, it lags too far behind"
            );
        }
        Ok(())
    }
}

/// Asks for the slot until it is there; what stands in the way is told once.
async fn obtain(options: PgConnectOptions, standing: watch::Sender<Standing>, mut anew: bool, after: Duration) -> Tail {
    let mut pause = after;
    let mut told = String::new();
    loop {
        tokio::time::sleep(pause).await;
        let asked = Instant::now();
        match slot::follow(&options, anew).await {
            Ok(client) => return Tail::of(client),
            Err(error) => {
                let obstacle = format!("{error:#}");
                if obstacle != told {
                    metrics::messaging().relay_fallbacks.add(1, &[]);
                    tracing::warn!(error = obstacle, took = ?asked.elapsed(), "there is no slot, the outbox is polled");
                }
                standing.send_replace(Standing::Polling(obstacle.clone()));
                anew |= slot::is_useless(&obstacle);
                (told, pause) = (obstacle, RETRY.mul_f64(0.5 + fastrand::f64()));
            }
        }
    }
}
