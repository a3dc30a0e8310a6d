//! What the warehouse does with the events it hears.

use either::Either;
use events::{
    OrderCancellationRequested, OrderConfirmed, OrderReturnRequested, ShipmentCancelRejected, ShipmentCancelled,
    ShipmentScheduled,
};
use messaging::{Envelope, Reactions};

use crate::clients::Carrier;
use crate::domain::Warehouse;

/// The wiring: what is heard, and what is done about it.
pub fn reactions() -> Reactions<Warehouse> {
    Reactions::of("warehouse")
        .on::<OrderConfirmed>(schedule)
        .on::<OrderCancellationRequested>(call_off)
        .on_fact::<OrderReturnRequested>(announce)
}

/// Schedules the parcel of a paid order; nothing for an order that was called off before.
pub fn schedule(warehouse: &mut Warehouse, order: &OrderConfirmed) -> Option<ShipmentScheduled> {
    warehouse.schedule(order.order_id, Carrier::NAME, &order.lines, &order.ship_to)
}

/// Keeps the parcel in the house, or says that it is too late; an order not heard of yet is remembered.
pub fn call_off(
    warehouse: &mut Warehouse,
    order: &OrderCancellationRequested,
) -> Option<Either<ShipmentCancelled, ShipmentCancelRejected>> {
    warehouse.call_off(order.order_id)
}

/// Awaits the goods; what is said of them follows when somebody has looked at them.
pub fn announce(warehouse: &mut Warehouse, announced: &OrderReturnRequested, envelope: &Envelope) {
    warehouse.announce(announced, Some(envelope.event_id), &envelope.trace);
}
