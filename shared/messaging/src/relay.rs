//! The relay: publishes what the outbox holds, then forgets it.
//!
//! It lives in the service's own process. Any number of replicas run it, and lanes under locks say who
//! may publish what, so the events of one subject are published in the order of their commits. Whatever
//! was published but not yet forgotten when the process died is published again under the same id, and
//! deduplicated by the broker or, later, by the consumers' inboxes.
//!
//! There are two, which differ in how they learn of new events: one polls the table, the other reads the
//! log. They may run side by side, and be exchanged at any time.

mod cdc;
mod feed;
mod pgoutput;
mod polling;
mod row;
mod slot;
mod status;
mod tail;

use std::fmt::{self, Display};
use std::str::FromStr;
use std::time::{Duration, Instant};

use async_nats::connection::State;
use async_nats::jetstream;
use events::Owner;
use opentelemetry::KeyValue;
use serde::Serialize;
use telemetry::{Kind as SpanKind, Span, TraceContext, semconv};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use self::cdc::Cdc;
use self::feed::Feed;
use self::polling::{Polling, call_others};
use self::row::{Row, forget};
pub use self::slot::{Slot, status as slot};
pub use self::status::{Standing, Status};
use crate::fault_points::reach;
use crate::lanes::Lanes;
use crate::pace::Pace;
use crate::publish::{LARGEST_BATCH, Outgoing, publish};
use crate::{Db, amnesia, metrics};

/// How often somebody who stands by asks whether it is its turn.
const STANDBY: Duration = Duration::from_millis(500);
/// How often the lanes are shared out anew.
const BALANCE: Duration = Duration::from_secs(1);
/// How long one step may take; a link that has died without a word does not stop the relay for longer.
const ROUND: Duration = Duration::from_secs(15);
/// How long an orderly end of the session may take; the server ends it by itself if need be.
const GOODBYE: Duration = Duration::from_secs(1);
/// How often the archive is compared with the stream although no connection was lost.
const RECALL: Duration = Duration::from_secs(30);

/// How a relay learns what is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It asks the table.
    #[default]
    Polling,
    /// It reads the log, by logical replication (change data capture).
    Cdc,
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "polling" => Ok(Self::Polling),
            "cdc" => Ok(Self::Cdc),
            other => Err(format!("RELAY is \"{other}\", but must be \"polling\" or \"cdc\"")),
        }
    }
}

impl Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Polling => "polling",
            Self::Cdc => "cdc",
        })
    }
}

/// Publishes the outbox of one service.
pub struct Relay {
    db: Db,
    jetstream: jetstream::Context,
    owner: Owner,
    kind: Kind,
    standing: watch::Sender<Standing>,
}

impl Relay {
    /// A relay for the service that owns the stream.
    pub fn new(db: Db, jetstream: jetstream::Context, owner: Owner, kind: Kind) -> Self {
        Self {
            db,
            jetstream,
            owner,
            kind,
            standing: watch::Sender::default(),
        }
    }

