//! What email does with the events it hears.

use events::{OrderCancelled, OrderConfirmed, OrderPlaced, OrderShipped};
use messaging::Reactions;

use crate::domain::{Content, Mailroom, Recipient};

/// The wiring: what is heard, and what is done about it. Nothing follows at once; messages wait for the errand.
pub fn reactions() -> Reactions<Mailroom> {
    Reactions::of("email")
        .on::<OrderPlaced>(remember)
        .on::<OrderConfirmed>(confirm)
        .on::<OrderShipped>(announce)
        .on::<OrderCancelled>(explain)
}

/// Remembers whom to write to; an order that was only placed gets no message.
pub fn remember(mailroom: &mut Mailroom, order: &OrderPlaced) {
    let recipient = Recipient {
        customer: order.customer.clone(),
        lines: order.lines.clone(),
        total: order.total,
        currency: order.currency.clone(),
    };
    mailroom.remember(order.order_id, recipient);
}

/// Confirms a paid order.
pub fn confirm(mailroom: &mut Mailroom, order: &OrderConfirmed) {
    mailroom.notify(order.order_id, Content::OrderConfirmed);
}

/// Announces the parcel.
pub fn announce(mailroom: &mut Mailroom, parcel: &OrderShipped) {
    let content = Content::OrderShipped {
        carrier: parcel.carrier.clone(),
        tracking: parcel.tracking.clone(),
    };
    mailroom.notify(parcel.order_id, content);
}

/// Says why an order ended, and what was paid back.
pub fn explain(mailroom: &mut Mailroom, order: &OrderCancelled) {
    let content = Content::OrderCancelled {
        reason: order.reason,
        refunded: order.refunded,
    };
    mailroom.notify(order.order_id, content);
}
