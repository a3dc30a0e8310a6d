//! What follows from the events heard, down to the errands, against a real database.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use chrono::{DateTime, Utc};
use events::{CancelReason, OrderCancellationRequested, OrderConfirmed, derive_id};
use messaging::{Db, Decisions, Envelope, Errand, Journal, Touched, WorkingSet};
use serde_json::{Value, json};
use sqlx::PgPool;
use telemetry::TraceContext;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use warehouse::clients::Carrier;
use warehouse::domain::Warehouse;
use warehouse::tasks::{Deliver, Dispatch};
use warehouse::{MIGRATIONS, reactions, store};

mod errands;

const AT_ONCE: Duration = Duration::ZERO;
const AN_HOUR: Duration = Duration::from_secs(3600);

/// One replica of the service, without routes and broker.
struct Replica {
    pool: PgPool,
    db: Db,
    decisions: Decisions<Warehouse>,
}

impl Replica {
    async fn start() -> Self {
        Self::over(testbed::database(&MIGRATIONS).await)
    }

    fn over(pool: PgPool) -> Self {
        let db = Db::new(pool.clone());
        let decisions = Decisions::start(db.clone());
        Self { pool, db, decisions }
    }

    async fn confirm(&self, order_id: Uuid, country: &str) {
        let order = confirmed(order_id, country);
        let schedule = move |warehouse: &mut Warehouse| ((), reactions::schedule(warehouse, &order));
        self.decisions.decide(Touched::order(order_id), schedule).await.unwrap();
    }

    async fn cancel(&self, order_id: Uuid) {
        let order = OrderCancellationRequested {
            order_id,
            reason: CancelReason::RequestedByCustomer,
            requested_by: "customer".into(),
        };
        let call_off = move |warehouse: &mut Warehouse| ((), reactions::call_off(warehouse, &order));
        self.decisions.decide(Touched::order(order_id), call_off).await.unwrap();
    }

    fn dispatch(&self, delay: Duration) -> Dispatch {
        let (decisions, carrier) = (self.decisions.clone(), Carrier);
        Dispatch {
            decisions,
            carrier,
            delay,
        }
    }

    /// Runs both errands, with these delays, until they are stopped.
    fn run(&self, pick: Duration, delivery: Duration) -> Running {
        let (shutdown, decisions) = (CancellationToken::new(), self.decisions.clone());
        let dispatch = messaging::run_errand(self.db.clone(), self.dispatch(pick), shutdown.clone());
        let deliver = Deliver {
            decisions,
            delay: delivery,
        };
        let deliver = messaging::run_errand(self.db.clone(), deliver, shutdown.clone());
        let errands = [tokio::spawn(dispatch), tokio::spawn(deliver)];
        Running { shutdown, errands }
    }

    /// What a worker takes that dies before it can act.
    async fn take_and_die<E: Errand>(&self, errand: &E) -> usize {
        let mut tx = messaging::Db::new(self.pool.clone()).begin().await.unwrap();
        let taken = tokio::time::timeout(Duration::from_secs(5), errand.take(&mut tx, 10)).await;
        let taken = taken.unwrap().unwrap().len();
        tx.commit().await.unwrap();
        taken
    }

    /// The names of the events told about an order, in order.
    async fn told(&self, order_id: Uuid) -> Vec<String> {
        sqlx::query_scalar("select split_part(event_type, '.', 3) from outbox where subject = $1 order by sequence")
            .bind(order_id.to_string())
            .fetch_all(&self.pool)
            .await
            .unwrap()
    }

    /// Content, traceparent and tracestate of every event of this name.
    async fn events(&self, name: &str) -> Vec<(Value, Option<String>, Option<String>)> {
        sqlx::query_as(
            "select payload::json, traceparent, tracestate from outbox where nats_subject = 'shop.warehouse.' || $1",
        )
        .bind(name)
        .fetch_all(&self.pool)
        .await
        .unwrap()
    }

