//! What the tests of the analytics service share: whole stories of orders, and two ways to hear them.
#![allow(dead_code, clippy::unwrap_used)]

use std::collections::BTreeMap;

use analytics::domain::{Facts, Product, Projections, Tally, Tracked};
use chrono::{DateTime, TimeDelta, Utc};
use events::{
    Address, CancelReason, Customer, Event, InventoryCommitted, InventoryRejected, InventoryReleased,
    InventoryReserved, InventoryRestocked, Line, NotificationFailed, NotificationSent, OrderCancelled, OrderCompleted,
    OrderConfirmed, OrderDelivered, OrderPlaced, OrderRefunded, OrderShipped, PaymentDeclined, PaymentRefunded,
    PaymentSucceeded, RefundCause, ShipmentFailed, ShipmentScheduled, StockLevelChanged,
};
use messaging::{Envelope, Journal, Touched, Trouble, WorkingSet};
use sqlx::PgPool;
use telemetry::TraceContext;
use uuid::Uuid;

/// An event as it arrives.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub(crate) envelope: Envelope,
    pub(crate) payload: Vec<u8>,
    touched: Touched,
}

/// How an order ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    Completed,
    PartlyReturned,
    OutOfStock,
    Declined,
    Undeliverable,
}

/// What is ordered.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    pub(crate) ending: Ending,
    pub(crate) quantity: i32,
    pub(crate) price: i64,
    pub(crate) currency: &'static str,
    /// Seconds after the first order of the test.
    pub(crate) at: i64,
}

/// Collects the events of one order, one every ten seconds.
struct Teller {
    order_id: Uuid,
    at: DateTime<Utc>,
    told: Vec<Told>,
}

impl Teller {
    fn tell<E: Event>(&mut self, event: E) {
        let sequence = self.told.len() as i64 + 1;
        self.told.push(told(
            &event,
            self.at + TimeDelta::seconds(10 * (sequence - 1)),
            sequence,
        ));
    }
}

/// An event in an envelope.
pub(crate) fn told<E: Event>(event: &E, occurred_at: DateTime<Utc>, sequence: i64) -> Told {
    let envelope = Envelope {
        event_id: Uuid::now_v7(),
        event_type: E::TYPE.to_string(),
        subject: event.subject().to_string(),
        sequence,
        correlation_id: event.subject().to_string(),
        causation_id: None,
        occurred_at,
        trace: TraceContext::NONE,
    };
    Told {
        envelope,
        payload: serde_json::to_vec(event).unwrap(),
        touched: Touched::by(event),
    }
}

/// The first moment of every test.
pub(crate) fn noon() -> DateTime<Utc> {
    "2026-01-05T12:00:00Z".parse().unwrap()
}

/// The level of a product's stock.
pub(crate) fn level(sku: &str, available: i64, sequence: i64) -> Told {
    let event = StockLevelChanged {
        sku: sku.into(),
        name: format!("{sku}, as of {sequence}"),
        price: 100,
        currency: "EUR".into(),
        available,
        revision: sequence,
    };
    told(&event, noon(), sequence)
}

/// Everything that is told about an order, in the order in which it happened.
pub(crate) fn story(order: &Order) -> Vec<Told> {
    let order_id = Uuid::now_v7();
    let mut teller = Teller {
        order_id,
        at: noon() + TimeDelta::seconds(order.at),
        told: Vec::new(),
    };
    let customer = Customer {
        id: Uuid::now_v7(),
        email: "ada@example.org".into(),
    };
    let line = |sku: &str, quantity, unit_price| Line {
        sku: sku.into(),
        name: "Thing".into(),
        quantity,
        unit_price,
    };
    // The same article in two lines, as clients do.
    let lines = vec![
        line("tea", order.quantity, order.price),
        line("cup", 1, 990),
        line("tea", 1, order.price),
    ];
    let total = lines
        .iter()
        .map(|line| i64::from(line.quantity) * line.unit_price)
        .sum();
    let (currency, ship_to) = (order.currency.to_owned(), address());
    teller.tell(OrderPlaced {
        order_id,
        customer: customer.clone(),
        lines: lines.clone(),
        total,
        currency: currency.clone(),
        ship_to: ship_to.clone(),
        payment_method: "pm_card_visa".into(),
        pay_by: teller.at,
    });
    let cancelled = |reason, refunded| OrderCancelled {
        order_id,
        customer: customer.clone(),
        reason,
        refunded,
        currency: currency.clone(),
    };
    if order.ending == Ending::OutOfStock {
        teller.tell(InventoryRejected {
            order_id,
            shortages: Vec::new(),
        });
        teller.tell(cancelled(CancelReason::OutOfStock, 0));
        teller.notify("order_cancelled");
        return teller.told;
    }
    let payment_id = Uuid::now_v7();
    teller.tell(InventoryReserved {
        order_id,
        reservation_id: Uuid::now_v7(),
        lines: lines.clone(),
        amount: total,
        currency: currency.clone(),
        payment_method: "pm_card_visa".into(),
        customer: customer.clone(),
        expires_at: teller.at,
    });
    if order.ending == Ending::Declined {
        teller.tell(PaymentDeclined {
            order_id,
            payment_id,
            code: "card_declined".into(),
            attempts: 1,
        });
        teller.release("PaymentDeclined");
        teller.tell(cancelled(CancelReason::PaymentDeclined, 0));
        teller.notify("order_cancelled");
        return teller.told;
    }
    let gateway_ref = "pi_1".to_owned();
    teller.tell(PaymentSucceeded {
        order_id,
        payment_id,
        amount: total,
        currency: currency.clone(),
        gateway_ref,
    });
    teller.tell(OrderConfirmed {
        order_id,
        customer: customer.clone(),
        lines: lines.clone(),
        ship_to,
        payment_id,
        total,
        currency: currency.clone(),
    });
    teller.notify("order_confirmed");
    if order.ending == Ending::Undeliverable {
        teller.tell(ShipmentFailed {
            order_id,
            shipment_id: None,
            code: "undeliverable_address".into(),
        });
        teller.pay_back(payment_id, total, RefundCause::ShippingFailed);
        teller.release("PaymentRefunded");
        teller.tell(cancelled(CancelReason::ShippingFailed, total));
        teller.tell(NotificationFailed {
            order_id,
            template: "order_cancelled".into(),
            channel: "email".into(),
            message_id: "<1@tidings.example>".into(),
        });
        return teller.told;
    }
    teller.deliver(&lines, total, &currency);
    if order.ending == Ending::PartlyReturned {
        // In two parcels.
        for _ in 0..2 {
            teller.tell(InventoryRestocked {
                order_id,
                lines: vec![line("tea", 1, order.price)],
            });
            teller.pay_back(payment_id, order.price, RefundCause::GoodsReturned);
            teller.tell(OrderRefunded {
                order_id,
                return_id: Uuid::now_v7(),
                amount: order.price,
            });
        }
    }
    teller.told
}

