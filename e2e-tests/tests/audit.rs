//! The audit catches what it is there for: for every invariant a fault is planted by hand, and the audit names it.

#[path = "audit/across.rs"]
mod across;
#[path = "audit/messages.rs"]
mod messages;
#[path = "audit/own.rs"]
mod own;
#[path = "audit/returns.rs"]
mod returns;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use e2e_tests::{Service, Wish, World, run};
use futures_util::future::try_join_all;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use uuid::Uuid;
use xtask::audit::{Addresses, Audit, ClientLog, Report, Scope, invariants};

/// Something that must never be, made to be.
pub(crate) struct Fault {
    /// The invariant that it breaks.
    breaks: &'static str,
    /// How.
    planted: Planted,
    /// Others that may notice as well.
    also: &'static [&'static str],
}

/// How a fault comes into the shop.
pub(crate) enum Planted {
    /// Statements in a copy of a database.
    Sql(Service, String),
    /// A charge that nobody asked for; of a new order, or of one that was charged before.
    Charge { charged_before: bool },
    /// A message in a stream that nobody told; a new one, or one that was told before.
    Message { told_before: bool },
    /// A session that has begun a transaction and does nothing.
    IdleTransaction,
    /// An order that the client saw accepted, and nobody knows.
    LostOrder,
    /// An order that the client never asked for.
    GhostOrder,
}

impl Planted {
    /// Whether it cannot be taken back: neither the gateway nor a stream forgets.
    fn stays(&self) -> bool {
        matches!(self, Self::Charge { .. } | Self::Message { .. })
    }
}

fn sql(breaks: &'static str, service: Service, statements: impl Into<String>) -> Fault {
    Fault {
        breaks,
        planted: Planted::Sql(service, statements.into()),
        also: &[],
    }
}

impl Fault {
    fn planted(breaks: &'static str, planted: Planted) -> Self {
        Self {
            breaks,
            planted,
            also: &[],
        }
    }

    fn also(self, also: &'static [&'static str]) -> Self {
        Self { also, ..self }
    }
}

/// Those that cannot be taken back come last.
fn faults() -> Vec<Fault> {
    let mut faults = own::faults();
    faults.extend(across::faults());
    faults.extend(messages::faults());
    faults.extend(returns::faults());
    faults.sort_by_key(|fault| fault.planted.stays());
    faults
}

#[test]
fn there_is_a_fault_for_every_invariant() {
    let named: BTreeSet<&str> = invariants().map(|invariant| invariant.name).collect();
    let planted: BTreeSet<&str> = faults().iter().map(|fault| fault.breaks).collect();
    assert_eq!(planted, named);
    assert_eq!(named.len(), invariants().count(), "names are unique");
}

#[test]
fn the_audit_names_every_planted_fault() {
    run(async {
        let world = World::open(&[]).await;
        let client = orders_of_every_kind(&world)
            .await
            .unwrap_or_else(|error| panic!("{error:#}"));
        world.audit_with(world.auditor().with_client(client.clone())).await;
        let stopped = try_join_all(Service::ALL.map(|service| world.shop.stop_service(service))).await;
        stopped.unwrap_or_else(|error| panic!("{error:#}"));

        let workshop = Workshop { world: &world, client };
        let (mut missed, mut known) = (Vec::new(), BTreeSet::new());
        for fault in faults() {
            if let Err(error) = workshop.plant(&fault, &mut known).await {
                missed.push(format!("{}: {error:#}", fault.breaks));
            }
        }
        assert!(missed.is_empty(), "{}", missed.join("\n"));
    });
}

