//! What the order service tells.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    Address, Currency, Customer, Line,
    contract::{Published, published},
    event::event,
};

/// Every event of this module.
pub(crate) const EVENTS: &[Published] = published![
    OrderPlaced,
    OrderConfirmed,
    OrderCancellationRequested,
    OrderCancelled,
    OrderCompleted,
    OrderReturnRequested,
    OrderRefunded,
];

/// An order was accepted and saved; nothing is reserved or paid yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OrderPlaced {
    /// The order.
    pub order_id: Uuid,
    /// Who ordered.
    pub customer: Customer,
    /// What was ordered, at the prices promised.
    pub lines: Vec<Line>,
    /// Sum of the lines in minor units.
    pub total: i64,
    /// Currency of every amount of the order.
    pub currency: Currency,
    /// Where it goes.
    pub ship_to: Address,
    /// Token of the payment method; never a card number.
    pub payment_method: String,
    /// When the order is given up unless it has been paid.
    pub pay_by: DateTime<Utc>,
}
event!(OrderPlaced, Order, v 1, order_id, skus of lines);

/// The order is paid: it may be shipped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OrderConfirmed {
    /// The order.
    pub order_id: Uuid,
    /// Who ordered.
    pub customer: Customer,
    /// What is to be shipped.
    pub lines: Vec<Line>,
    /// Where it goes.
    pub ship_to: Address,
    /// The payment that covers it.
    pub payment_id: Uuid,
    /// What was paid, in minor units.
    pub total: i64,
    /// Currency of every amount of the order.
    pub currency: Currency,
}
event!(OrderConfirmed, Order, v 1, order_id);

/// Somebody, or the order's deadline, wants the order undone; the participants answer in turn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OrderCancellationRequested {
    /// The order.
    pub order_id: Uuid,
    /// The reason that the order will end with.
    pub reason: CancelReason,
    /// `customer` or `deadline`.
    pub requested_by: String,
}
event!(OrderCancellationRequested, Order, v 1, order_id);

/// The order is undone and every compensation has been confirmed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OrderCancelled {
    /// The order.
    pub order_id: Uuid,
    /// Who ordered.
    pub customer: Customer,
    /// Why.
    pub reason: CancelReason,
    /// What was paid back, in minor units; 0 when nothing had been paid.
    pub refunded: i64,
    /// Currency of every amount of the order.
    pub currency: Currency,
}
event!(OrderCancelled, Order, v 1, order_id);

/// The parcel arrived: the order is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OrderCompleted {
    /// The order.
    pub order_id: Uuid,
    /// When the parcel arrived.
    pub completed_at: DateTime<Utc>,
    /// What was paid, in minor units.
    pub total: i64,
    /// Currency of every amount of the order.
    pub currency: Currency,
}
event!(OrderCompleted, Order, v 1, order_id);

/// The customer wants to send something back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OrderReturnRequested {
    /// The order.
    pub order_id: Uuid,
    /// The return.
    pub return_id: Uuid,
    /// What comes back.
    pub lines: Vec<Line>,
    /// In the customer's words.
    pub reason: String,
}
event!(OrderReturnRequested, Order, v 1, order_id);

/// A return was paid back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OrderRefunded {
    /// The order.
    pub order_id: Uuid,
    /// The return.
    pub return_id: Uuid,
    /// What was paid back, in minor units.
    pub amount: i64,
}
event!(OrderRefunded, Order, v 1, order_id);

/// Why an order was cancelled.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema, utoipa::ToSchema,
)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum CancelReason {
    /// Inventory could not reserve every line.
    OutOfStock,
    /// The gateway declined the payment.
    PaymentDeclined,
    /// The gateway gave no answer in time.
    PaymentTimedOut,
    /// The carrier cannot deliver it.
    ShippingFailed,
    /// The customer asked.
    RequestedByCustomer,
    /// It was not paid before `pay_by`.
    DeadlineExceeded,
}
