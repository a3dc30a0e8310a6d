//! What payment does with the events it hears.

use events::{
    Fault, InventoryReserved, PaymentDeclined, PaymentRefunded, PaymentVoided, ReturnReceived, ShipmentCancelled,
    ShipmentFailed,
};
use messaging::{Envelope, Reactions};

use crate::domain::{Asked, Payments};

/// The wiring: what is heard, and what is done about it.
pub fn reactions() -> Reactions<Payments> {
    Reactions::of("payment")
        .on::<InventoryReserved>(request)
        .on::<ShipmentFailed>(pay_back)
        .on::<ShipmentCancelled>(undo)
        .on_fact::<ReturnReceived>(refund_return)
}

/// Puts the charge on the list of errands; nothing is told before the gateway has answered.
pub fn request(payments: &mut Payments, order: &InventoryReserved) -> Result<Option<PaymentDeclined>, Fault> {
    payments.request(order)
}

/// Pays back an order that cannot be delivered.
pub fn pay_back(payments: &mut Payments, shipment: &ShipmentFailed) -> Result<(), Fault> {
    payments.pay_back(shipment.order_id)
}

/// Undoes the payment of a cancelled order, and says at once if it took nothing.
pub fn undo(payments: &mut Payments, shipment: &ShipmentCancelled) -> Option<PaymentVoided> {
    payments.undo(shipment.order_id)
}

/// Puts the refund of a return on the list of errands, and says at once if there is nothing to give back.
pub fn refund_return(
    payments: &mut Payments,
    returned: &ReturnReceived,
    envelope: &Envelope,
) -> Result<Option<PaymentRefunded>, Fault> {
    let asked = Asked {
        event_id: Some(envelope.event_id),
        trace: envelope.trace.clone(),
    };
    payments.refund_return(returned, asked)
}
