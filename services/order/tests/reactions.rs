//! What the order service does with events, against a real database.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use chrono::Utc;
use events::{
    CancelReason, Draft, InventoryCommitted, InventoryReleased, InventoryReserved, OrderDelivered, PaymentDeclined,
    PaymentSucceeded, ProductListed, ShipmentScheduled, StockLevelChanged,
};
use messaging::{Db, Decisions, Envelope, Errand, Touched};
use order::domain::{Order, Orders, Patience, Priced, State, StockCheck, Wish};
use order::store::Open;
use order::{MIGRATIONS, reactions, store, tasks::CancelOverdue};
use serde_json::json;
use sqlx::PgPool;
use telemetry::TraceContext;
use uuid::Uuid;

struct Shop {
    pool: PgPool,
    decisions: Decisions<Orders>,
}

impl Shop {
    async fn open() -> Self {
        let pool = testbed::database(&MIGRATIONS).await;
        let decisions = Decisions::start(Db::new(pool.clone()));
        Self { pool, decisions }
    }

    /// Places an order that is to be paid within so long.
    async fn place(&self, pay_within: Duration) -> Uuid {
        let id = Uuid::now_v7();
        let place = move |orders: &mut Orders| {
            let priced = Priced {
                lines: Vec::new(),
                total: 500,
                currency: "EUR".into(),
            };
            let placing = (id, orders.now, pay_within);
            let order = Order::place(&wish(), priced, StockCheck::Passed, TraceContext::NONE, placing);
            let event = order.placed();
            orders.orders.insert(id, order);
            ((), Some(event))
        };
        self.decisions.decide(Touched::order(id), place).await.unwrap();
        id
    }

    /// Hears one event as the consumer would, but without the inbox, so that duplicates reach the rules.
    async fn hear<E: events::Event>(&self, event: &E) {
        let (touched, draft) = (Touched::by(event), Draft::of(event).unwrap());
        let envelope = Envelope {
            event_id: Uuid::now_v7(),
            event_type: E::TYPE.to_string(),
            subject: draft.subject.to_string(),
            sequence: 1,
            correlation_id: draft.subject.to_string(),
            causation_id: None,
            occurred_at: Utc::now(),
            trace: TraceContext::NONE,
        };
        let react = move |orders: &mut Orders| {
            (
                (),
                reactions::reactions().react(orders, &envelope, draft.payload.as_bytes()),
            )
        };
        self.decisions.decide(touched, react).await.unwrap();
    }

    async fn order(&self, id: Uuid) -> Order {
        store::order(&self.pool, id).await.unwrap().unwrap()
    }

    /// Whether the order needs attention if nobody may let it wait, but the parcel may take an hour.
    async fn stuck(&self, id: Uuid) -> bool {
        store::is_stuck(&self.pool, id, &IMPATIENT).await.unwrap()
    }

    async fn told(&self) -> Vec<String> {
        let names = sqlx::query_scalar("select event_type from outbox order by id");
        names.fetch_all(&self.pool).await.unwrap()
    }
}

fn wish() -> Wish {
    serde_json::from_value(json!({
        "customer": { "id": Uuid::now_v7(), "email": "ada@example.com" },
        "lines": [],
        "ship_to": { "name": "Ada", "street": "1 Main St", "city": "London", "postal_code": "N1", "country": "GB" },
        "payment_method": "pm_card_visa",
    }))
    .unwrap()
}

fn reserved(order_id: Uuid) -> InventoryReserved {
    InventoryReserved {
        order_id,
        reservation_id: Uuid::now_v7(),
        lines: Vec::new(),
        amount: 500,
        currency: "EUR".into(),
        payment_method: "pm_card_visa".into(),
        customer: events::Customer {
            id: Uuid::now_v7(),
            email: "ada@example.com".into(),
        },
        expires_at: Utc::now(),
    }
}