/// Orders that end in every way, and what their client knows of them.
async fn orders_of_every_kind(world: &World) -> anyhow::Result<ClientLog> {
    let mut client = ClientLog::default();
    let wishes = [
        Wish::of("TEA-ASSAM").pieces(2),
        Wish::of("TEA-EARLGREY").key("with a key"),
        Wish::of("TEA-SENCHA").paid_by("pm_card_chargeDeclined"),
        Wish::of("TEA-JASMINE").to("XX"),
    ];
    for wish in &wishes {
        client.accepted.insert(world.place(wish).await);
    }
    client.attempted.insert("with a key".to_owned());
    // Both are accepted while inventory stands still; the pieces are enough for one of them.
    world.shop.pause(Service::Inventory).await?;
    for _ in 0..2 {
        client
            .accepted
            .insert(world.place(&Wish::of("TEA-OOLONG").pieces(600)).await);
    }
    let changed_mind = world.place(&Wish::of("TEA-ROOIBOS")).await;
    client.accepted.insert(changed_mind);
    world.cancel(changed_mind).await?;
    world.shop.resume(Service::Inventory).await?;
    // Bought by the first two: one comes back in part, the other as a whole.
    for (order, wish) in client.accepted.clone().iter().zip(&wishes[..2]) {
        world.reached(*order, "COMPLETED").await;
        world.send_back(*order, &[(&wish.sku, 1)]).await;
    }
    let mut ends: BTreeMap<String, usize> = BTreeMap::new();
    for order in &client.accepted {
        let order = world.ended(*order).await;
        let end = order["reason"].as_str().or(order["state"].as_str()).unwrap_or_default();
        *ends.entry(end.to_owned()).or_default() += 1;
    }
    let kinds = [
        ("COMPLETED", 2),
        ("OUT_OF_STOCK", 1),
        ("PAYMENT_DECLINED", 1),
        ("REFUNDED", 1),
        ("REQUESTED_BY_CUSTOMER", 1),
        ("SHIPPING_FAILED", 1),
    ];
    ensure!(
        ends == kinds.map(|(end, count)| (end.to_owned(), count)).into(),
        "{ends:?}"
    );
    Ok(client)
}

/// Where faults are planted, looked at, and taken back.
struct Workshop<'a> {
    world: &'a World,
    client: ClientLog,
}

/// The name of the copy that is broken.
const COPY: &str = "planted_fault";

