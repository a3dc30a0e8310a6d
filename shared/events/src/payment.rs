//! What the payment service tells.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    Currency,
    contract::{Published, published},
    event::event,
};

/// Every event of this module.
pub(crate) const EVENTS: &[Published] = published![
    PaymentSucceeded,
    PaymentDeclined,
    PaymentTimedOut,
    PaymentRefunded,
    PaymentVoided,
];

/// The money was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PaymentSucceeded {
    /// The order.
    pub order_id: Uuid,
    /// The payment.
    pub payment_id: Uuid,
    /// What was taken, in minor units.
    pub amount: i64,
    /// Currency of the amount.
    pub currency: Currency,
    /// What the gateway calls it.
    pub gateway_ref: String,
}
event!(PaymentSucceeded, Payment, v 1, order_id);

/// The gateway said no; nothing was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PaymentDeclined {
    /// The order.
    pub order_id: Uuid,
    /// The payment.
    pub payment_id: Uuid,
    /// The gateway's word, `insufficient_funds`.
    pub code: String,
    /// How often the gateway was asked.
    pub attempts: i32,
}
event!(PaymentDeclined, Payment, v 1, order_id);

/// The gateway could not be brought to an answer in time; should it have charged, that is refunded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PaymentTimedOut {
    /// The order.
    pub order_id: Uuid,
    /// The payment.
    pub payment_id: Uuid,
    /// The last trouble, `gateway_unavailable`.
    pub code: String,
    /// How often the gateway was asked.
    pub attempts: i32,
}
event!(PaymentTimedOut, Payment, v 1, order_id);

/// Money was paid back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PaymentRefunded {
    /// The order.
    pub order_id: Uuid,
    /// The payment.
    pub payment_id: Uuid,
    /// The refund.
    pub refund_id: Uuid,
    /// What was paid back, in minor units.
    pub amount: i64,
    /// Why.
    pub cause: RefundCause,
    /// The return that it is for; none when the whole order was undone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub return_id: Option<Uuid>,
}
event!(PaymentRefunded, Payment, v 1, order_id);

/// The payment was called off before any money was taken; it never will be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PaymentVoided {
    /// The order.
    pub order_id: Uuid,
    /// The payment.
    pub payment_id: Uuid,
    /// Always none: nothing was taken, so nothing is paid back.
    pub refund_id: Option<Uuid>,
    /// Always 0, in minor units.
    pub amount: i64,
    /// Why.
    pub cause: RefundCause,
}
event!(PaymentVoided, Payment, v 1, order_id);

/// Why money was paid back, or a payment called off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RefundCause {
    /// The carrier cannot deliver the order.
    ShippingFailed,
    /// The order was cancelled before it was shipped.
    OrderCancelled,
    /// The gateway charged although the payment had been given up.
    ChargedTooLate,
    /// Goods came back.
    GoodsReturned,
}
