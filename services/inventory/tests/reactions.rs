//! What inventory does with events, against a real database.
#![allow(clippy::unwrap_used)]

use chrono::Utc;
use events::{
    Address, Customer, DAMAGED, Line, OrderPlaced, OrderShipped, PaymentDeclined, PaymentRefunded, PaymentVoided,
    RESELLABLE, RefundCause, ReturnReceived, ReturnedLine,
};
use inventory::domain::{Product, ReservationState, Stock};
use inventory::reactions::{commit, release, release_refunded, reserve, restock};
use inventory::{MIGRATIONS, store};
use messaging::{Db, Decisions, Touched};
use sqlx::PgPool;
use uuid::Uuid;

struct House {
    pool: PgPool,
    decisions: Decisions<Stock>,
}

impl House {
    /// A house with so many packets of tea.
    async fn with_tea(pieces: i64) -> Self {
        let pool = testbed::database(&MIGRATIONS).await;
        let decisions = Decisions::start(Db::new(pool.clone()));
        let house = Self { pool, decisions };
        let fill = move |stock: &mut Stock| {
            let product = Product {
                sku: "tea".into(),
                name: "Tea".into(),
                price: 250,
                currency: "EUR".into(),
            };
            let listed = stock
                .describe(product, |_| true)
                .map(|described| described.article.listed());
            stock.adjust("tea", pieces, "delivery").unwrap();
            ((), listed.ok())
        };
        house.decisions.decide(Touched::key("tea"), fill).await.unwrap();
        house
    }

    async fn place(&self, order: OrderPlaced) {
        let touched = Touched::by(&order);
        self.decisions
            .decide(touched, move |stock| ((), reserve(stock, &order)))
            .await
            .unwrap();
    }

    async fn hear<R: messaging::Emits>(&self, id: Uuid, react: impl FnMut(&mut Stock) -> R + Send + 'static) {
        let mut react = react;
        self.decisions
            .decide(Touched::order(id), move |stock| ((), react(stock)))
            .await
            .unwrap();
    }

    async fn level(&self) -> (i64, i64) {
        let tea = store::articles(&self.pool, &["tea".to_owned()])
            .await
            .unwrap()
            .remove(0);
        (tea.on_hand, tea.reserved)
    }

    async fn state(&self, order_id: Uuid) -> ReservationState {
        store::reservation(&self.pool, order_id).await.unwrap().unwrap().state
    }

    async fn told(&self) -> Vec<String> {
        let names = sqlx::query_scalar("select split_part(event_type, '.', 3) from outbox order by id");
        names.fetch_all(&self.pool).await.unwrap()
    }

    /// The invariants of the failure table, section B.
    async fn audit(&self) {
        let query = r#"
            select p.on_hand = coalesce((select sum(delta) from stock_movements m where m.sku = p.sku), 0)
               and p.reserved = coalesce((select sum((line->>'quantity')::bigint)
                                          from reservations r, jsonb_array_elements(r.lines) line
                                          where r.state = 'HELD' and line->>'sku' = p.sku), 0)
            from products p"#;
        let sound: Vec<bool> = sqlx::query_scalar(query).fetch_all(&self.pool).await.unwrap();
        assert!(
            sound.iter().all(|sound| *sound),
            "movements or reservations do not add up"
        );
    }
}

fn order(quantity: i32) -> OrderPlaced {
    OrderPlaced {
        order_id: Uuid::now_v7(),
        customer: Customer {
            id: Uuid::now_v7(),
            email: "ada@example.com".into(),
        },
        lines: vec![Line {
            sku: "tea".into(),
            name: "Tea".into(),
            quantity,
            unit_price: 250,
        }],
        total: 250 * i64::from(quantity),
        currency: "EUR".into(),
        ship_to: Address {
            name: "Ada".into(),
            street: "1 Main St".into(),
            city: "London".into(),
            postal_code: "N1".into(),
            country: "GB".into(),
        },
        payment_method: "pm_card_visa".into(),
        pay_by: Utc::now(),
    }
}

fn voided(order_id: Uuid) -> PaymentVoided {
    let cause = RefundCause::OrderCancelled;
    PaymentVoided {
        order_id,
        payment_id: Uuid::now_v7(),
        refund_id: None,
        amount: 0,
        cause,
    }
}

fn shipped(order_id: Uuid) -> OrderShipped {
    let (carrier, tracking) = ("post".to_owned(), "T1".to_owned());
    OrderShipped {
        order_id,
        shipment_id: Uuid::now_v7(),
        carrier,
        tracking,
        lines: Vec::new(),
    }
}

