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