impl Teller {
    fn notify(&mut self, template: &str) {
        self.tell(NotificationSent {
            order_id: self.order_id,
            template: template.into(),
            channel: "email".into(),
            message_id: "<1@tidings.example>".into(),
        });
    }

    fn release(&mut self, cause: &str) {
        let (order_id, reservation_id) = (self.order_id, Some(Uuid::now_v7()));
        self.tell(InventoryReleased {
            order_id,
            reservation_id,
            cause: cause.into(),
        });
    }

    fn pay_back(&mut self, payment_id: Uuid, amount: i64, cause: RefundCause) {
        let (order_id, refund_id) = (self.order_id, Uuid::now_v7());
        self.tell(PaymentRefunded {
            order_id,
            payment_id,
            refund_id,
            amount,
            cause,
        });
    }

    fn deliver(&mut self, lines: &[Line], total: i64, currency: &str) {
        let (order_id, shipment_id) = (self.order_id, Uuid::now_v7());
        let (carrier, tracking, lines) = (String::from("Swift"), String::from("SW-1"), lines.to_vec());
        self.tell(ShipmentScheduled {
            order_id,
            shipment_id,
            carrier: carrier.clone(),
            tracking: None,
            lines: lines.clone(),
        });
        self.tell(OrderShipped {
            order_id,
            shipment_id,
            carrier: carrier.clone(),
            tracking: tracking.clone(),
            lines: lines.clone(),
        });
        self.tell(InventoryCommitted {
            order_id,
            lines: lines.clone(),
        });
        self.notify("order_shipped");
        self.tell(OrderDelivered {
            order_id,
            shipment_id,
            carrier,
            tracking,
            lines,
            delivered_at: self.at,
        });
        self.tell(OrderCompleted {
            order_id,
            completed_at: self.at,
            total,
            currency: currency.to_owned(),
        });
    }
}

fn address() -> Address {
    Address {
        name: "Ada".into(),
        street: "1 Long Lane".into(),
        city: "London".into(),
        postal_code: "N1".into(),
        country: "GB".into(),
    }
}

/// The tables, without a database.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Memory {
    pub(crate) orders: BTreeMap<Uuid, Facts>,
    pub(crate) products: BTreeMap<String, Product>,
    pub(crate) tally: Tally,
}

impl Memory {
    /// Hears one batch, as the service does.
    pub(crate) fn hear(&mut self, batch: &[Told]) {
        let mut projections = Projections::default();
        for (order_id, facts) in &self.orders {
            let tracked = Tracked {
                before: facts.clone(),
                now: facts.clone(),
                version: 1,
            };
            projections.orders.insert(*order_id, tracked);
        }
        react(&mut projections, batch);
        self.tally.add(projections.difference(), 1);
        for (sku, product) in projections.products {
            let known = self.products.get(&sku).map_or(i64::MIN, |known| known.sequence);
            if known < product.sequence {
                self.products.insert(sku, product);
            }
        }
        self.orders.extend(
            projections
                .orders
                .into_iter()
                .map(|(order_id, order)| (order_id, order.now)),
        );
    }
}

fn react(projections: &mut Projections, batch: &[Told]) {
    let reactions = analytics::reactions::reactions();
    for Told { envelope, payload, .. } in batch {
        let followed = reactions.react(projections, envelope, payload).unwrap();
        assert!(followed.is_empty(), "analytics says nothing");
    }
}

/// Hears one batch in one transaction, as often as races are lost.
pub(crate) async fn hear(pool: &PgPool, batch: &[Told]) {
    while let Err(error) = hear_once(pool, batch).await {
        let trouble = Trouble::from(error);
        assert!(matches!(trouble, Trouble::Conflict(_)), "{trouble}");
    }
}

async fn hear_once(pool: &PgPool, batch: &[Told]) -> sqlx::Result<()> {
    let mut touched = Touched::default();
    for told in batch {
        touched.orders.extend(&told.touched.orders);
        touched.keys.extend(told.touched.keys.iter().cloned());
    }
    let mut tx = pool.begin().await?;
    let mut projections = Projections::load(&mut tx, &touched).await?;
    react(&mut projections, batch);
    let heard = batch.iter().map(|told| told.envelope.clone()).collect();
    projections
        .save(
            &mut tx,
            &Journal {
                heard,
                told: Vec::new(),
            },
        )
        .await?;
    tx.commit().await
}
