//! The saga as people see it: each step, where it stands, what undoes it, and whether it is stuck.
//!
//! No order waits for ever without anybody knowing. Before it is paid its deadline resolves it, whatever event was
//! lost. Once it is being undone, every compensation is retried by whoever owes it. What neither resolves, such as
//! an `OrderConfirmed` that never reached the warehouse, makes the order one that *needs attention*: `/saga` says so,
//! `GET /v1/orders?needs_attention=true` lists it and `shop.sagas.stuck` counts it. An operator cancels it like a
//! customer would, which undoes it from wherever it stands until the parcel has left the house. A return whose goods
//! are back but whose refund never comes needs attention as well: payment's `/v1/refunds?state=REFUSED` is where to
//! look.

use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

use super::{Order, State};

/// What an order that is not done waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waits {
    /// Another service, which answers in moments unless something is broken.
    ForServices,
    /// A parcel that is being packed or carried, which takes days.
    ForTheParcel,
}

impl Waits {
    /// The word for it in tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ForServices => "SERVICES",
            Self::ForTheParcel => "PARCEL",
        }
    }
}

/// How long an order may stand still before a human has to look at it.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// While it waits for another service: overdue, confirmed but not scheduled, or being undone.
    pub services: Duration,
    /// While its parcel is packed and carried.
    pub parcel: Duration,
}

/// Where a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum StepState {
    /// Not taken yet.
    Waiting,
    /// Taken.
    Done,
    /// Refused, so there is nothing to undo.
    Failed,
    /// To be undone.
    Compensating,
    /// Undone, or confirmed never to have been done.
    Compensated,
    /// Will not be taken.
    Skipped,
}

/// One step of the saga.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Its name.
    pub name: &'static str,
    /// Where it stands.
    pub state: StepState,
    /// What undoes it.
    pub compensation: &'static str,
    /// The events, newest first, that can have brought it where it stands.
    pub told_by: &'static [&'static str],
}

impl Order {
    /// What it waits for; none once nothing is owed. An order that
    /// arrived still waits until inventory has sold its goods.
    pub fn waits(&self) -> Option<Waits> {
        match self.state() {
            State::Cancelled => None,
            // Goods that are back are owed a refund, which takes moments unless something is broken.
            State::Returning if self.owes_a_refund() => Some(Waits::ForServices),
            State::Returning => Some(Waits::ForTheParcel),
            State::Completed | State::Refunded => (!self.facts.committed).then_some(Waits::ForServices),
            State::Shipped => Some(Waits::ForTheParcel),
            State::Confirmed if self.facts.scheduled => Some(Waits::ForTheParcel),
            State::Pending | State::Reserved | State::Confirmed | State::Cancelling => Some(Waits::ForServices),
        }
    }

    /// The steps in the order in which they are taken; compensation runs the other way.
    pub fn steps(&self) -> [Step; 3] {
        let facts = &self.facts;
        let undoing = matches!(self.state(), State::Cancelling | State::Cancelled);
        let stand = |done: bool, failed: bool, undone: bool| match (failed, undone, undoing, done) {
            (true, ..) => StepState::Failed,
            (_, true, ..) => StepState::Compensated,
            (_, _, true, true) => StepState::Compensating,
            (_, _, true, false) if facts.cancelled.is_some() => StepState::Skipped,
            (_, _, true, false) => StepState::Compensating,
            (_, _, false, true) => StepState::Done,
            (_, _, false, false) => StepState::Waiting,
        };
        [
            Step {
                name: "reserve_stock",
                state: stand(facts.reserved, facts.rejected, facts.released),
                compensation: "release_stock",
                told_by: &["InventoryReleased", "InventoryRejected", "InventoryReserved"],
            },
            Step {
                name: "take_payment",
                state: stand(
                    facts.paid.is_some(),
                    facts.declined || facts.timed_out,
                    facts.refunded.is_some() || facts.voided,
                ),
                compensation: "refund_payment",
                told_by: &[
                    "PaymentRefunded",
                    "PaymentVoided",
                    "PaymentTimedOut",
                    "PaymentDeclined",
                    "PaymentSucceeded",
                ],
            },
            Step {
                name: "ship",
                state: stand(facts.shipped, facts.shipment_failed, facts.shipment_cancelled),
                compensation: "cancel_shipment",
                told_by: &[
                    "OrderDelivered",
                    "OrderShipped",
                    "ShipmentCancelled",
                    "ShipmentFailed",
                    "ShipmentScheduled",
                ],
            },
        ]
    }
}
