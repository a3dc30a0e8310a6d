//! The rules of an order. Its state is a function of the set of facts it has seen, so that whatever
//! order they arrive in, and however often, it ends the same.

mod history;
mod placing;
mod returns;
mod saga;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use events::{
    Address, CancelReason, Customer, Line, OrderCancellationRequested, OrderCancelled, OrderCompleted, OrderConfirmed,
    OrderPlaced, OrderRefunded,
};
use serde::{Deserialize, Serialize};
use telemetry::TraceContext;
use utoipa::ToSchema;
use uuid::Uuid;

pub use history::{History, StateChange};
pub use placing::{Offer, Priced, Refused, StockCheck, Wish, WishedLine};
pub use returns::{Return, ReturnLine, ReturnState, ReturnWish, Returning};
pub use saga::{Patience, Step, StepState, Waits};

/// The orders that a batch touches, and what else the service knows.
#[derive(Debug)]
pub struct Orders {
    /// When the batch began, by the database's clock.
    pub now: DateTime<Utc>,
    /// Orders by id.
    pub orders: BTreeMap<Uuid, Order>,
    /// What was answered under the idempotency keys of the batch.
    pub answers: BTreeMap<String, Answer>,
    /// News about the catalogue, by sku.
    pub offers: BTreeMap<String, Offer>,
}

/// An answer that a client can ask for again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// A hash of the request that it answers.
    pub fingerprint: Uuid,
    /// The order that was placed.
    pub order_id: Uuid,
    /// The status.
    pub status: u16,
    /// The body.
    pub body: String,
    /// Whether this batch gave it.
    pub fresh: bool,
}

/// An order and every fact it has seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Its id.
    pub id: Uuid,
    /// Who ordered.
    pub customer: Customer,
    /// What was ordered, at the prices promised.
    pub lines: Vec<Line>,
    /// Sum of the lines in minor units.
    pub total: i64,
    /// Currency of every amount.
    pub currency: String,
    /// Where it goes.
    pub ship_to: Address,
    /// Token of the payment method.
    pub payment_method: String,
    /// Whether inventory was asked before the order was accepted.
    pub stock_check: StockCheck,
    /// When it is given up unless it has been paid.
    pub pay_by: DateTime<Utc>,
    /// What happened to it.
    pub facts: Facts,
    /// What is known of its returns, by return.
    pub returns: BTreeMap<Uuid, Return>,
    /// Counts the changes; the entity tag.
    pub version: i64,
    /// The version that is in the database; 0 for a new order.
    pub saved_version: i64,
    /// The states it has been in, as far as they are not saved yet.
    pub history: History,
    /// The request that placed it.
    pub trace: TraceContext,
    /// When it was placed.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
}

/// What happened to an order: what others told us, and what we said ourselves.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    /// Inventory holds every line.
    pub reserved: bool,
    /// Inventory could not.
    pub rejected: bool,
    /// The payment that was taken.
    pub paid: Option<Uuid>,
    /// The gateway said no.
    pub declined: bool,
    /// The gateway said nothing in time.
    pub timed_out: bool,
    /// What was paid back because the order is undone, in minor units.
    pub refunded: Option<i64>,
    /// The payment was called off before money was taken.
    pub voided: bool,
    /// Inventory holds nothing any more.
    pub released: bool,
    /// The goods are sold.
    pub committed: bool,
    /// The parcel is being packed.
    pub scheduled: bool,
    /// The parcel left the house.
    pub shipped: bool,
    /// When the parcel arrived.
    pub delivered: Option<DateTime<Utc>>,
    /// The carrier cannot deliver.
    pub shipment_failed: bool,
    /// The parcel will not be sent.
    pub shipment_cancelled: bool,
    /// The parcel could not be stopped.
    pub cancel_rejected: bool,
    /// We said that it may be shipped.
    pub confirmed: bool,
    /// We asked for it to be undone.
    pub cancel_requested: Option<CancelReason>,
    /// We said that it is undone.
    pub cancelled: Option<CancelReason>,
    /// We said that it is done.
    pub completed: bool,
}

/// Where an order stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum State {
    /// Accepted; nothing is reserved yet.
    Pending,
    /// Every line is held.
    Reserved,
    /// Paid; may be shipped.
    Confirmed,
    /// The parcel is on its way.
    Shipped,
    /// The parcel arrived.
    Completed,
    /// Being undone, step by step.
    Cancelling,
    /// Undone; every compensation is confirmed.
    Cancelled,
    /// Arrived; goods are being sent back, or to be paid back.
    Returning,
    /// Arrived and sent back: everything that was paid went back.
    Refunded,
}

impl State {
    /// The word for it in tables and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Reserved => "RESERVED",
            Self::Confirmed => "CONFIRMED",
            Self::Shipped => "SHIPPED",
            Self::Completed => "COMPLETED",
            Self::Cancelling => "CANCELLING",
            Self::Cancelled => "CANCELLED",
            Self::Returning => "RETURNING",
            Self::Refunded => "REFUNDED",
        }
    }

    /// Whether nothing will change any more, unless the customer sends something back.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Cancelled | Self::Refunded)
    }

    /// Whether the order may still become overdue.
    pub fn awaits_payment(self) -> bool {
        matches!(self, Self::Pending | Self::Reserved)
    }
}

/// What an order says when a fact completes a step: each at most once in its life, or in the life of a return.
pub type FollowUp = (
    Option<OrderConfirmed>,
    (Option<OrderCompleted>, (Option<OrderCancelled>, Option<OrderRefunded>)),
);

