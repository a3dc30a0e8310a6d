//! What payment does with the events it hears.

use events::{Fault, InventoryReserved, PaymentDeclined, PaymentVoided, ShipmentCancelled, ShipmentFailed};
use messaging::Reactions;

use crate::domain::Payments;

/// The wiring: what is heard, and what is done about it.
pub fn reactions() -> Reactions<Payments> {
    Reactions::of("payment")
        .on::<InventoryReserved>(request)
        .on::<ShipmentFailed>(pay_back)
        .on::<ShipmentCancelled>(undo)
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
