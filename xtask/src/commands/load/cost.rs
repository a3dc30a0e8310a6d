//! What the orders cost on disk: commits, log and tables of the databases, events and bytes of the streams.

use std::collections::BTreeMap;

use anyhow::Result;
use events::Owner;
use sqlx::{Connection, PgConnection};
use xtask::audit::{Stored, stored};
use xtask::shop::Service;

use super::super::running::Running;

/// What there was before.
pub(super) struct Cost(Reading);

/// What came to it, and the orders that came.
pub(super) struct Paid {
    pub(super) orders: usize,
    log_bytes: i64,
    databases: Vec<(Service, Counted)>,
    streams: Vec<(Owner, [i64; 2])>,
}

/// What databases and streams count, all in all.
struct Reading {
    orders: i64,
    log_bytes: i64,
    databases: Vec<(Service, Counted)>,
    streams: BTreeMap<Owner, Stored>,
}

/// What one database counts.
#[derive(Clone, Copy, Default, sqlx::FromRow)]
struct Counted {
    commits: i64,
    /// How often its relay has published, each time one write of the stream.
    batches: i64,
    bytes: i64,
}

impl Cost {
    pub(super) async fn start(shop: &Running) -> Result<Self> {
        Ok(Self(Reading::of(shop).await?))
    }

    /// What has come to it since.
    pub(super) async fn finish(self, shop: &Running) -> Result<Paid> {
        let (before, now) = (self.0, Reading::of(shop).await?);
        let databases = now.databases.iter().zip(before.databases);
        let streams = now.streams.iter().zip(before.streams.values());
        Ok(Paid {
            orders: usize::try_from(now.orders - before.orders)?,
            log_bytes: now.log_bytes - before.log_bytes,
            databases: databases
                .map(|((service, now), (_, before))| (*service, now.since(before)))
                .collect(),
            streams: streams
                .map(|((owner, now), before)| (*owner, grown(*now, *before)))
                .collect(),
        })
    }
}

impl Counted {
    fn since(self, before: Self) -> Self {
        Self {
            commits: self.commits - before.commits,
            batches: self.batches - before.batches,
            bytes: self.bytes - before.bytes,
        }
    }

    fn and(self, other: Self) -> Self {
        Self {
            commits: self.commits + other.commits,
            batches: self.batches + other.batches,
            bytes: self.bytes + other.bytes,
        }
    }
}

/// Events and bytes more than before.
fn grown(now: Stored, before: Stored) -> [i64; 2] {
    let more = |now: u64, before: u64| i64::try_from(now.saturating_sub(before)).unwrap_or(i64::MAX);
    [more(now.messages, before.messages), more(now.bytes, before.bytes)]
}

impl Paid {
    pub(super) fn text(&self) -> String {
        let each = |all: i64| all as f64 / self.orders.max(1) as f64;
        let database = |name: &str, of: Counted| {
            let (commits, batches, bytes) = (each(of.commits), each(of.batches), each(of.bytes));
            format!("{name:<17}{commits:>18.3}{batches:>14.3}{bytes:>14.0}\n")
        };
        let stream = |name: &str, [events, bytes]: [i64; 2]| {
            let (events, bytes) = (each(events), each(bytes));
            format!("{name:<17}{events:>18.2}{bytes:>28.0}\n")
        };
        let mut text = format!(
            "{:<17}{:>18}{:>14}{:>14}\n",
            "an order costs", "commits", "publishings", "bytes"
        );
        for (service, counted) in &self.databases {
            text += &database(&service.database(), *counted);
        }
        let all = self
            .databases
            .iter()
            .fold(Counted::default(), |sum, (_, one)| sum.and(*one));
        text += &database("all databases", all);
        text += &format!("{:<17}{:>46.0}\n\n", "their log (WAL)", each(self.log_bytes));
        text += &format!("{:<17}{:>18}{:>28}\n", "an order costs", "events", "bytes");
        for (owner, counted) in &self.streams {
            text += &stream(owner.stream(), *counted);
        }
        let all = self.streams.iter().fold([0; 2], |[a, b], (_, [c, d])| [a + c, b + d]);
        text + stream("all streams", all).trim_end()
    }
}

impl Reading {
    async fn of(shop: &Running) -> Result<Self> {
        let mut order = PgConnection::connect(&shop.service(Service::Order)?.database_url).await?;
        let (orders, log_bytes) = sqlx::query_as(
            "select (select count(*) from orders), (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint",
        )
        .fetch_one(&mut order)
        .await?;
        let mut databases = Vec::new();
        for service in Service::ALL {
            let mut db = PgConnection::connect(&shop.service(service)?.database_url).await?;
            let counted = sqlx::query_as(
                "select xact_commit as commits, (select count(*) from outbox_archive) as batches,
                        pg_database_size(datname) as bytes
                 from pg_stat_database where datname = current_database()",
            );
            databases.push((service, counted.fetch_one(&mut db).await?));
        }
        let streams = stored(&shop.nats_url).await?;
        Ok(Self {
            orders,
            log_bytes,
            databases,
            streams,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_divided_by_the_orders_that_came() {
        let counted = Counted {
            commits: 10,
            batches: 5,
            bytes: 4_000,
        };
        let paid = Paid {
            orders: 20,
            log_bytes: 60_000,
            databases: vec![(Service::Order, counted), (Service::Email, counted)],
            streams: vec![(Owner::Order, [60, 80_000]), (Owner::Email, [40, 20_000])],
        };
        let text = paid.text();
        let numbers = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            line[name.len()..].split_whitespace().collect::<Vec<_>>()
        };
        assert_eq!(numbers("shop_order"), ["0.500", "0.250", "200"]);
        assert_eq!(numbers("all databases"), ["1.000", "0.500", "400"]);
        assert_eq!(numbers("their log (WAL)"), ["3000"]);
        assert_eq!(numbers("ORDER"), ["3.00", "4000"]);
        assert_eq!(numbers("all streams"), ["5.00", "5000"]);
    }
}
