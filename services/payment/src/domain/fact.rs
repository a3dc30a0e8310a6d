//! What can happen to a payment: the events that it is the fold of.

use chrono::{DateTime, Utc};
use events::{Currency, RefundCause};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Something that happened to a payment; never changed once written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
pub enum Fact {
    /// The goods are held: the amount is to be charged.
    Requested {
        /// In minor units.
        amount: i64,
        /// Currency of the amount.
        currency: Currency,
        /// The gateway's token.
        payment_method: String,
        /// When the charge is given up at the latest.
        expires_at: DateTime<Utc>,
    },
    /// The payment is to be undone, but what the gateway has done is not known yet.
    UndoRequested {
        /// Why.
        cause: RefundCause,
    },
    /// The gateway took the money.
    Captured {
        /// In minor units.
        amount: i64,
        /// What the gateway calls the payment.
        gateway_ref: String,
        /// How often the gateway had been asked.
        attempts: i32,
    },
    /// The gateway said no.
    Declined {
        /// Its word for why.
        code: String,
        /// How often the gateway had been asked.
        attempts: i32,
    },
    /// The gateway could not be brought to an answer in time.
    TimedOut {
        /// The last trouble.
        code: String,
        /// How often the gateway had been asked.
        attempts: i32,
        /// Whether the gateway may have charged all the same.
        unresolved: bool,
    },
    /// After the time-out the gateway answered at last: it took nothing.
    FoundUncharged {},
    /// Called off before any money was taken.
    Voided {
        /// Why.
        cause: RefundCause,
    },
    /// Nothing had been taken when it was to be undone; the order was told so.
    UndoAnswered {
        /// Why.
        cause: RefundCause,
    },
    /// The money is to go back.
    RefundRequested {
        /// The refund, also its first idempotency key.
        refund_id: Uuid,
        /// In minor units.
        amount: i64,
        /// Why.
        cause: RefundCause,
    },
    /// The money went back.
    Refunded {
        /// The refund.
        refund_id: Uuid,
        /// In minor units.
        amount: i64,
        /// What the gateway calls the refund.
        gateway_ref: String,
    },
    /// Goods came back: what they cost is to go back.
    ReturnRefundRequested {
        /// The refund, also its first idempotency key.
        refund_id: Uuid,
        /// The return.
        return_id: Uuid,
        /// In minor units.
        amount: i64,
    },
    /// What returned goods cost went back.
    ReturnRefunded {
        /// The refund.
        refund_id: Uuid,
        /// The return.
        return_id: Uuid,
        /// In minor units.
        amount: i64,
        /// What the gateway calls the refund; nothing when there was nothing to give back.
        gateway_ref: String,
    },
    /// The gateway will not give it back; an operator has to look.
    ReturnRefundRefused {
        /// The refund.
        refund_id: Uuid,
        /// The return.
        return_id: Uuid,
        /// Why, in a word.
        code: String,
    },
    /// An operator has looked; the gateway is asked again.
    ReturnRefundRetried {
        /// The refund.
        refund_id: Uuid,
        /// The return.
        return_id: Uuid,
    },
}