    /// Waits until so many events of this name were told.
    async fn until_told(&self, name: &str, count: usize) {
        let told = async {
            while self.events(name).await.len() < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let in_time = tokio::time::timeout(Duration::from_secs(20), told).await;
        assert!(in_time.is_ok(), "{name} was not told {count} times");
    }

    /// State, and the address that is kept.
    async fn row(&self, order_id: Uuid) -> (String, Option<Value>) {
        sqlx::query_as("select state, ship_to from shipments where order_id = $1")
            .bind(order_id)
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }

    /// Lets every lease and delay of up to an hour run out.
    async fn let_an_hour_pass(&self) {
        sqlx::query("update shipments set due_at = due_at - interval '1 hour'")
            .execute(&self.pool)
            .await
            .unwrap();
    }

    /// Since when it is in its state, and when it is due.
    async fn clocks(&self, order_id: Uuid) -> (DateTime<Utc>, DateTime<Utc>) {
        sqlx::query_as("select state_since, due_at from shipments where order_id = $1")
            .bind(order_id)
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }
}

/// Errands under way.
struct Running {
    shutdown: CancellationToken,
    errands: [JoinHandle<()>; 2],
}

impl Running {
    /// Lets what is under way finish.
    async fn stop(self) {
        self.shutdown.cancel();
        for errand in self.errands {
            errand.await.unwrap();
        }
    }
}

/// A paid order, to be sent to this country.
fn confirmed(order_id: Uuid, country: &str) -> OrderConfirmed {
    let order = json!({
        "order_id": order_id,
        "customer": {"id": Uuid::now_v7(), "email": "buyer@example.com"},
        "lines": [{"sku": "tea", "name": "Tea", "quantity": 2, "unit_price": 500}],
        "ship_to": {
            "name": "A. Buyer", "street": "1 High Street", "city": "Town", "postal_code": "12345", "country": country,
        },
        "payment_id": Uuid::now_v7(),
        "total": 1000,
        "currency": "EUR",
    });
    serde_json::from_value(order).unwrap()
}

#[tokio::test]
async fn schedules_a_confirmed_order_once() {
    let (replica, order_id) = (Replica::start().await, Uuid::now_v7());
    replica.confirm(order_id, "DE").await;
    replica.confirm(order_id, "DE").await;
    let (state, ship_to) = replica.row(order_id).await;
    assert_eq!(
        (state.as_str(), &ship_to.unwrap()["city"]),
        ("SCHEDULED", &json!("Town"))
    );
    let [(scheduled, ..)] = &replica.events("ShipmentScheduled").await[..] else {
        panic!("not told once")
    };
    assert_eq!(scheduled["shipment_id"], derive_id(order_id, "shipment").to_string());
    assert_eq!(scheduled["carrier"], Carrier::NAME);
    assert_eq!(scheduled["tracking"], Value::Null);
}

#[tokio::test]
async fn an_order_called_off_before_it_was_confirmed_is_never_sent() {
    let (replica, order_id) = (Replica::start().await, Uuid::now_v7());
    replica.cancel(order_id).await;
    replica.confirm(order_id, "DE").await;
    replica.cancel(order_id).await;
    assert_eq!(replica.told(order_id).await, ["ShipmentCancelled"]);
    assert_eq!(
        replica.events("ShipmentCancelled").await[0].0["shipment_id"],
        Value::Null
    );
    assert_eq!(replica.take_and_die(&replica.dispatch(AT_ONCE)).await, 0);
}

#[tokio::test]
async fn a_cancelled_shipment_forgets_the_address_and_is_cancelled_once() {
    let (replica, order_id) = (Replica::start().await, Uuid::now_v7());
    replica.confirm(order_id, "DE").await;
    replica.cancel(order_id).await;
    replica.cancel(order_id).await;
    assert_eq!(replica.told(order_id).await, ["ShipmentScheduled", "ShipmentCancelled"]);
    assert_eq!(replica.row(order_id).await, ("CANCELLED".into(), None));
}

#[tokio::test]
async fn a_failed_shipment_answers_a_cancellation_once() {
    let (replica, order_id) = (Replica::start().await, Uuid::now_v7());
    replica.confirm(order_id, "XX").await;
    let running = replica.run(AT_ONCE, AT_ONCE);
    replica.until_told("ShipmentFailed", 1).await;
    replica.cancel(order_id).await;
    replica.cancel(order_id).await;
    let told = ["ShipmentScheduled", "ShipmentFailed", "ShipmentCancelled"];
    assert_eq!(replica.told(order_id).await, told);
    assert_eq!(replica.row(order_id).await, ("FAILED".into(), None));
    running.stop().await;
}

#[tokio::test]
async fn a_rejected_cancellation_names_the_state_and_moves_no_clock() {
    let (replica, order_id) = (Replica::start().await, Uuid::now_v7());
    replica.confirm(order_id, "DE").await;
    let running = replica.run(AT_ONCE, AN_HOUR);
    replica.until_told("OrderShipped", 1).await;
    let before = replica.clocks(order_id).await;
    replica.cancel(order_id).await;
    replica.cancel(order_id).await;
    let told = ["ShipmentScheduled", "OrderShipped", "ShipmentCancelRejected"];
    assert_eq!(replica.told(order_id).await, told);
    let rejected = &replica.events("ShipmentCancelRejected").await[0].0;
    assert_eq!(rejected["state"], "DISPATCHED");
    assert_eq!(replica.row(order_id).await, ("DISPATCHED".into(), None));
    assert_eq!(replica.clocks(order_id).await, before);
    running.stop().await;
}

#[tokio::test]
async fn confirming_and_cancelling_at_once_on_two_replicas_ends_cancelled() {
    let one = Replica::start().await;
    let other = Replica::over(one.pool.clone());
    for _ in 0..30 {
        let order_id = Uuid::now_v7();
        tokio::join!(one.confirm(order_id, "DE"), other.cancel(order_id));
        assert_eq!(one.row(order_id).await, ("CANCELLED".into(), None));
        assert_eq!(one.told(order_id).await.last().unwrap(), "ShipmentCancelled");
    }
    assert_eq!(one.events("ShipmentCancelled").await.len(), 30);
}

#[tokio::test]
async fn a_parcel_travels_as_soon_as_its_confirmation_commits() {
    let replica = Replica::start().await;
    let running = replica.run(AT_ONCE, AT_ONCE);
    let started = store::clock(&replica.pool).await.unwrap();
    let all = async {
        for sent in 1..=10 {
            replica.confirm(Uuid::now_v7(), "DE").await;
            replica.until_told("OrderDelivered", sent).await;
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(5), all).await;
    assert!(in_time.is_ok(), "the errands were woken by their poll only");
    let ended = store::clock(&replica.pool).await.unwrap();
    for (delivered, ..) in replica.events("OrderDelivered").await {
        let at: DateTime<Utc> = delivered["delivered_at"].as_str().unwrap().parse().unwrap();
        assert!(started < at && at < ended, "{at}");
        assert!(delivered["tracking"].as_str().unwrap().starts_with("SP"));
    }
    running.stop().await;
}

#[tokio::test]
async fn two_replicas_send_and_deliver_each_parcel_once() {
    let one = Replica::start().await;
    let other = Replica::over(one.pool.clone());
    let (running, running_too) = (one.run(AT_ONCE, AT_ONCE), other.run(AT_ONCE, AT_ONCE));
    let orders: Vec<Uuid> = (0..100).map(|_| Uuid::now_v7()).collect();
    for order_id in &orders {
        one.confirm(*order_id, "DE").await;
    }
    one.until_told("OrderDelivered", orders.len()).await;
    for order_id in orders {
        assert_eq!(one.told(order_id).await.len(), 3);
        assert_eq!(one.row(order_id).await, ("DELIVERED".into(), None));
    }
    running.stop().await;
    running_too.stop().await;
}

#[tokio::test]
async fn a_parcel_cancelled_while_it_is_dispatched_is_sent_or_cancelled_never_both() {
    let one = Replica::start().await;
    let other = Replica::over(one.pool.clone());
    let running = one.run(AT_ONCE, AN_HOUR);
    let orders: Vec<Uuid> = (0..60).map(|_| Uuid::now_v7()).collect();
    for order_id in &orders {
        one.confirm(*order_id, "DE").await;
        other.cancel(*order_id).await;
    }
    running.stop().await;
    for order_id in orders {
        let told = one.told(order_id).await;
        let sent = ["ShipmentScheduled", "OrderShipped", "ShipmentCancelRejected"];
        let kept = ["ShipmentScheduled", "ShipmentCancelled"];
        assert!(told == sent || told == kept, "{told:?}");
    }
}