fn paid(order_id: Uuid) -> PaymentSucceeded {
    let (payment_id, gateway_ref) = (Uuid::now_v7(), "pi_1".to_owned());
    PaymentSucceeded {
        order_id,
        payment_id,
        amount: 500,
        currency: "EUR".into(),
        gateway_ref,
    }
}

const PATIENT: Duration = Duration::from_secs(900);
const IMPATIENT: Patience = Patience {
    services: Duration::ZERO,
    parcel: Duration::from_secs(3_600),
};

/// Row 18: A fact that is told again, even under another id, is known already: nothing follows twice.
#[tokio::test]
async fn a_paid_order_is_confirmed_once_however_often_the_payment_is_told() {
    let shop = Shop::open().await;
    let id = shop.place(PATIENT).await;
    shop.hear(&reserved(id)).await;
    shop.hear(&paid(id)).await;
    shop.hear(&paid(id)).await;
    assert_eq!(shop.order(id).await.state(), State::Confirmed);
    assert_eq!(
        shop.told().await,
        ["shop.order.OrderPlaced.v1", "shop.order.OrderConfirmed.v1"]
    );
}

#[tokio::test]
async fn a_delivered_order_is_completed_at_the_time_of_delivery() {
    let shop = Shop::open().await;
    let id = shop.place(PATIENT).await;
    let delivered_at = Utc::now() - Duration::from_secs(60);
    let (carrier, tracking) = ("post".to_owned(), "T1".to_owned());
    let shipment_id = Uuid::now_v7();
    shop.hear(&paid(id)).await;
    shop.hear(&OrderDelivered {
        order_id: id,
        shipment_id,
        carrier,
        tracking,
        lines: Vec::new(),
        delivered_at,
    })
    .await;
    assert_eq!(shop.order(id).await.state(), State::Completed);
    let payload: String = sqlx::query_scalar("select payload from outbox order by id desc limit 1")
        .fetch_one(&shop.pool)
        .await
        .unwrap();
    assert!(
        payload.contains(&serde_json::to_string(&delivered_at).unwrap()),
        "{payload}"
    );
}

#[tokio::test]
async fn a_declined_order_is_cancelled_only_when_its_stock_is_free_again() {
    let shop = Shop::open().await;
    let id = shop.place(PATIENT).await;
    shop.hear(&PaymentDeclined {
        order_id: id,
        payment_id: Uuid::now_v7(),
        code: "card_declined".into(),
        attempts: 1,
    })
    .await;
    assert_eq!(shop.order(id).await.state(), State::Cancelling);
    shop.hear(&InventoryReleased {
        order_id: id,
        reservation_id: None,
        cause: "PaymentDeclined".into(),
    })
    .await;
    let order = shop.order(id).await;
    assert_eq!(
        (order.state(), order.reason()),
        (State::Cancelled, Some(CancelReason::PaymentDeclined))
    );
    assert_eq!(shop.told().await.last().unwrap(), "shop.order.OrderCancelled.v1");
}

/// Row 33: The deadline is in the database: an overdue order is given up by whichever replica takes it, once.
#[tokio::test]
async fn an_overdue_order_is_given_up_and_a_paid_one_is_left_alone() {
    let shop = Shop::open().await;
    let (overdue, settled) = (shop.place(Duration::ZERO).await, shop.place(Duration::ZERO).await);
    shop.hear(&paid(settled)).await;
    let sweep = CancelOverdue {
        decisions: shop.decisions.clone(),
    };
    let mut tx = messaging::Db::new(shop.pool.clone()).begin().await.unwrap();
    let jobs = sweep.take(&mut tx, 10).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(jobs.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [overdue]);
    for job in jobs {
        sweep.perform(job).await.unwrap();
    }
    assert_eq!(shop.order(overdue).await.reason(), Some(CancelReason::DeadlineExceeded));
    assert_eq!(shop.order(settled).await.state(), State::Confirmed);
    assert_eq!(
        sweep.next_due(&mut shop.pool.acquire().await.unwrap()).await.unwrap(),
        None
    );
}