    /// What it does from now on.
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    /// Publishes until shutdown; after a failure it starts over with a new session.
    pub async fn run(self, shutdown: CancellationToken) {
        metrics::messaging().expect_relay();
        let mut failures = 0;
        while !shutdown.is_cancelled() {
            let Err(error) = self.session(&shutdown, &mut failures).await else {
                continue;
            };
            self.standing.send_replace(Standing::StandingBy);
            metrics::messaging().relay_failures.add(1, &[]);
            tracing::warn!(error = format!("{error:#}"), "cannot publish, will try again");
            let pause = Duration::from_millis(fastrand::u64(20..=(100 << failures.min(5))));
            failures += 1;
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// One session, which ends with the first failure.
    async fn session(&self, shutdown: &CancellationToken, failures: &mut u32) -> anyhow::Result<()> {
        self.wait_for_broker(shutdown).await;
        match self.kind {
            Kind::Polling => {
                let feed = timeout(ROUND, Polling::open(&self.db)).await??;
                self.serve(feed, shutdown, failures).await
            }
            Kind::Cdc => {
                let feed = timeout(ROUND, Cdc::open(&self.db, self.standing.clone())).await??;
                self.serve(feed, shutdown, failures).await
            }
        }
    }

    /// Owns lanes, and forwards batch after batch while everything goes well.
    async fn serve(&self, mut feed: impl Feed, shutdown: &CancellationToken, failures: &mut u32) -> anyhow::Result<()> {
        let mut connection = self.connection();
        let mut recalled = Instant::now();
        self.recall().await?;
        let mut commits = self.db.commits();
        let mut lanes = timeout(ROUND, Lanes::open(self.db.pool())).await??;
        self.stand_by(&mut feed, &mut lanes, shutdown).await?;
        let (mut balanced, mut highest, mut pace) = (None, 0, Pace::default());
        while !shutdown.is_cancelled() {
            pace.wait().await;
            if balanced.is_none_or(|at: Instant| at.elapsed() > BALANCE) {
                timeout(ROUND, lanes.balance()).await??;
                balanced = Some(Instant::now());
                if self.connection() != connection || recalled.elapsed() > RECALL {
                    (connection, recalled) = (self.connection(), Instant::now());
                    self.recall().await?;
                    timeout(ROUND, feed.tend(&mut lanes)).await??;
                }
            }
            if commits.has_changed()? {
                commits.mark_unchanged();
                if lanes.shared() {
                    timeout(ROUND, call_others(&mut lanes)).await??;
                }
            }
            // What was too much for one round is tried in smaller pieces.
            let limit = LARGEST_BATCH >> (*failures).min(6);
            let rows = timeout(ROUND, feed.next(&mut lanes, limit)).await??;
            if rows.is_empty() {
                tokio::select! {
                    () = shutdown.cancelled() => {}
                    waited = feed.wait() => waited?,
                }
                continue;
            }
            let sequence = timeout(ROUND, self.forward(&mut lanes, &rows)).await??;
            feed.settled();
            if sequence < highest {
                // The stream counts anew.
                self.recall().await?;
                feed.look_again();
            }
            (highest, *failures) = (sequence, 0);
        }
        drop(feed);
        let _ = timeout(GOODBYE, lanes.close()).await;
        Ok(())
    }

    /// Until this replica takes part, or shutdown. Asking keeps the session awake.
    async fn stand_by(
        &self,
        feed: &mut impl Feed,
        lanes: &mut Lanes,
        shutdown: &CancellationToken,
    ) -> anyhow::Result<()> {
        while !shutdown.is_cancelled() && !timeout(ROUND, feed.join(lanes)).await?? {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = tokio::time::sleep(STANDBY) => {}
            }
        }
        Ok(())
    }

    /// One batch: publish, forget. Returns its place in the stream.
    ///
    /// No transaction is open while the broker works.
    async fn forward(&self, lanes: &mut Lanes, rows: &[Row]) -> anyhow::Result<u64> {
        reach("relay.read").await?;
        lanes.are_ours()?;
        let started = Instant::now();
        let span = publish_span(self.owner, rows);
        let messages: Vec<Outgoing> = rows.iter().map(Row::outgoing).collect();
        let outcome = publish(&self.jetstream, &messages).await;
        if outcome.is_err() {
            span.fail("publish_failed");
        }
        let sequence = outcome?;
        drop(span);
        reach("relay.published").await?;
        forget(lanes, self.owner, rows, sequence).await?;
        reach("relay.forgotten").await?;
        metrics::messaging().published(self.owner, rows.len(), started.elapsed());
        Ok(sequence)
    }

    /// Puts back what the broker has forgotten, before anything new is published.
    async fn recall(&self) -> anyhow::Result<()> {
        let republished = amnesia::recall(&self.db, &self.jetstream, self.owner).await?;
        metrics::messaging().republished.add(republished, &[]);
        Ok(())
    }

    /// Which connection to which server; another one may know less.
    fn connection(&self) -> (String, u64) {
        let server = self.jetstream.client().server_info();
        (server.server_id, server.client_id)
    }

    /// Reading a batch is pointless while it cannot be published.
    async fn wait_for_broker(&self, shutdown: &CancellationToken) {
        let client = self.jetstream.client();
        while client.connection_state() != State::Connected && !shutdown.is_cancelled() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// A root of its own with a link to each producing span: it serves many traces and belongs to none.
fn publish_span(owner: Owner, rows: &[Row]) -> Span {
    let links: Vec<&TraceContext> = rows.iter().map(|row| &row.envelope.trace).collect();
    Span::start_linked(
        SpanKind::Client,
        format!("publish {}", owner.stream()),
        &TraceContext::NONE,
        &links,
        || {
            vec![
                KeyValue::new(semconv::MESSAGING_SYSTEM, "nats"),
                KeyValue::new(semconv::MESSAGING_OPERATION_NAME, "publish"),
                KeyValue::new(semconv::MESSAGING_OPERATION_TYPE, "send"),
                KeyValue::new(semconv::MESSAGING_DESTINATION_NAME, owner.stream()),
                KeyValue::new(semconv::MESSAGING_BATCH_COUNT, rows.len() as i64),
            ]
        },
    )
}
