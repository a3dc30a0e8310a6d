//! What the tests of the analytics service share: whole stories of orders, and two ways to hear them.
#![allow(dead_code, clippy::unwrap_used)]

mod hearing;

use chrono::{DateTime, TimeDelta, Utc};
use events::{
    Address, CancelReason, Customer, Event, InventoryCommitted, InventoryRejected, InventoryReleased,
    InventoryReserved, InventoryRestocked, Line, NotificationFailed, NotificationSent, OrderCancelled, OrderCompleted,
    OrderConfirmed, OrderDelivered, OrderPlaced, OrderRefunded, OrderShipped, PaymentDeclined, PaymentRefunded,
    PaymentSucceeded, RefundCause, ShipmentFailed, ShipmentScheduled, StockLevelChanged,
};
use messaging::{Envelope, Touched};
use telemetry::TraceContext;
use uuid::Uuid;

#[allow(unused_imports, reason = "each test binary uses its own part")]
pub(crate) use hearing::{Memory, hear};

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
    order: Order,
    order_id: Uuid,
    payment_id: Uuid,
    customer: Customer,
    lines: Vec<Line>,
    total: i64,
    told: Vec<Told>,
}

/// Everything that is told about an order, in the order in which it happened.
pub(crate) fn story(order: &Order) -> Vec<Told> {
    let mut teller = Teller::of(order);
    teller.place();
    match order.ending {
        Ending::OutOfStock => {
            let order_id = teller.order_id;
            teller.tell(InventoryRejected {
                order_id,
                shortages: Vec::new(),
            });
            teller.cancel(CancelReason::OutOfStock, 0);
        }
        Ending::Declined => {
            let Teller {
                order_id, payment_id, ..
            } = teller;
            teller.reserve();
            teller.tell(PaymentDeclined {
                order_id,
                payment_id,
                code: "card_declined".into(),
                attempts: 1,
            });
            teller.release("PaymentDeclined");
            teller.cancel(CancelReason::PaymentDeclined, 0);
        }
        Ending::Undeliverable => {
            let Teller { order_id, total, .. } = teller;
            teller.reserve();
            teller.pay();
            teller.tell(ShipmentFailed {
                order_id,
                shipment_id: None,
                code: "undeliverable_address".into(),
            });
            teller.pay_back(total, RefundCause::ShippingFailed, None);
            teller.release("PaymentRefunded");
            teller.cancel(CancelReason::ShippingFailed, total);
        }
        Ending::Completed | Ending::PartlyReturned => {
            teller.reserve();
            teller.pay();
            teller.deliver();
        }
    }
    if order.ending == Ending::PartlyReturned {
        // In two parcels.
        teller.take_back();
        teller.take_back();
    }
    teller.told
}

impl Teller {
    fn of(order: &Order) -> Self {
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
        Self {
            order: order.clone(),
            order_id: Uuid::now_v7(),
            payment_id: Uuid::now_v7(),
            customer: Customer {
                id: Uuid::now_v7(),
                email: "ada@example.org".into(),
            },
            total: lines
                .iter()
                .map(|line| i64::from(line.quantity) * line.unit_price)
                .sum(),
            lines,
            told: Vec::new(),
        }
    }

    fn now(&self) -> DateTime<Utc> {
        noon() + TimeDelta::seconds(self.order.at + 10 * self.told.len() as i64)
    }

    fn currency(&self) -> String {
        self.order.currency.to_owned()
    }

    fn tell<E: Event>(&mut self, event: E) {
        let sequence = self.told.len() as i64 + 1;
        self.told.push(told(&event, self.now(), sequence));
    }

    fn place(&mut self) {
        self.tell(OrderPlaced {
            order_id: self.order_id,
            customer: self.customer.clone(),
            lines: self.lines.clone(),
            total: self.total,
            currency: self.currency(),
            ship_to: address(),
            payment_method: "pm_card_visa".into(),
            pay_by: self.now(),
        });
    }

    fn reserve(&mut self) {
        self.tell(InventoryReserved {
            order_id: self.order_id,
            reservation_id: Uuid::now_v7(),
            lines: self.lines.clone(),
            amount: self.total,
            currency: self.currency(),
            payment_method: "pm_card_visa".into(),
            customer: self.customer.clone(),
            expires_at: self.now(),
        });
    }

    fn pay(&mut self) {
        let (order_id, payment_id) = (self.order_id, self.payment_id);
        let (total, currency) = (self.total, self.currency());
        self.tell(PaymentSucceeded {
            order_id,
            payment_id,
            amount: total,
            currency: currency.clone(),
            gateway_ref: "pi_1".into(),
        });
        self.tell(OrderConfirmed {
            order_id,
            customer: self.customer.clone(),
            lines: self.lines.clone(),
            ship_to: address(),
            payment_id,
            total,
            currency,
        });
        self.notify("order_confirmed");
    }

    fn deliver(&mut self) {
        let (order_id, shipment_id, lines) = (self.order_id, Uuid::now_v7(), self.lines.clone());
        let (carrier, tracking) = (String::from("Swift"), String::from("SW-1"));
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
        let (now, total, currency) = (self.now(), self.total, self.currency());
        self.tell(OrderDelivered {
            order_id,
            shipment_id,
            carrier,
            tracking,
            lines,
            delivered_at: now,
        });
        self.tell(OrderCompleted {
            order_id,
            completed_at: now,
            total,
            currency,
        });
    }

    /// One piece comes back.
    fn take_back(&mut self) {
        let (order_id, amount, lines) = (self.order_id, self.order.price, self.lines[2..].to_vec());
        let return_id = Uuid::now_v7();
        self.tell(InventoryRestocked {
            order_id,
            lines,
            return_id: Some(return_id),
        });
        self.pay_back(amount, RefundCause::GoodsReturned, Some(return_id));
        self.tell(OrderRefunded {
            order_id,
            return_id,
            amount,
        });
    }

    fn pay_back(&mut self, amount: i64, cause: RefundCause, return_id: Option<Uuid>) {
        self.tell(PaymentRefunded {
            order_id: self.order_id,
            payment_id: self.payment_id,
            refund_id: Uuid::now_v7(),
            amount,
            cause,
            return_id,
        });
    }

    fn release(&mut self, cause: &str) {
        self.tell(InventoryReleased {
            order_id: self.order_id,
            reservation_id: Some(Uuid::now_v7()),
            cause: cause.into(),
        });
    }

    /// The customer of an order that cannot be delivered cannot be written to either.
    fn cancel(&mut self, reason: CancelReason, refunded: i64) {
        self.tell(OrderCancelled {
            order_id: self.order_id,
            customer: self.customer.clone(),
            reason,
            refunded,
            currency: self.currency(),
        });
        match reason {
            CancelReason::ShippingFailed => self.tell(NotificationFailed {
                order_id: self.order_id,
                template: "order_cancelled".into(),
                channel: "email".into(),
                message_id: "<1@tidings.example>".into(),
            }),
            _ => self.notify("order_cancelled"),
        }
    }

    fn notify(&mut self, template: &str) {
        self.tell(NotificationSent {
            order_id: self.order_id,
            template: template.into(),
            channel: "email".into(),
            message_id: "<1@tidings.example>".into(),
        });
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

fn address() -> Address {
    Address {
        name: "Ada".into(),
        street: "1 Long Lane".into(),
        city: "London".into(),
        postal_code: "N1".into(),
        country: "GB".into(),
    }
}
