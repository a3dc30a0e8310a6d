//! What inventory does with the events it hears.

use either::Either::{self, Left, Right};
use events::{
    Event, Fault, InventoryCommitted, InventoryRejected, InventoryReleased, InventoryReserved, InventoryRestocked,
    OrderPlaced, OrderShipped, PaymentDeclined, PaymentRefunded, PaymentTimedOut, PaymentVoided, RefundCause,
    ReturnReceived, Subject,
};
use messaging::Reactions;

use crate::domain::{Hold, Stock};

/// The wiring: what is heard, and what is done about it.
pub fn reactions() -> Reactions<Stock> {
    Reactions::of("inventory")
        .on::<OrderPlaced>(reserve)
        .on::<PaymentDeclined>(release)
        .on::<PaymentTimedOut>(release)
        .on::<PaymentVoided>(release)
        .on::<PaymentRefunded>(release_refunded)
        .on::<OrderShipped>(commit)
        .on::<ReturnReceived>(restock)
}

/// Holds every line of the order, or none of them; nothing for an order that was undone before.
pub fn reserve(stock: &mut Stock, order: &OrderPlaced) -> Option<Either<InventoryReserved, InventoryRejected>> {
    match stock.hold(order.order_id, &order.lines) {
        Hold::Held(reservation_id) => Some(Left(InventoryReserved {
            order_id: order.order_id,
            reservation_id,
            lines: order.lines.clone(),
            amount: order.total,
            currency: order.currency.clone(),
            payment_method: order.payment_method.clone(),
            customer: order.customer.clone(),
            expires_at: order.pay_by,
        })),
        Hold::Short(shortages) => Some(Right(InventoryRejected {
            order_id: order.order_id,
            shortages,
        })),
        Hold::KnownAlready => None,
    }
}

/// Frees what the order held, and says so once; an order not heard of yet is remembered as undone.
pub fn release<E: Event>(stock: &mut Stock, undone: &E) -> Option<InventoryReleased> {
    let Subject::Order(order_id) = undone.subject() else {
        return None;
    };
    let reservation_id = stock.release(order_id)?;
    Some(InventoryReleased {
        order_id,
        reservation_id,
        cause: E::TYPE.name.to_owned(),
    })
}

/// Frees what an undone order held; goods that were sent and come back are not held any more.
pub fn release_refunded(stock: &mut Stock, refunded: &PaymentRefunded) -> Option<InventoryReleased> {
    (refunded.cause != RefundCause::GoodsReturned).then(|| release(stock, refunded))?
}

/// Puts on the shelf what came back and can be sold again, and says so even if that is nothing.
pub fn restock(stock: &mut Stock, returned: &ReturnReceived) -> Result<Option<InventoryRestocked>, Fault> {
    let lines = stock.restock(returned)?;
    Ok(lines.map(|lines| InventoryRestocked {
        order_id: returned.order_id,
        lines,
        return_id: Some(returned.return_id),
    }))
}

/// The held pieces left the house.
pub fn commit(stock: &mut Stock, shipped: &OrderShipped) -> Result<Option<InventoryCommitted>, Fault> {
    let lines = stock.commit(shipped.order_id)?;
    Ok(lines.map(|lines| InventoryCommitted {
        order_id: shipped.order_id,
        lines,
    }))
}
