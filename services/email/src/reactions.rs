//! What email does with the events it hears.

use events::{
    OrderCancelled, OrderConfirmed, OrderPlaced, OrderRefunded, OrderReturnRequested, OrderShipped, ReturnRejected,
};
use messaging::{Envelope, Reactions};

use crate::domain::{Asked, Content, Mailroom, Recipient};

/// The wiring: what is heard, and what is done about it. Nothing follows at once; messages wait for the errand.
pub fn reactions() -> Reactions<Mailroom> {
    Reactions::of("email")
        .on::<OrderPlaced>(remember)
        .on::<OrderConfirmed>(confirm)
        .on::<OrderShipped>(announce)
        .on::<OrderCancelled>(explain)
        .on_fact::<OrderReturnRequested>(expect_back)
        .on_fact::<OrderRefunded>(pay_back)
        .on_fact::<ReturnRejected>(reject)
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

/// Says what is expected back.
pub fn expect_back(mailroom: &mut Mailroom, announced: &OrderReturnRequested, envelope: &Envelope) {
    let content = Content::OrderReturnRequested {
        return_id: announced.return_id,
        lines: announced.lines.clone(),
    };
    mailroom.notify_of(announced.order_id, content, Some(asked(envelope)));
}

/// Says what was paid back.
pub fn pay_back(mailroom: &mut Mailroom, refunded: &OrderRefunded, envelope: &Envelope) {
    let content = Content::OrderRefunded {
        return_id: refunded.return_id,
        amount: refunded.amount,
    };
    mailroom.notify_of(refunded.order_id, content, Some(asked(envelope)));
}

/// Says that nothing is paid back.
pub fn reject(mailroom: &mut Mailroom, rejected: &ReturnRejected, envelope: &Envelope) {
    let content = Content::ReturnRejected {
        return_id: rejected.return_id,
    };
    mailroom.notify_of(rejected.order_id, content, Some(asked(envelope)));
}

fn asked(envelope: &Envelope) -> Asked {
    Asked {
        event_id: envelope.event_id,
        trace: envelope.trace.clone(),
    }
}
