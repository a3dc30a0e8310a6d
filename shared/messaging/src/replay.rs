//! Replay: what a service has projected from events is built once more from the streams, compared, and put in place.
//!
//! ```text
//! reading    every event the streams still hold, through the same reactions, into tables in the schema `replay`
//! waiting    until the live service has heard whatever was read
//! settling   the live inbox is locked: what it has heard and the replay has not is read as well, and nothing else
//! comparing  both have heard the same events, so that every difference is one
//! exchanging the replayed tables, inbox and dead letters included, take the place of the live ones, in that transaction
//! ```
//!
//! Readers are served throughout, and the consumer waits from settling on; its redeliveries are recognised by the
//! inbox that came with the tables. Whatever ends a replay before that commit leaves the live tables as they were; the
//! next one starts over.
//!
//! Some orders can be recomputed alone. A service whose reactions tell or do anything cannot be replayed.

mod orders;
mod read;
mod rebuild;
mod report;
mod shadow;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use async_nats::jetstream;
use chrono::{DateTime, Utc};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde::Deserialize;
use serde_json::Value;
use telemetry::TraceContext;
use tokio_util::sync::CancellationToken;
use uuid::{Builder, Uuid};

use crate::provision::Hears;
use crate::{Db, Reactions, WorkingSet};
use report::Watch;
pub use report::{Difference, Phase, Report, Table as TableReport};

/// What of a service is a function of the events it has heard, and nothing else.
pub struct Projection<W> {
    /// The tables that are rebuilt.
    pub tables: &'static [Table],
    /// Tables that the working set writes as well, but that tell of the handling, not of the events: they stay.
    pub gauges: &'static [&'static str],
    /// What is known of an order, if anything.
    pub show: fn(&W, Uuid) -> Option<Value>,
    /// Makes the first know of an order what the second knows, sums included.
    pub take_over: fn(&mut W, &W, Uuid),
}

/// A table of a projection.
#[derive(Debug, Clone, Copy, Default)]
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// Columns that depend on how events were spread over batches.
    pub ignored: &'static [&'static str],
    /// Columns of sums: a row in which all are nothing is as good as none.
    pub sums: &'static [&'static str],
    /// Whether it has one row an order, by `order_id`.
    pub by_order: bool,
}

/// What is to be replayed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Plan {
    /// Only orders placed at or after this time; nothing is exchanged then.
    pub since: Option<DateTime<Utc>>,
    /// Only orders placed before this time; nothing is exchanged then.
    pub until: Option<DateTime<Utc>>,
    /// Only this order.
    pub order: Option<Uuid>,
    /// Only compares.
    pub dry_run: bool,
    /// In a replay of a period: whether orders that differ are mended.
    pub mend: bool,
    /// Exchanges even if the streams have forgotten events whose effect is then gone.
    pub accept_loss: bool,
}

impl Plan {
    /// The ids that orders of the period have, if it is one: they begin with the time.
    fn range(&self) -> Option<(Uuid, Uuid)> {
        let first = |time: DateTime<Utc>| {
            let millis = time.timestamp_millis().max(0).unsigned_abs();
            Builder::from_unix_timestamp_millis(millis, &[0; 10]).into_uuid()
        };
        (self.since.is_some() || self.until.is_some()).then(|| {
            let (since, until) = (self.since.map(first), self.until.map(first));
            (since.unwrap_or(Uuid::nil()), until.unwrap_or(Uuid::max()))
        })
    }
}

/// What a replay needs.
struct Source<W> {
    db: Db,
    jetstream: jetstream::Context,
    reactions: Reactions<W>,
    hears: Hears,
    projection: Projection<W>,
}

type Run = dyn Fn(Plan, Watch, TraceContext) -> BoxFuture<'static, anyhow::Result<()>> + Send + Sync;

/// The replays of a service: one at a time.
#[derive(Clone)]
pub struct Replays {
    db: Db,
    run: Arc<Run>,
    watch: Watch,
    shutdown: CancellationToken,
}

impl Replays {
    /// Of a projection and the reactions that make it.
    ///
    /// # Panics
    /// When a reaction may tell something: it would be told again.
    pub fn of<W: WorkingSet + Default + Sync>(
        db: Db,
        jetstream: jetstream::Context,
        reactions: Reactions<W>,
        projection: Projection<W>,
        shutdown: CancellationToken,
    ) -> Self {
        let telling = reactions.wiring().find(|(_, emits)| !emits.is_empty());
        assert!(
            telling.is_none(),
            "{} tells events, so it cannot be replayed",
            reactions.service()
        );
        let hears = Hears::of(&reactions);
        let watch = Watch::of(&hears);
        let source = Arc::new(Source {
            db: db.clone(),
            jetstream,
            reactions,
            hears,
            projection,
        });
        let run = move |plan: Plan, watch: Watch, asked: TraceContext| {
            let source = Arc::clone(&source);
            let run = async move {
                match plan.order {
                    Some(order) => source.recompute_one(order, &plan, &watch, &asked).await,
                    None => source.rebuild(&plan, &watch, &asked).await,
                }
            };
            run.boxed()
        };
        Self {
            db,
            run: Arc::new(run),
            watch,
            shutdown,
        }
    }

    /// Whether tables can be made and exchanged: only who owns them can.
    pub async fn own_the_tables(&self) -> sqlx::Result<bool> {
        let owned = sqlx::query_scalar!(
            r#"select pg_has_role(relowner, 'usage') as "owned!" from pg_class where oid = 'public.inbox'::regclass"#
        );
        owned.fetch_one(self.db.pool()).await
    }

    /// Begins one in the background; false if one is under way.
    pub fn start(&self, plan: Plan) -> bool {
        if !self.watch.begin(&plan) {
            return false;
        }
        let (watch, asked) = (self.watch.clone(), telemetry::current());
        let run = AssertUnwindSafe((self.run)(plan, watch.clone(), asked)).catch_unwind();
        let shutdown = self.shutdown.clone();
        tokio::spawn(async move {
            let outcome = match shutdown.run_until_cancelled(run).await {
                Some(Ok(outcome)) => outcome,
                Some(Err(_)) => Err(anyhow::anyhow!("the replay panicked")),
                None => Err(anyhow::anyhow!("the service was stopped")),
            };
            watch.end(outcome);
        });
        true
    }

    /// How far it is, or how the last one has ended.
    pub fn look(&self) -> Report {
        self.watch.look()
    }
}