#[tokio::test]
async fn the_newest_knowledge_of_an_article_wins_whatever_comes_first() {
    let shop = Shop::open().await;
    let (sku, name, currency) = ("tea".to_owned(), "Tea".to_owned(), "EUR".to_owned());
    let level = StockLevelChanged {
        sku,
        name,
        price: 300,
        currency,
        available: 7,
        revision: 3,
    };
    shop.hear(&level).await;
    let StockLevelChanged {
        sku, name, currency, ..
    } = level;
    shop.hear(&ProductListed {
        sku: sku.clone(),
        name,
        price: 250,
        currency,
        available: 0,
        revision: 1,
    })
    .await;
    let known = store::catalogue(&shop.pool, std::slice::from_ref(&sku)).await.unwrap();
    assert_eq!(
        (known[&sku].price, known[&sku].available, known[&sku].revision),
        (300, 7, 3)
    );
}

/// The table is the contract: what is heard, and that nothing foreign is emitted.
#[test]
fn the_wiring_covers_every_event_that_concerns_an_order() {
    let heard: Vec<String> = reactions::reactions()
        .wiring()
        .map(|(event, _)| event.name.to_owned())
        .collect();
    assert_eq!(heard.len(), 23);
}

/// Row 33: Whatever an order waits for, it waits within a limit: a lost event makes it one that needs attention.
#[tokio::test]
async fn an_order_waits_for_somebody_until_nothing_is_owed() {
    let shop = Shop::open().await;
    let id = shop.place(PATIENT).await;
    assert!(!shop.stuck(id).await, "it may still be paid");
    shop.hear(&paid(id)).await;
    assert!(
        shop.stuck(id).await,
        "confirmed, and the warehouse has not scheduled it"
    );
    assert_eq!(open(&shop).await, [("CONFIRMED".to_owned(), 1, 1)]);
    let (shipment_id, carrier, lines) = (Uuid::now_v7(), "post".to_owned(), Vec::new());
    shop.hear(&ShipmentScheduled {
        order_id: id,
        shipment_id,
        carrier: carrier.clone(),
        tracking: None,
        lines: lines.clone(),
    })
    .await;
    assert!(!shop.stuck(id).await, "a parcel takes its time");
    let (tracking, delivered_at) = ("T1".to_owned(), Utc::now());
    shop.hear(&OrderDelivered {
        order_id: id,
        shipment_id,
        carrier,
        tracking,
        lines: lines.clone(),
        delivered_at,
    })
    .await;
    assert!(
        shop.stuck(id).await,
        "delivered, but inventory never said that it is sold"
    );
    shop.hear(&InventoryCommitted { order_id: id, lines }).await;
    assert!(!shop.stuck(id).await);
    assert_eq!(open(&shop).await, []);
}

/// Rows 31, 33: An order that is being undone needs attention until every compensation is confirmed.
#[tokio::test]
async fn an_order_whose_compensation_hangs_needs_attention() {
    let shop = Shop::open().await;
    let id = shop.place(PATIENT).await;
    shop.hear(&PaymentDeclined {
        order_id: id,
        payment_id: Uuid::now_v7(),
        code: "card_declined".into(),
        attempts: 1,
    })
    .await;
    assert!(shop.stuck(id).await, "the stock is not released");
    let (reservation_id, cause) = (None, "PaymentDeclined".into());
    shop.hear(&InventoryReleased {
        order_id: id,
        reservation_id,
        cause,
    })
    .await;
    assert!(!shop.stuck(id).await);
}

async fn open(shop: &Shop) -> Vec<(String, i64, i64)> {
    let open = store::open_sagas(&shop.pool, &IMPATIENT).await.unwrap();
    open.into_iter()
        .map(|Open { state, all, stuck }| (state, all, stuck))
        .collect()
}
