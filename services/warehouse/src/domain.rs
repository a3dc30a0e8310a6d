//! The rules of a shipment: a parcel leaves the house or is called off, never both.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use either::Either::{self, Left, Right};
use events::{
    Address, Line, OrderDelivered, OrderShipped, ShipmentCancelRejected, ShipmentCancelled, ShipmentFailed,
    ShipmentScheduled, derive_id,
};
use uuid::Uuid;

/// The shipments that a batch touches, by order.
#[derive(Debug, Default)]
pub struct Warehouse {
    /// At most one an order.
    pub shipments: BTreeMap<Uuid, Shipment>,
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
mod tests {
    #![allow(clippy::unwrap_used)]
    use events::Emits;
    use proptest::prelude::*;

    use super::*;

    fn lines() -> Vec<Line> {
        vec![Line {
            sku: "tea".into(),
            name: "Tea".into(),
            quantity: 2,
            unit_price: 500,
        }]
    }

    fn address() -> Address {
        Address {
            name: "A. Buyer".into(),
            street: "1 High Street".into(),
            city: "Town".into(),
            postal_code: "12345".into(),
            country: "DE".into(),
        }
    }

    fn accepted() -> Handover {
        Handover::Accepted { tracking: "SP1".into() }
    }

    fn refused() -> Handover {
        Handover::Refused {
            code: "undeliverable_address".into(),
        }
    }

    /// A warehouse with one order that was confirmed.
    fn scheduled() -> (Warehouse, Uuid) {
        let (mut warehouse, order) = (Warehouse::default(), Uuid::now_v7());
        warehouse.schedule(order, "carrier", &lines(), &address()).unwrap();
        (warehouse, order)
    }

    fn state(warehouse: &Warehouse, order: Uuid) -> State {
        warehouse.shipments[&order].state
    }

    #[test]
    fn a_parcel_is_scheduled_sent_and_delivered_once() {
        let (mut warehouse, order) = scheduled();
        assert_eq!(warehouse.schedule(order, "carrier", &lines(), &address()), None);
        assert_eq!(warehouse.deliver(order, DateTime::UNIX_EPOCH), None);
        let shipped = warehouse.settle(order, &accepted()).unwrap().left().unwrap();
        assert_eq!((shipped.tracking.as_str(), shipped.lines), ("SP1", lines()));
        assert_eq!(warehouse.settle(order, &accepted()), None);
        let delivered = warehouse.deliver(order, DateTime::UNIX_EPOCH).unwrap();
        assert_eq!((delivered.tracking.as_str(), delivered.lines), ("SP1", lines()));
        assert_eq!(warehouse.deliver(order, DateTime::UNIX_EPOCH), None);
        assert_eq!(state(&warehouse, order), State::Delivered);
    }

    #[test]
    fn an_order_called_off_before_it_was_confirmed_is_never_scheduled() {
        let (mut warehouse, order) = (Warehouse::default(), Uuid::now_v7());
        let cancelled = warehouse.call_off(order).unwrap().left().unwrap();
        assert_eq!(cancelled.shipment_id, None);
        assert_eq!(warehouse.schedule(order, "carrier", &lines(), &address()), None);
        assert_eq!(warehouse.settle(order, &accepted()), None);
        assert_eq!(warehouse.shipments[&order].parcel, None);
    }

    #[test]
    fn a_parcel_called_off_while_the_carrier_is_asked_stays_in_the_house() {
        let (mut warehouse, order) = scheduled();
        let cancelled = warehouse.call_off(order).unwrap().left().unwrap();
        assert_eq!(cancelled.shipment_id, Some(derive_id(order, "shipment")));
        assert_eq!(warehouse.settle(order, &accepted()), None);
        assert_eq!(warehouse.settle(order, &refused()), None);
        assert_eq!(state(&warehouse, order), State::Cancelled);
    }

    #[test]
    fn a_parcel_that_left_cannot_be_called_off_and_that_is_said_once() {
        let (mut warehouse, order) = scheduled();
        warehouse.settle(order, &accepted());
        let rejected = warehouse.call_off(order).unwrap().right().unwrap();
        assert_eq!(rejected.state, "DISPATCHED");
        assert!(warehouse.deliver(order, DateTime::UNIX_EPOCH).is_some());
        assert_eq!(warehouse.call_off(order), None);
    }