/// How a wish to cancel is met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancellation {
    /// The participants are being asked to undo what they did.
    UnderWay,
    /// It was cancelled before.
    AlreadyDone,
    /// The parcel is gone: only a return can help.
    TooLate(State),
}

impl Order {
    /// Where the order stands, given the facts.
    pub fn state(&self) -> State {
        let facts = &self.facts;
        if facts.cancelled.is_some() {
            State::Cancelled
        } else if facts.delivered.is_some() {
            self.delivered_state()
        } else if self.cause().is_some() {
            State::Cancelling
        } else if facts.shipped {
            State::Shipped
        } else if facts.confirmed {
            State::Confirmed
        } else if facts.reserved {
            State::Reserved
        } else {
            State::Pending
        }
    }

    /// Why it is cancelled, or being cancelled.
    pub fn reason(&self) -> Option<CancelReason> {
        self.facts.cancelled.or_else(|| self.cause())
    }

    /// Folds a fact in and says what follows; a fact that is known already changes and says nothing.
    pub fn learn(&mut self, fact: impl FnOnce(&mut Facts)) -> FollowUp {
        let before = self.facts.clone();
        fact(&mut self.facts);
        if self.facts == before {
            return Self::nothing();
        }
        self.version += 1;
        let follow_up = (self.confirm(), (self.complete(), (self.cancel(), None)));
        self.note_state();
        follow_up
    }

    fn nothing() -> FollowUp {
        (None, (None, (None, None)))
    }

    /// Asks for the order to be undone, as long as the parcel has not left the house.
    pub fn request_cancellation(
        &mut self,
        reason: CancelReason,
        requested_by: &str,
    ) -> (Cancellation, Option<OrderCancellationRequested>) {
        match self.state() {
            State::Cancelled => (Cancellation::AlreadyDone, None),
            State::Cancelling => (Cancellation::UnderWay, None),
            state @ (State::Shipped | State::Completed | State::Returning | State::Refunded) => {
                (Cancellation::TooLate(state), None)
            }
            State::Pending | State::Reserved | State::Confirmed => {
                self.facts.cancel_requested = Some(reason);
                self.version += 1;
                let requested_by = requested_by.to_owned();
                (
                    Cancellation::UnderWay,
                    Some(OrderCancellationRequested {
                        order_id: self.id,
                        reason,
                        requested_by,
                    }),
                )
            }
        }
    }

    /// The event that starts the saga.
    pub fn placed(&self) -> OrderPlaced {
        OrderPlaced {
            order_id: self.id,
            customer: self.customer.clone(),
            lines: self.lines.clone(),
            total: self.total,
            currency: self.currency.clone(),
            ship_to: self.ship_to.clone(),
            payment_method: self.payment_method.clone(),
            pay_by: self.pay_by,
        }
    }

    /// What makes the order fail, if anything; a wish that came too late does not count.
    fn cause(&self) -> Option<CancelReason> {
        let facts = &self.facts;
        let too_late = facts.shipped || facts.cancel_rejected;
        let failures = [
            (facts.rejected, CancelReason::OutOfStock),
            (facts.declined, CancelReason::PaymentDeclined),
            (facts.timed_out, CancelReason::PaymentTimedOut),
            (facts.shipment_failed, CancelReason::ShippingFailed),
        ];
        let failed = || {
            failures
                .into_iter()
                .find(|(happened, _)| *happened)
                .map(|(_, reason)| reason)
        };
        facts.cancel_requested.filter(|_| !too_late).or_else(failed)
    }

    /// Whether every step that was taken has been confirmed undone.
    fn is_undone(&self, cause: CancelReason) -> bool {
        let facts = &self.facts;
        let paid_back = facts.refunded.is_some() || facts.voided;
        match cause {
            CancelReason::OutOfStock => true,
            CancelReason::PaymentDeclined | CancelReason::PaymentTimedOut => facts.released,
            CancelReason::ShippingFailed => paid_back && facts.released,
            CancelReason::RequestedByCustomer | CancelReason::DeadlineExceeded => {
                facts.shipment_cancelled && paid_back && facts.released
            }
        }
    }

    fn confirm(&mut self) -> Option<OrderConfirmed> {
        let payment_id = self.facts.paid?;
        if self.facts.confirmed || self.facts.cancel_requested.is_some() {
            return None;
        }
        self.facts.confirmed = true;
        Some(OrderConfirmed {
            order_id: self.id,
            customer: self.customer.clone(),
            lines: self.lines.clone(),
            ship_to: self.ship_to.clone(),
            payment_id,
            total: self.total,
            currency: self.currency.clone(),
        })
    }

    fn complete(&mut self) -> Option<OrderCompleted> {
        let completed_at = self.facts.delivered?;
        if self.facts.completed {
            return None;
        }
        self.facts.completed = true;
        Some(OrderCompleted {
            order_id: self.id,
            completed_at,
            total: self.total,
            currency: self.currency.clone(),
        })
    }

    fn cancel(&mut self) -> Option<OrderCancelled> {
        let reason = self.cause()?;
        if self.facts.cancelled.is_some() || !self.is_undone(reason) {
            return None;
        }
        self.facts.cancelled = Some(reason);
        Some(OrderCancelled {
            order_id: self.id,
            customer: self.customer.clone(),
            reason,
            refunded: self.facts.refunded.unwrap_or(0),
            currency: self.currency.clone(),
        })
    }
}

#[cfg(test)]
#[path = "domain/tests.rs"]
mod tests;
