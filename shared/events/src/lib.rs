//! The contracts of the shop: every event that one service tells the others, once.
//!
//! An event is a fact in the past tense, immutable and self-contained: a consumer never has to
//! ask back. One module per owner; only the owner may emit what its module holds. To see what a
//! service *consumes*, open the first lines of its `reactions.rs`.
//!
//! Adding an optional field is not breaking. Anything else is a new version beside the old one; the
//! [contract] keeps everybody to that.

pub mod contract;
mod draft;
mod event;
mod identity;
pub mod inventory;
pub mod notification;
pub mod order;
pub mod payment;
mod types;
pub mod warehouse;

pub use draft::{After, Both, Draft, Emits, Fault};
pub use event::{Event, EventType, Owner, Subject, Upcaster};
pub use identity::{derive_id, fact_id, is_twin, twin_id};
pub use inventory::{
    InventoryCommitted, InventoryRejected, InventoryReleased, InventoryReserved, InventoryRestocked, ProductListed,
    ProductPriceChanged, Shortage, StockLevelChanged,
};
pub use notification::{NotificationFailed, NotificationSent};
pub use order::{
    CancelReason, OrderCancellationRequested, OrderCancelled, OrderCompleted, OrderConfirmed, OrderPlaced,
    OrderRefunded, OrderReturnRequested,
};
pub use payment::{PaymentDeclined, PaymentRefunded, PaymentSucceeded, PaymentTimedOut, PaymentVoided, RefundCause};
pub use types::{Address, Currency, Customer, Line, Quantity};
pub use warehouse::{
    DAMAGED, OrderDelivered, OrderShipped, RESELLABLE, ReturnReceived, ReturnRejected, ReturnedLine,
    ShipmentCancelRejected, ShipmentCancelled, ShipmentFailed, ShipmentScheduled,
};