#[tokio::test]
async fn a_reservation_holds_the_goods_until_they_are_shipped() {
    let (house, order) = (House::with_tea(10).await, order(4));
    let id = order.order_id;
    house.place(order.clone()).await;
    house.place(order).await;
    assert_eq!(
        (house.level().await, house.state(id).await),
        ((10, 4), ReservationState::Held)
    );
    house.hear(id, move |stock| commit(stock, &shipped(id))).await;
    house.hear(id, move |stock| commit(stock, &shipped(id))).await;
    assert_eq!(
        (house.level().await, house.state(id).await),
        ((6, 0), ReservationState::Committed)
    );
    let expected = [
        "ProductListed",
        "InventoryReserved",
        "StockLevelChanged",
        "InventoryCommitted",
    ];
    assert_eq!(house.told().await, expected);
    house.audit().await;
}

#[tokio::test]
async fn what_was_declined_is_free_again_and_that_is_said_once() {
    let (house, order) = (House::with_tea(10).await, order(4));
    let id = order.order_id;
    house.place(order).await;
    let declined = PaymentDeclined {
        order_id: id,
        payment_id: Uuid::now_v7(),
        code: "card_declined".into(),
        attempts: 1,
    };
    house.hear(id, move |stock| release(stock, &declined)).await;
    house.hear(id, move |stock| release(stock, &voided(id))).await;
    assert_eq!(
        (house.level().await, house.state(id).await),
        ((10, 0), ReservationState::Released)
    );
    let told = house.told().await;
    assert_eq!(told.iter().filter(|name| *name == "InventoryReleased").count(), 1);
    house.audit().await;
}

#[tokio::test]
async fn an_order_undone_before_it_was_placed_leaves_a_tombstone_and_holds_nothing() {
    let (house, order) = (House::with_tea(10).await, order(4));
    let id = order.order_id;
    house.hear(id, move |stock| release(stock, &voided(id))).await;
    house.place(order).await;
    assert_eq!(
        (house.level().await, house.state(id).await),
        ((10, 0), ReservationState::Released)
    );
    assert_eq!(house.told().await, ["ProductListed", "InventoryReleased"]);
}

#[tokio::test]
async fn a_refund_after_shipping_takes_nothing_back_into_stock() {
    let (house, order) = (House::with_tea(10).await, order(4));
    let id = order.order_id;
    house.place(order).await;
    house.hear(id, move |stock| commit(stock, &shipped(id))).await;
    let (payment_id, refund_id) = (Uuid::now_v7(), Uuid::now_v7());
    let refunded = PaymentRefunded {
        order_id: id,
        payment_id,
        refund_id,
        amount: 1_000,
        cause: RefundCause::GoodsReturned,
        return_id: Some(Uuid::now_v7()),
    };
    house.hear(id, move |stock| release_refunded(stock, &refunded)).await;
    assert_eq!(
        (house.level().await, house.state(id).await),
        ((6, 0), ReservationState::Committed)
    );
}

/// Whichever is heard first, the sale or the return, and the return twice in different batches.
#[tokio::test]
async fn a_return_is_put_on_the_shelf_once_and_said_even_if_nothing_can_be_sold_again() {
    for sale_first in [true, false] {
        let (house, order) = (House::with_tea(10).await, order(4));
        let id = order.order_id;
        house.place(order).await;
        if sale_first {
            house.hear(id, move |stock| commit(stock, &shipped(id))).await;
        }
        for (condition, pieces) in [(RESELLABLE, 3), (DAMAGED, 1)] {
            let line = ReturnedLine {
                sku: "tea".into(),
                quantity: pieces,
                condition: condition.into(),
            };
            let returned = ReturnReceived {
                order_id: id,
                return_id: Uuid::now_v7(),
                lines: vec![line],
                refundable: 0,
            };
            for _ in 0..2 {
                let returned = returned.clone();
                house.hear(id, move |stock| restock(stock, &returned)).await;
            }
        }
        if !sale_first {
            house.hear(id, move |stock| commit(stock, &shipped(id))).await;
        }
        assert_eq!(house.level().await, (9, 0));
        let told = house.told().await;
        assert_eq!(told.iter().filter(|name| *name == "InventoryRestocked").count(), 2);
        house.audit().await;
    }
}

/// Row 30: of five hundred orders for a hundred pieces inventory accepts exactly a hundred and refuses the others.
#[tokio::test]
async fn five_hundred_buyers_of_a_hundred_pieces_get_exactly_a_hundred() {
    let house = House::with_tea(100).await;
    futures_util::future::join_all((0..500).map(|_| house.place(order(1)))).await;
    assert_eq!(house.level().await, (100, 100));
    let told = house.told().await;
    assert_eq!(told.iter().filter(|name| *name == "InventoryReserved").count(), 100);
    assert_eq!(told.iter().filter(|name| *name == "InventoryRejected").count(), 400);
    house.audit().await;
}
