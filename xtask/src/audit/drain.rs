//! Waiting for rest: every order at its end, every outbox empty, every event heard, every mail sent.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use events::Owner;
use sqlx::{Connection, PgConnection};

use super::{Audit, streams};
use crate::shop::Service;

const LOOK: Duration = Duration::from_millis(100);

/// What is counted in each database, and what it is.
const WAITING: [(Service, &str, &str); 11] = [
    (
        Service::Order,
        "orders are not at their end",
        "select count(*) from orders where state not in ('COMPLETED', 'CANCELLED', 'REFUNDED')",
    ),
    (
        Service::Payment,
        "payments are open",
        "select count(*) from payments where state in ('PENDING', 'REFUNDING') or due_at is not null",
    ),
    (
        Service::Warehouse,
        "parcels are on their way",
        "select count(*) from shipments where state in ('SCHEDULED', 'DISPATCHED')",
    ),
    (
        Service::Payment,
        "refunds of returns are open",
        "select count(*) from return_refunds where state <> 'DONE'",
    ),
    (
        Service::Warehouse,
        "returns are awaited",
        "select count(*) from returns where state = 'AWAITED'",
    ),
    (
        Service::Email,
        "mails wait",
        "select count(*) from notifications where state in ('WAITING', 'PENDING')",
    ),
    (Service::Order, OUTBOX.0, OUTBOX.1),
    (Service::Payment, OUTBOX.0, OUTBOX.1),
    (Service::Inventory, OUTBOX.0, OUTBOX.1),
    (Service::Warehouse, OUTBOX.0, OUTBOX.1),
    (Service::Email, OUTBOX.0, OUTBOX.1),
];
const OUTBOX: (&str, &str) = ("events wait in the outbox", "select count(*) from outbox");

impl Audit {
    /// Waits until nothing is on its way any more; the error says what still is. `progress` hears of each change.
    pub async fn drain(&self, within: Duration, mut progress: impl FnMut(&str)) -> Result<()> {
        let deadline = Instant::now() + within;
        let (mut before, mut said) = (None, String::new());
        loop {
            let looked = self.look().await;
            let waiting = match &looked {
                // An event that moved while it was looked for has made a stream longer.
                Ok((told, None)) if before == Some(*told) => return Ok(()),
                Ok((_, None)) => String::new(),
                Ok((_, Some(waiting))) => waiting.clone(),
                Err(error) => format!("{error:#}"),
            };
            before = looked
                .ok()
                .filter(|(_, waiting)| waiting.is_none())
                .map(|(told, _)| told);
            if !waiting.is_empty() && waiting != said {
                progress(&waiting);
                said.clone_from(&waiting);
            }
            if Instant::now() > deadline {
                bail!("not at rest after {within:?}: {waiting}");
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// How many events were ever published, and what waits, if anything.
    async fn look(&self) -> Result<(u64, Option<String>)> {
        let jetstream = streams::jetstream(&self.addresses.nats_url).await?;
        let (mut told, mut lagging) = (0, None);
        for owner in Owner::ALL {
            let stream = jetstream.get_stream(owner.stream()).await?;
            told += stream.cached_info().state.last_sequence;
            let listeners = Service::ALL.into_iter();
            for service in listeners.filter(|service| service.hears().subjects.contains_key(owner.stream())) {
                let durable = stream.consumer_info(service.name()).await?;
                let behind = durable.num_pending + durable.num_ack_pending as u64;
                if behind > 0 {
                    lagging = Some(format!("{service} has {behind} events of {} to handle", owner.stream()));
                }
            }
        }
        // Only now: what was handled meanwhile has left its answer in an outbox before it was acknowledged.
        let waiting = self.waiting().await?;
        Ok((told, waiting.or(lagging)))
    }

    /// What waits in a database, if anything.
    async fn waiting(&self) -> Result<Option<String>> {
        let mut databases: BTreeMap<Service, PgConnection> = BTreeMap::new();
        for (service, what, count) in WAITING {
            let url = self
                .addresses
                .databases
                .get(&service)
                .context("a database has no address")?;
            if let std::collections::btree_map::Entry::Vacant(entry) = databases.entry(service) {
                entry.insert(PgConnection::connect(url).await?);
            }
            let Some(db) = databases.get_mut(&service) else {
                continue;
            };
            let waiting: i64 = sqlx::query_scalar(count).fetch_one(db).await?;
            if waiting > 0 {
                return Ok(Some(format!("{waiting} {what} ({service})")));
            }
        }
        Ok(None)
    }
}
