//! What the order service does with the events it hears: each is a fact about one order.

use events::{
    Event, Fault, InventoryCommitted, InventoryRejected, InventoryReleased, InventoryReserved, InventoryRestocked,
    NotificationFailed, NotificationSent, OrderDelivered, OrderShipped, PaymentDeclined, PaymentRefunded,
    PaymentSucceeded, PaymentTimedOut, PaymentVoided, ProductListed, ProductPriceChanged, ReturnReceived,
    ReturnRejected, ShipmentCancelRejected, ShipmentCancelled, ShipmentFailed, ShipmentScheduled, StockLevelChanged,
    Subject,
};
use messaging::{Envelope, Reactions};
use uuid::Uuid;

use crate::domain::{Facts, FollowUp, Offer, Order, Orders, Return};

/// The wiring: what is heard, and which fact it is.
pub fn reactions() -> Reactions<Orders> {
    Reactions::of("order")
        .on::<InventoryReserved>(fact(|facts, _| facts.reserved = true))
        .on::<InventoryRejected>(fact(|facts, _| facts.rejected = true))
        .on::<InventoryReleased>(fact(|facts, _| facts.released = true))
        .on::<InventoryCommitted>(fact(|facts, _| facts.committed = true))
        .on::<PaymentSucceeded>(fact(|facts, paid: &PaymentSucceeded| {
            facts.paid = Some(paid.payment_id)
        }))
        .on::<PaymentDeclined>(fact(|facts, _| facts.declined = true))
        .on::<PaymentTimedOut>(fact(|facts, _| facts.timed_out = true))
        .on_fact::<PaymentRefunded>(paid_back)
        .on::<PaymentVoided>(fact(|facts, _| facts.voided = true))
        .on::<ShipmentScheduled>(fact(|facts, _| facts.scheduled = true))
        .on::<OrderShipped>(fact(|facts, _| facts.shipped = true))
        .on::<OrderDelivered>(fact(|facts, parcel: &OrderDelivered| {
            facts.delivered = Some(parcel.delivered_at)
        }))
        .on::<ShipmentFailed>(fact(|facts, _| facts.shipment_failed = true))
        .on::<ShipmentCancelled>(fact(|facts, _| facts.shipment_cancelled = true))
        .on::<ShipmentCancelRejected>(fact(|facts, _| facts.cancel_rejected = true))
        .on_fact::<ReturnReceived>(received)
        .on_fact::<ReturnRejected>(rejected)
        .on_fact::<InventoryRestocked>(restocked)
        .on::<NotificationSent>(note)
        .on::<NotificationFailed>(note)
        .on::<ProductListed>(listed)
        .on::<ProductPriceChanged>(price_changed)
        .on::<StockLevelChanged>(level_changed)
}

/// A reaction that folds one fact into its order, and says what follows from all that is known then.
fn fact<E: Event>(fold: fn(&mut Facts, &E)) -> impl Fn(&mut Orders, &E) -> Result<FollowUp, Fault> + Clone {
    move |orders, event| {
        let Subject::Order(id) = event.subject() else {
            return Err(Fault::new("not about an order"));
        };
        Ok(order(orders, id)?.learn(|facts| fold(facts, event)))
    }
}

fn order(orders: &mut Orders, id: Uuid) -> Result<&mut Order, Fault> {
    let known = orders.orders.get_mut(&id);
    known.ok_or_else(|| Fault::new("there is no such order"))
}

/// Money went back: for a return, or because the order is undone.
fn paid_back(orders: &mut Orders, back: &PaymentRefunded, envelope: &Envelope) -> Result<FollowUp, Fault> {
    let order = order(orders, back.order_id)?;
    match back.return_id {
        Some(return_id) => order.learn_of_return(return_id, |known: &mut Return| {
            known.refunded.get_or_insert((envelope.occurred_at, back.amount));
        }),
        None => Ok(order.learn(|facts| facts.refunded = Some(back.amount))),
    }
}

fn received(orders: &mut Orders, back: &ReturnReceived, envelope: &Envelope) -> Result<FollowUp, Fault> {
    order(orders, back.order_id)?.learn_of_return(back.return_id, |known| {
        known.received.get_or_insert((envelope.occurred_at, back.refundable));
    })
}

fn rejected(orders: &mut Orders, back: &ReturnRejected, envelope: &Envelope) -> Result<FollowUp, Fault> {
    order(orders, back.order_id)?.learn_of_return(back.return_id, |known| {
        known.rejected.get_or_insert(envelope.occurred_at);
    })
}

fn restocked(orders: &mut Orders, back: &InventoryRestocked, envelope: &Envelope) -> Result<FollowUp, Fault> {
    let return_id = back
        .return_id
        .ok_or_else(|| Fault::new("goods came back without a return"))?;
    order(orders, back.order_id)?.learn_of_return(return_id, |known| {
        known.restocked.get_or_insert(envelope.occurred_at);
    })
}

/// Changes no order; the timeline shows it.
fn note<E: Event>(_orders: &mut Orders, _event: &E) {}

fn listed(orders: &mut Orders, product: &ProductListed) {
    let ProductListed {
        sku,
        name,
        price,
        currency,
        available,
        revision,
    } = product.clone();
    orders.offer(Offer {
        sku,
        name,
        price,
        currency,
        available,
        revision,
    });
}

fn price_changed(orders: &mut Orders, product: &ProductPriceChanged) {
    let ProductPriceChanged {
        sku,
        name,
        price,
        currency,
        available,
        revision,
    } = product.clone();
    orders.offer(Offer {
        sku,
        name,
        price,
        currency,
        available,
        revision,
    });
}

fn level_changed(orders: &mut Orders, product: &StockLevelChanged) {
    let StockLevelChanged {
        sku,
        name,
        price,
        currency,
        available,
        revision,
    } = product.clone();
    orders.offer(Offer {
        sku,
        name,
        price,
        currency,
        available,
        revision,
    });
}

impl Orders {
    /// Keeps the newest knowledge of an article, whatever came first.
    fn offer(&mut self, offer: Offer) {
        let known = self.offers.get(&offer.sku).map_or(0, |known| known.revision);
        if offer.revision > known {
            self.offers.insert(offer.sku.clone(), offer);
        }
    }
}
