//! One replica of the service without routes and broker, and what tests ask of its database.
#![allow(dead_code, reason = "every test file uses a part of it")]

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use events::{Customer, InventoryReserved, ShipmentCancelled, ShipmentFailed};
use messaging::{Db, Decisions, Touched, Undecided};
use payment::domain::{Outcome, Payment, Payments};
use payment::{MIGRATIONS, reactions, store};
use serde_json::Value;
use sqlx::PgPool;
use uuid::Uuid;

pub(crate) struct Replica {
    pub(crate) pool: PgPool,
    pub(crate) db: Db,
    pub(crate) decisions: Decisions<Payments>,
}

impl Replica {
    pub(crate) async fn start() -> Self {
        Self::over(testbed::database(&MIGRATIONS).await)
    }

    pub(crate) fn over(pool: PgPool) -> Self {
        let db = Db::new(pool.clone());
        let decisions = Decisions::start(db.clone());
        Self { pool, db, decisions }
    }

    /// A new order of 25.00 whose goods are held.
    pub(crate) async fn reserved(&self, payment_method: &str) -> Uuid {
        let order_id = Uuid::now_v7();
        self.reserve(&reservation(order_id, payment_method)).await;
        order_id
    }

    pub(crate) async fn reserve(&self, order: &InventoryReserved) {
        let (order_id, order) = (order.order_id, order.clone());
        let request = move |payments: &mut Payments| ((), reactions::request(payments, &order));
        self.decisions.decide(Touched::order(order_id), request).await.unwrap();
    }

    pub(crate) async fn cancel(&self, order_id: Uuid) {
        let shipment = ShipmentCancelled {
            order_id,
            shipment_id: None,
            code: "order_cancelled".into(),
        };
        let undo = move |payments: &mut Payments| ((), reactions::undo(payments, &shipment));
        self.decisions.decide(Touched::order(order_id), undo).await.unwrap();
    }

    pub(crate) async fn fail_shipment(&self, order_id: Uuid) -> Result<(), Undecided> {
        let shipment = ShipmentFailed {
            order_id,
            shipment_id: None,
            code: "undeliverable_address".into(),
        };
        let pay_back = move |payments: &mut Payments| ((), reactions::pay_back(payments, &shipment));
        self.decisions.decide(Touched::order(order_id), pay_back).await
    }

    pub(crate) async fn settle(&self, order_id: Uuid, attempt: i32, outcome: Outcome) {
        let settle = move |payments: &mut Payments| ((), payments.settle(order_id, attempt, outcome.clone()));
        self.decisions.decide(Touched::order(order_id), settle).await.unwrap();
    }

    /// The names of the events told about an order, in order.
    pub(crate) async fn told(&self, order_id: Uuid) -> Vec<String> {
        sqlx::query_scalar("select split_part(event_type, '.', 3) from outbox where subject = $1 order by sequence")
            .bind(order_id.to_string())
            .fetch_all(&self.pool)
            .await
            .unwrap()
    }

    /// The content of an event told about an order.
    pub(crate) async fn content(&self, order_id: Uuid, event: &str) -> Value {
        let query = "select payload::jsonb from outbox where subject = $1 and split_part(event_type, '.', 3) = $2";
        let query = sqlx::query_scalar(query).bind(order_id.to_string()).bind(event);
        query.fetch_one(&self.pool).await.unwrap()
    }

    /// Notes an event as what asked last for something, as its delivery would have.
    pub(crate) async fn asked_by_an_event(&self, order_id: Uuid) -> Uuid {
        let event_id = Uuid::now_v7();
        let noted = sqlx::query("update payments set caused_by = $2 where order_id = $1");
        noted.bind(order_id).bind(event_id).execute(&self.pool).await.unwrap();
        event_id
    }

    /// What an event follows from.
    pub(crate) async fn cause(&self, order_id: Uuid, event: &str) -> Option<Uuid> {
        let query = "select causation_id from outbox where subject = $1 and split_part(event_type, '.', 3) = $2";
        let query = sqlx::query_scalar(query).bind(order_id.to_string()).bind(event);
        query.fetch_one(&self.pool).await.unwrap()
    }

    pub(crate) async fn payment(&self, order_id: Uuid) -> Payment {
        store::payment(&self.pool, order_id)
            .await
            .unwrap()
            .expect("a payment")
            .0
    }

    /// In how many seconds an errand will take the payment, if ever.
    pub(crate) async fn due_in(&self, order_id: Uuid) -> Option<f64> {
        sqlx::query_scalar("select extract(epoch from due_at - now())::float8 from payments where order_id = $1")
            .bind(order_id)
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }

    /// Every payment's books are in order.
    pub(crate) async fn check_the_books(&self) {
        let orders = sqlx::query_scalar("select order_id from payments");
        for order_id in orders.fetch_all(&self.pool).await.unwrap() {
            self.check_the_books_of(order_id).await;
        }
    }

    /// A payment that rests is what its facts amount to, the ledger is balanced, and both agree.
    pub(crate) async fn check_the_books_of(&self, order_id: Uuid) {
        let payment = self.payment(order_id).await;
        let folded = Payment::fold(order_id, &store::facts(&self.pool, order_id).await.unwrap());
        let facts_only = Payment {
            progress: folded.progress.clone(),
            refunds: folded.refunds.clone(),
            ..payment.clone()
        };
        assert_eq!(facts_only, folded);
        let refunds = store::return_refunds(&self.pool, order_id).await.unwrap().into_iter();
        let refunds: BTreeMap<_, _> = refunds.map(|row| (row.return_id, (row.amount, row.state))).collect();
        let of_facts = folded.refunds.iter();
        let of_facts = of_facts.map(|(id, refund)| (*id, (refund.amount, refund.state.as_str().to_owned())));
        assert_eq!(refunds, of_facts.collect());
        let rows = store::ledger(&self.pool, Some(order_id), 0, 100).await.unwrap();
        let mut transactions = BTreeMap::<Uuid, i64>::new();
        for row in &rows {
            *transactions.entry(row.transaction_id).or_default() += row.debit - row.credit;
        }
        assert!(transactions.values().all(|sum| *sum == 0), "{rows:?}");
        assert_eq!(rows.len(), 2 * transactions.len());
        let sales = rows.iter().filter(|row| row.account == "sales");
        let kept: i64 = sales.map(|row| row.credit - row.debit).sum();
        assert_eq!(kept, payment.captured - payment.refunded);
    }
}

pub(crate) fn reservation(order_id: Uuid, payment_method: &str) -> InventoryReserved {
    InventoryReserved {
        order_id,
        reservation_id: Uuid::now_v7(),
        lines: Vec::new(),
        amount: 2_500,
        currency: "EUR".into(),
        payment_method: payment_method.into(),
        customer: Customer {
            id: Uuid::now_v7(),
            email: "customer@example.org".into(),
        },
        expires_at: in_an_hour(),
    }
}

fn in_an_hour() -> DateTime<Utc> {
    Utc::now() + chrono::TimeDelta::hours(1)
}

pub(crate) fn charged() -> Outcome {
    Outcome::Charged {
        gateway_ref: "pi_1".into(),
    }
}