    #[test]
    fn a_parcel_that_arrived_cannot_be_called_off() {
        let (mut warehouse, order) = scheduled();
        warehouse.settle(order, &accepted());
        warehouse.deliver(order, DateTime::UNIX_EPOCH);
        assert_eq!(warehouse.call_off(order).unwrap().right().unwrap().state, "DELIVERED");
        assert_eq!(state(&warehouse, order), State::Delivered);
    }

    #[test]
    fn calling_off_a_failed_shipment_is_answered_once_and_leaves_it_failed() {
        let (mut warehouse, order) = scheduled();
        let failed = warehouse.settle(order, &refused()).unwrap().right().unwrap();
        assert_eq!(failed.code, "undeliverable_address");
        assert!(warehouse.call_off(order).unwrap().is_left());
        assert_eq!(warehouse.call_off(order), None);
        assert_eq!(state(&warehouse, order), State::Failed);
    }

    /// What may be heard, done by hand, or come back from the carrier, in any order.
    #[derive(Debug, Clone, Copy)]
    enum Happening {
        Confirmed,
        CancelRequested,
        CarrierAccepts,
        CarrierRefuses,
        Arrived,
    }

    use Happening::{Arrived, CancelRequested, CarrierAccepts, CarrierRefuses, Confirmed};

    /// Lets it happen; the name of the event that follows.
    fn play(warehouse: &mut Warehouse, order: Uuid, happening: Happening) -> Option<&'static str> {
        let told = match happening {
            Confirmed => warehouse.schedule(order, "carrier", &lines(), &address()).into_drafts(),
            CancelRequested => warehouse.call_off(order).into_drafts(),
            CarrierAccepts => warehouse.settle(order, &accepted()).into_drafts(),
            CarrierRefuses => warehouse.settle(order, &refused()).into_drafts(),
            Arrived => warehouse.deliver(order, DateTime::UNIX_EPOCH).into_drafts(),
        };
        told.unwrap().pop().map(|draft| draft.event_type.name)
    }

    fn count(told: &[&str], name: &str) -> usize {
        told.iter().filter(|told| **told == name).count()
    }

    proptest! {
        /// Whatever happens in whatever order and however often: sent or called off, and said once.
        #[test]
        fn never_both_sent_and_called_off(happenings in prop::collection::vec(
            prop::sample::select(vec![Confirmed, CancelRequested, CarrierAccepts, CarrierRefuses, Arrived]), 0..24,
        )) {
            let (mut warehouse, order, mut told) = (Warehouse::default(), Uuid::now_v7(), Vec::new());
            for happening in &happenings {
                told.extend(play(&mut warehouse, order, *happening));
                if let Some(Shipment { state, parcel: Some(parcel), .. }) = warehouse.shipments.get(&order) {
                    prop_assert_eq!(parcel.ship_to.is_some(), *state == State::Scheduled);
                    prop_assert_eq!(parcel.tracking.is_some(), matches!(state, State::Dispatched | State::Delivered));
                }
            }
            let of = |name: &str| count(&told, name);
            let asked = happenings.iter().any(|happening| matches!(happening, CancelRequested));
            prop_assert_eq!(of("ShipmentCancelled") + of("ShipmentCancelRejected"), usize::from(asked));
            prop_assert!(of("ShipmentScheduled") <= 1);
            prop_assert!(of("OrderShipped") + of("ShipmentFailed") <= of("ShipmentScheduled"));
            prop_assert!(of("OrderShipped") + of("ShipmentCancelled") <= 1, "sent and called off: {told:?}");
            prop_assert!(of("ShipmentCancelRejected") <= of("OrderShipped"));
            prop_assert!(of("OrderDelivered") <= of("OrderShipped"));
        }

        /// Confirmed and called off, with nothing done between: whichever is heard first, it stays here.
        #[test]
        fn any_order_of_confirming_and_calling_off_ends_the_same(
            heard in Just(vec![Confirmed, Confirmed, CancelRequested, CancelRequested]).prop_shuffle(),
        ) {
            let (mut warehouse, order) = (Warehouse::default(), Uuid::now_v7());
            let happenings = heard.into_iter().chain([CarrierAccepts, Arrived]);
            let told: Vec<_> = happenings.filter_map(|happening| play(&mut warehouse, order, happening)).collect();
            prop_assert_eq!((count(&told, "ShipmentCancelled"), count(&told, "OrderShipped")), (1, 0));
            prop_assert_eq!(state(&warehouse, order), State::Cancelled);
        }
    }
}
