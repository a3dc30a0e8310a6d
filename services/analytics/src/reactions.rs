//! What analytics does with the events it hears: it remembers them, in whatever order they come.

use events::{
    Event, InventoryCommitted, InventoryRejected, InventoryReleased, InventoryReserved, InventoryRestocked,
    NotificationFailed, NotificationSent, OrderCancelled, OrderCompleted, OrderConfirmed, OrderDelivered, OrderPlaced,
    OrderRefunded, OrderShipped, PaymentDeclined, PaymentRefunded, PaymentSucceeded, PaymentTimedOut, PaymentVoided,
    ProductListed, ProductPriceChanged, ShipmentCancelled, ShipmentFailed, ShipmentScheduled, StockLevelChanged,
    Subject,
};
use messaging::{Envelope, Reactions};

use crate::domain::{Product, Projections, Step};

/// The wiring: what is heard, and what is remembered of it.
pub fn reactions() -> Reactions<Projections> {
    Reactions::of("analytics")
        .on_fact::<OrderPlaced>(place)
        .on_fact::<InventoryReserved>(reach(Step::Reserved))
        .on_fact::<InventoryRejected>(reach(Step::Rejected))
        .on_fact::<PaymentSucceeded>(reach(Step::Paid))
        .on_fact::<PaymentDeclined>(reach(Step::Declined))
        .on_fact::<PaymentTimedOut>(reach(Step::TimedOut))
        .on_fact::<OrderConfirmed>(reach(Step::Confirmed))
        .on_fact::<ShipmentScheduled>(reach(Step::Scheduled))
        .on_fact::<OrderShipped>(reach(Step::Shipped))
        .on_fact::<InventoryCommitted>(reach(Step::Committed))
        .on_fact::<OrderDelivered>(reach(Step::Delivered))
        .on_fact::<OrderCompleted>(reach(Step::Completed))
        .on_fact::<ShipmentFailed>(reach(Step::ShipmentFailed))
        .on_fact::<ShipmentCancelled>(reach(Step::ShipmentCancelled))
        .on_fact::<PaymentVoided>(reach(Step::Voided))
        .on_fact::<PaymentRefunded>(pay_back)
        .on_fact::<InventoryReleased>(reach(Step::Released))
        .on_fact::<OrderCancelled>(cancel)
        .on_fact::<InventoryRestocked>(reach(Step::Restocked))
        .on_fact::<OrderRefunded>(reach(Step::Returned))
        .on::<NotificationSent>(note_sent)
        .on::<NotificationFailed>(note_failed)
        .on_fact::<ProductListed>(list)
        .on_fact::<ProductPriceChanged>(reprice)
        .on_fact::<StockLevelChanged>(restock)
}

/// Remembers when an order came so far.
pub fn reach<E: Event>(step: Step) -> impl Fn(&mut Projections, &E, &Envelope) + Clone + Send + Sync + 'static {
    move |projections, event, envelope| {
        if let Subject::Order(order_id) = event.subject() {
            projections.order(order_id).reach(step, envelope.occurred_at);
        }
    }
}

/// Remembers what was ordered.
pub fn place(projections: &mut Projections, order: &OrderPlaced, envelope: &Envelope) {
    let facts = projections.order(order.order_id);
    facts.reach(Step::Placed, envelope.occurred_at);
    facts.lines = Some(order.lines.clone());
    facts.total = Some(order.total);
    facts.currency = Some(order.currency.clone());
}

/// Remembers why an order ended.
pub fn cancel(projections: &mut Projections, order: &OrderCancelled, envelope: &Envelope) {
    let facts = projections.order(order.order_id);
    facts.reach(Step::Cancelled, envelope.occurred_at);
    facts.reason = Some(order.reason);
}

/// Remembers each refund once.
pub fn pay_back(projections: &mut Projections, refund: &PaymentRefunded, envelope: &Envelope) {
    let facts = projections.order(refund.order_id);
    facts.reach(Step::PaidBack, envelope.occurred_at);
    facts.refunds.insert(refund.refund_id, refund.amount);
}

/// Remembers that the customer was told.
pub fn note_sent(projections: &mut Projections, message: &NotificationSent) {
    let facts = projections.order(message.order_id);
    facts.notified.insert(message.template.clone(), true);
}

/// Remembers that the customer could not be told.
pub fn note_failed(projections: &mut Projections, message: &NotificationFailed) {
    let facts = projections.order(message.order_id);
    facts.notified.entry(message.template.clone()).or_insert(false);
}

/// A product as inventory describes it; three events say the same of it.
macro_rules! describe {
    ($(#[$doc:meta] $name:ident: $event:ty),* $(,)?) => {$(
        #[$doc]
        pub fn $name(projections: &mut Projections, event: &$event, envelope: &Envelope) {
            let product = Product {
                name: event.name.clone(),
                price: event.price,
                currency: event.currency.clone(),
                available: event.available,
                sequence: envelope.sequence,
            };
            projections.describe(&event.sku, product);
        }
    )*};
}

describe! {
    /// Remembers a new product.
    list: ProductListed,
    /// Remembers its new price or name.
    reprice: ProductPriceChanged,
    /// Remembers how much of it there is.
    restock: StockLevelChanged,
}
