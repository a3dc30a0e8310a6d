//! Reading everything once: the streams first, then effects before their causes, the gateway last.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, Result, bail};
use chrono::Utc;
use serde_json::Value;
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::books::{
    Analytics, Books, Messages, Order, OrderRow, Parcel, Refund, Reservation, Restock, Units, trace_of,
};
use super::{Audit, Check, Finding, Invariant, Source, streams};
use crate::shop::Service;

/// Tables that have just been filled have no statistics yet: the planner would take them for small, and try each row of
/// one with each of another.
const SNAPSHOT: [&str; 3] = [
    "start transaction isolation level repeatable read, read only",
    "set local enable_nestloop = off",
    "set local jit = off",
];

/// What checks within one database have found, by invariant.
pub(super) type Found = HashMap<&'static str, Finding>;

impl Audit {
    /// Reads what these invariants need; fails only when the audit itself is wrong, not when something is down.
    pub(super) async fn load(&self, wanted: &[&'static Invariant]) -> Result<(Books, Found)> {
        let mut books = Books::new(self);
        let mut found = Found::new();
        match streams::read(&self.addresses.nats_url).await {
            Ok(streams) => books.streams = streams,
            Err(error) => books.cannot_read(Source::Streams, &error),
        }
        // Whoever reacts is read before those whom it hears.
        for service in Service::ALL.into_iter().rev() {
            if let Err(error) = self.read(service, &mut books, wanted, &mut found).await {
                // A check that PostgreSQL does not understand is a mistake of ours.
                if format!("{error:#}").contains("syntax error") {
                    return Err(error);
                }
                books.cannot_read(Source::Database(service), &error);
            }
        }
        match streams::charges(&self.addresses.gateway_url).await {
            Ok(charges) => books.charges = charges,
            Err(error) => books.cannot_read(Source::Gateway, &error),
        }
        Ok((books, found))
    }

    /// One database in one snapshot.
    async fn read(
        &self,
        service: Service,
        books: &mut Books,
        wanted: &[&'static Invariant],
        found: &mut Found,
    ) -> Result<()> {
        let Some(url) = self.addresses.databases.get(&service) else {
            bail!("nobody said where it is");
        };
        let mut db = PgConnection::connect(url).await?;
        for statement in SNAPSHOT {
            sqlx::query(statement).execute(&mut db).await?;
        }
        books.messages.insert(service, messages(&mut db, service).await?);
        match service {
            Service::Order => books.read_orders(&mut db).await?,
            Service::Payment => books.read_payments(&mut db).await?,
            Service::Inventory => books.read_stock(&mut db).await?,
            Service::Warehouse => books.read_parcels(&mut db).await?,
            Service::Email => {
                let mails = sqlx::query_as("select order_id, template, state from notifications");
                books.mails = mails.fetch_all(&mut db).await?;
            }
            Service::Analytics => books.analytics = analytics(&mut db).await?,
            #[allow(unreachable_patterns, reason = "a service beyond these has no books of its own")]
            _ => {}
        }
        for invariant in wanted {
            let Check::Sql { looked_at, breaches } = invariant.check else {
                continue;
            };
            if invariant.reads == [Source::Database(service)] {
                let count: i64 = sqlx::query_scalar(looked_at)
                    .fetch_one(&mut db)
                    .await
                    .context(invariant.name)?;
                let finding = Finding {
                    looked_at: usize::try_from(count)?,
                    breaches: sqlx::query_scalar(breaches)
                        .fetch_all(&mut db)
                        .await
                        .context(invariant.name)?,
                };
                found.insert(invariant.name, finding);
            }
        }
        Ok(db.close().await?)
    }
}

impl Books {
    fn new(audit: &Audit) -> Self {
        Self {
            now: Utc::now(),
            idle_limit: audit.idle_limit,
            client: audit.client.clone().unwrap_or_default(),
            unread: BTreeMap::new(),
            orders: BTreeMap::new(),
            keys: Vec::new(),
            payments: BTreeMap::new(),
            sales_account: 0,
            charges: Vec::new(),
            reservations: BTreeMap::new(),
            sold: Units::new(),
            shipments: BTreeMap::new(),
            parcels: BTreeMap::new(),
            refunds: BTreeMap::new(),
            restocks: BTreeMap::new(),
            mails: Vec::new(),
            analytics: Analytics::default(),
            messages: BTreeMap::new(),
            streams: BTreeMap::new(),
        }
    }

    fn cannot_read(&mut self, source: Source, error: &anyhow::Error) {
        self.unread
            .insert(source, format!("{source} cannot be read: {error:#}"));
    }

    async fn read_orders(&mut self, db: &mut PgConnection) -> Result<()> {
        let rows: Vec<OrderRow> = sqlx::query_as("select id, state, total, lines, returns, traceparent from orders")
            .fetch_all(&mut *db)
            .await?;
        let order = |row: OrderRow| Order {
            state: row.state,
            total: row.total,
            units: units(&row.lines),
            trace: trace_of(row.traceparent.as_deref()).map(str::to_owned),
            returns: row.returns.0,
        };
        self.orders = rows.into_iter().map(|row| (row.id, order(row))).collect();
        self.keys = sqlx::query_as("select scope, order_id from idempotency_keys")
            .fetch_all(db)
            .await?;
        Ok(())
    }

    async fn read_payments(&mut self, db: &mut PgConnection) -> Result<()> {
        let payments: Vec<super::books::Payment> =
            sqlx::query_as("select order_id, payment_id, captured, refunded, state, currency, cause from payments")
                .fetch_all(&mut *db)
                .await?;
        self.payments = payments
            .into_iter()
            .map(|payment| (payment.order_id, payment))
            .collect();
        let sales = "select coalesce(sum(credit - debit), 0)::bigint from ledger where account = 'sales'";
        self.sales_account = sqlx::query_scalar(sales).fetch_one(&mut *db).await?;
        let refunds = sqlx::query_as("select return_id, order_id, amount, state from return_refunds");
        let refunds: Vec<Refund> = refunds.fetch_all(db).await?;
        self.refunds = refunds.into_iter().map(|refund| (refund.return_id, refund)).collect();
        Ok(())
    }

    async fn read_stock(&mut self, db: &mut PgConnection) -> Result<()> {
        let rows: Vec<(Uuid, String, Value)> = sqlx::query_as("select order_id, state, lines from reservations")
            .fetch_all(&mut *db)
            .await?;
        let reservation = |(order, state, lines): (Uuid, String, Value)| {
            let units = units(&lines);
            (order, Reservation { state, units })
        };
        self.reservations = rows.into_iter().map(reservation).collect();
        let sold = "select sku, -sum(delta)::bigint from stock_movements where reason = 'SALE' group by sku";
        self.sold = pairs(&mut *db, sold).await?;
        let restocks = sqlx::query_as("select return_id, order_id, lines from restocks");
        let restocks: Vec<(Uuid, Uuid, Value)> = restocks.fetch_all(db).await?;
        let restock = |(return_id, order_id, lines): (Uuid, Uuid, Value)| {
            let units = units(&lines);
            (return_id, Restock { order_id, units })
        };
        self.restocks = restocks.into_iter().map(restock).collect();
        Ok(())
    }

    async fn read_parcels(&mut self, db: &mut PgConnection) -> Result<()> {
        self.shipments = pairs(&mut *db, "select order_id, state from shipments").await?;
        let parcels = sqlx::query_as("select return_id, order_id, state, lines, found, refundable from returns");
        let parcels: Vec<Parcel> = parcels.fetch_all(db).await?;
        self.parcels = parcels.into_iter().map(|parcel| (parcel.return_id, parcel)).collect();
        Ok(())
    }
}

async fn messages(db: &mut PgConnection, service: Service) -> Result<Messages> {
    let events = sqlx::query_as(
        "select event_id, event_type, subject, sequence, causation_id, traceparent, true as published
         from outbox_published
         union all
         select event_id, event_type, subject, sequence, causation_id, traceparent, false from outbox",
    );
    let inbox = sqlx::query_scalar::<_, Uuid>("select event_id from inbox where consumer = $1");
    let letters = sqlx::query_as(
        "select event_id, state, closed_at is null as open, event_type, subject, stream, stream_sequence, reason
         from dead_letters where consumer = $1",
    );
    let sessions = sqlx::query_as(
        "select pid, coalesce(application_name, '') as application,
                extract(epoch from clock_timestamp() - xact_start)::float8 as seconds
         from pg_stat_activity
         where datname = current_database() and state like 'idle in transaction%' and pid <> pg_backend_pid()",
    );
    Ok(Messages {
        events: events.fetch_all(&mut *db).await?,
        last: pairs(&mut *db, "select subject, sequence from outbox_sequence").await?,
        inbox: inbox
            .bind(service.name())
            .fetch_all(&mut *db)
            .await?
            .into_iter()
            .collect(),
        letters: letters.bind(service.name()).fetch_all(&mut *db).await?,
        sessions: sessions.fetch_all(db).await?,
    })
}

async fn analytics(db: &mut PgConnection) -> Result<Analytics> {
    let revenue = "select coalesce(sum(revenue), 0)::bigint from sales where dimension = 'total'";
    Ok(Analytics {
        revenue: sqlx::query_scalar(revenue).fetch_one(&mut *db).await?,
        counted: pairs(&mut *db, "select step, sum(count)::bigint from counters group by step").await?,
        units: pairs(db, "select key, units from sales where dimension = 'product'").await?,
    })
}

async fn pairs<K, V>(db: &mut PgConnection, query: &'static str) -> Result<BTreeMap<K, V>>
where
    K: Ord + Send + Unpin + for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
    V: Send + Unpin + for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
{
    let rows: Vec<(K, V)> = sqlx::query_as(query).fetch_all(db).await?;
    Ok(rows.into_iter().collect())
}

/// Pieces by sku; an article may stand in several lines.
pub(super) fn units(lines: &Value) -> Units {
    let mut units = Units::new();
    for line in lines.as_array().into_iter().flatten() {
        let sku = line["sku"].as_str().unwrap_or_default().to_owned();
        *units.entry(sku).or_default() += line["quantity"].as_i64().unwrap_or(0);
    }
    units
}
