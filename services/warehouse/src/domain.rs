//! The rules of a shipment: a parcel leaves the house or is called off, never both.

mod returns;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use either::Either::{self, Left, Right};
use events::{
    Address, Line, OrderDelivered, OrderShipped, ShipmentCancelRejected, ShipmentCancelled, ShipmentFailed,
    ShipmentScheduled, derive_id,
};
use uuid::Uuid;

pub use returns::{Mismatch, Return, ReturnState};

/// What a batch touches.
#[derive(Debug, Default)]
pub struct Warehouse {
    /// Shipments by order, at most one each.
    pub shipments: BTreeMap<Uuid, Shipment>,
    /// Every return of these orders, by its id.
    pub returns: BTreeMap<Uuid, Return>,
}

/// What is known of an order's shipment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shipment {
    /// Where it stands.
    pub state: State,
    /// What is sent; none for a tombstone, an order that was called off before it was scheduled.
    pub parcel: Option<Parcel>,
    /// Whether somebody asked to cancel and was told the outcome.
    pub cancel_answered: bool,
    /// Counts its changes; 0 before it was first saved.
    pub version: i64,
    /// Whether this batch changed it.
    pub changed: bool,
}

/// What is sent, and where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parcel {
    /// The shipment's id.
    pub shipment_id: Uuid,
    /// Who carries it.
    pub carrier: String,
    /// The carrier's number; none before the parcel is handed over.
    pub tracking: Option<String>,
    /// What is in it.
    pub lines: Vec<Line>,
    /// Where it goes; personal data, forgotten as soon as the parcel is no longer scheduled.
    pub ship_to: Option<Address>,
}

/// Where a shipment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It is being picked and packed.
    Scheduled,
    /// It left the house.
    Dispatched,
    /// It arrived.
    Delivered,
    /// The carrier cannot deliver it, so it never left.
    Failed,
    /// It was called off before it left.
    Cancelled,
}

/// What the carrier says to a parcel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Handover {
    /// It takes the parcel.
    Accepted {
        /// The number it gave.
        tracking: String,
    },
    /// It never will.
    Refused {
        /// Its word for the reason, `undeliverable_address`.
        code: String,
    },
}

impl Warehouse {
    /// Schedules the parcel of an order; none when the order was scheduled or called off before.
    pub fn schedule(
        &mut self,
        order_id: Uuid,
        carrier: &str,
        lines: &[Line],
        ship_to: &Address,
    ) -> Option<ShipmentScheduled> {
        if self.shipments.contains_key(&order_id) {
            return None;
        }
        let shipment_id = derive_id(order_id, "shipment");
        let parcel = Parcel {
            shipment_id,
            carrier: carrier.to_owned(),
            tracking: None,
            lines: lines.to_vec(),
            ship_to: Some(ship_to.clone()),
        };
        self.shipments
            .insert(order_id, Shipment::new(State::Scheduled, Some(parcel)));
        Some(ShipmentScheduled {
            order_id,
            shipment_id,
            carrier: carrier.to_owned(),
            tracking: None,
            lines: lines.to_vec(),
        })
    }

    /// Calls the parcel off unless it left the house; the answer is given once, whoever asks again.
    pub fn call_off(&mut self, order_id: Uuid) -> Option<Either<ShipmentCancelled, ShipmentCancelRejected>> {
        let tombstone = || Shipment::new(State::Cancelled, None);
        let shipment = self.shipments.entry(order_id).or_insert_with(tombstone);
        if shipment.cancel_answered {
            return None;
        }
        shipment.cancel_answered = true;
        shipment.changed = true;
        let (state, shipment_id) = (
            shipment.state,
            shipment.parcel.as_ref().map(|parcel| parcel.shipment_id),
        );
        if let (State::Dispatched | State::Delivered, Some(shipment_id)) = (state, shipment_id) {
            return Some(Right(ShipmentCancelRejected {
                order_id,
                shipment_id,
                state: state.as_str().to_owned(),
            }));
        }
        self.advance(order_id, State::Scheduled, State::Cancelled);
        Some(Left(ShipmentCancelled {
            order_id,
            shipment_id,
            code: "order_cancelled".into(),
        }))
    }

    /// Acts on the carrier's answer; none when the parcel is no longer scheduled.
    pub fn settle(&mut self, order_id: Uuid, handover: &Handover) -> Option<Either<OrderShipped, ShipmentFailed>> {
        match handover {
            Handover::Accepted { tracking } => self.dispatch(order_id, tracking).map(Left),
            Handover::Refused { code } => self.fail(order_id, code).map(Right),
        }
    }

    /// The parcel left the house.
    fn dispatch(&mut self, order_id: Uuid, tracking: &str) -> Option<OrderShipped> {
        let parcel = self.advance(order_id, State::Scheduled, State::Dispatched)?;
        parcel.tracking = Some(tracking.to_owned());
        Some(OrderShipped {
            order_id,
            shipment_id: parcel.shipment_id,
            carrier: parcel.carrier.clone(),
            tracking: tracking.to_owned(),
            lines: parcel.lines.clone(),
        })
    }

    /// Gives up a parcel that is still in the house; none when it is no longer scheduled.
    pub fn fail(&mut self, order_id: Uuid, code: &str) -> Option<ShipmentFailed> {
        let parcel = self.advance(order_id, State::Scheduled, State::Failed)?;
        Some(ShipmentFailed {
            order_id,
            shipment_id: Some(parcel.shipment_id),
            code: code.to_owned(),
        })
    }

    /// The parcel arrived; none when it is not on its way.
    pub fn deliver(&mut self, order_id: Uuid, at: DateTime<Utc>) -> Option<OrderDelivered> {
        let tracking = self.shipments.get(&order_id)?.parcel.as_ref()?.tracking.clone()?;
        let parcel = self.advance(order_id, State::Dispatched, State::Delivered)?;
        Some(OrderDelivered {
            order_id,
            shipment_id: parcel.shipment_id,
            carrier: parcel.carrier.clone(),
            tracking,
            lines: parcel.lines.clone(),
            delivered_at: at,
        })
    }

    /// Moves a parcel on, and forgets where it goes; none, and nothing changed, when it is elsewhere.
    fn advance(&mut self, order_id: Uuid, from: State, to: State) -> Option<&mut Parcel> {
        let shipment = self.shipments.get_mut(&order_id)?;
        let parcel = shipment.parcel.as_mut().filter(|_| shipment.state == from)?;
        shipment.state = to;
        shipment.changed = true;
        parcel.ship_to = None;
        Some(parcel)
    }
}

impl Shipment {
    fn new(state: State, parcel: Option<Parcel>) -> Self {
        Self {
            state,
            parcel,
            cancel_answered: false,
            version: 0,
            changed: true,
        }
    }
}

impl State {
    /// The word for it in tables, events and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "SCHEDULED",
            Self::Dispatched => "DISPATCHED",
            Self::Delivered => "DELIVERED",
            Self::Failed => "FAILED",
            Self::Cancelled => "CANCELLED",
        }
    }
}

#[cfg(test)]
#[path = "domain/tests.rs"]
mod tests;