impl Workshop<'_> {
    /// Plants the fault, and checks that the audit names it, and nothing that has nothing to do with it.
    ///
    /// `known` are the breaches of faults that cannot be taken back.
    async fn plant(&self, fault: &Fault, known: &mut BTreeSet<Breach>) -> anyhow::Result<()> {
        let before = known.clone();
        let after = breaches(&self.with(&fault.planted).await?);
        if fault.planted.stays() {
            known.clone_from(&after);
        }
        let new: BTreeSet<&str> = after.difference(&before).map(|(name, _)| *name).collect();
        ensure!(
            new.contains(fault.breaks),
            "nobody noticed it; these did notice something: {new:?}"
        );
        let expected: BTreeSet<&str> = fault.also.iter().copied().chain([fault.breaks]).collect();
        let others: Vec<_> = after
            .difference(&before)
            .filter(|(name, _)| !expected.contains(name))
            .collect();
        ensure!(others.is_empty(), "others noticed it as well: {others:?}");
        Ok(())
    }

    /// What the audit finds once the fault is there.
    async fn with(&self, planted: &Planted) -> anyhow::Result<Report> {
        let mut client = self.client.clone();
        match planted {
            Planted::Sql(service, statements) => return self.with_copy(*service, statements).await,
            Planted::Charge { charged_before } => self.charge(*charged_before).await?,
            Planted::Message { told_before } => self.publish(*told_before).await?,
            Planted::IdleTransaction => return self.with_idle_transaction().await,
            Planted::LostOrder => drop(client.accepted.insert(Uuid::now_v7())),
            Planted::GhostOrder => drop(client.accepted.pop_first()),
        }
        Audit::of(self.addresses())
            .with_client(client)
            .run(Scope::Everything)
            .await
    }

    fn addresses(&self) -> Addresses {
        Addresses::of(&self.world.shop)
    }

    async fn audit(&self, audit: Audit) -> anyhow::Result<Report> {
        audit.with_client(self.client.clone()).run(Scope::Everything).await
    }

    /// Breaks a copy of the database, and audits with the copy in its place.
    async fn with_copy(&self, service: Service, statements: &str) -> anyhow::Result<Report> {
        let postgres = self.world.shop.postgres();
        let mut admin = PgConnection::connect(&postgres.socket_url("postgres")).await?;
        // Its owner's, who checks foreign keys.
        let name = service.database();
        let create = format!("create database {COPY} template {name} owner {name}");
        sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut admin).await?;
        let mut copy = PgConnection::connect(&postgres.socket_url(COPY)).await?;
        let broken = sqlx::raw_sql(AssertSqlSafe(statements.to_owned()))
            .execute(&mut copy)
            .await;
        copy.close().await?;
        let mut addresses = self.addresses();
        addresses.databases.insert(service, postgres.socket_url(COPY));
        let report = match broken {
            Ok(_) => self.audit(Audit::of(addresses)).await,
            Err(error) => Err(error).context("it cannot be planted"),
        };
        sqlx::raw_sql("drop database planted_fault with (force)")
            .execute(&mut admin)
            .await?;
        admin.close().await?;
        report
    }

    async fn with_idle_transaction(&self) -> anyhow::Result<Report> {
        let mut idle = PgConnection::connect(&self.world.shop.database_url(Service::Order)).await?;
        let begun = idle.begin().await?;
        let report = self
            .audit(Audit::of(self.addresses()).with_idle_limit(Duration::ZERO))
            .await;
        begun.rollback().await?;
        idle.close().await?;
        report
    }

    /// Takes money behind our back.
    async fn charge(&self, charged_before: bool) -> anyhow::Result<()> {
        let gateway = self.world.shop.gateway_url();
        let book: Value = self
            .world
            .http
            .get(format!("{gateway}/v1/charges"))
            .send()
            .await?
            .json()
            .await?;
        let order = match charged_before {
            true => book["data"][0]["order_id"]
                .as_str()
                .context("nothing was charged yet")?
                .to_owned(),
            false => Uuid::now_v7().to_string(),
        };
        let charge = [
            ("amount", "100"),
            ("currency", "eur"),
            ("payment_method", "pm_card_visa"),
            ("confirm", "true"),
            ("metadata[order_id]", &order),
        ];
        let request = self
            .world
            .http
            .post(format!("{gateway}/v1/payment_intents"))
            .form(&charge);
        let answer = request
            .bearer_auth("sk_test_tidings")
            .header("idempotency-key", Uuid::now_v7().to_string())
            .send()
            .await?;
        let (status, body) = (answer.status(), answer.json::<Value>().await?);
        ensure!(status.is_success(), "{status}: {body}");
        Ok(())
    }

    /// Tells what nobody has written, or once more what somebody has.
    async fn publish(&self, told_before: bool) -> anyhow::Result<()> {
        let jetstream = self.world.jetstream().await?;
        let stream = jetstream.get_stream("EMAIL").await?;
        let told = stream.get_raw_message(1).await?;
        let mut headers = told.headers.clone();
        if !told_before {
            headers.insert("ce-id", Uuid::now_v7().to_string());
        }
        // Without the id by which the broker would recognise it.
        headers.insert(async_nats::header::NATS_MESSAGE_ID, Uuid::now_v7().to_string());
        let payload = told.payload.clone();
        #[allow(clippy::disallowed_methods, reason = "it is what must not be done")]
        let published = jetstream
            .publish_with_headers(told.subject.clone(), headers, payload)
            .await?;
        published.await?;
        Ok(())
    }
}

/// The name of an invariant, and what breaks it.
type Breach = (&'static str, String);

fn breaches(report: &Report) -> BTreeSet<Breach> {
    let breaches = report.breaches();
    breaches.map(|(name, breach)| (name, breach.to_owned())).collect()
}

/// A JSON object in SQL.
pub(crate) fn object(fields: Value) -> String {
    format!("'{fields}'::jsonb")
}

/// Changes the archived events of which this is true.
pub(crate) fn rewritten(events: &str, change: &str) -> String {
    format!(
        "update outbox_archive set events = array(
             select case when {events} then jsonb_populate_record(e, {change}) else e end from unnest(events) as e)"
    )
}

/// An archived event that nobody told.
pub(crate) fn invented(event_type: &str, subject: &str) -> String {
    let event = object(json!({
        "id": 0, "lane": 0, "event_id": Uuid::now_v7(), "event_type": event_type, "nats_subject": "shop",
        "subject": subject, "sequence": 1, "correlation_id": subject, "payload": "{}",
        "occurred_at": "2026-01-01T00:00:00Z",
    }));
    format!("array[jsonb_populate_record(null::outbox, {event})]")
}
