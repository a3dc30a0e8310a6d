//! The saga as people see it: each step, where it stands, and what undoes it.

use serde::Serialize;

use super::{Order, State};

/// Where a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
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
