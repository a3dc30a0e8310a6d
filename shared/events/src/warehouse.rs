//! What the warehouse tells.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    Line, Quantity,
    contract::{Published, published},
    event::event,
};

/// Every event of this module.
pub(crate) const EVENTS: &[Published] = published![
    ShipmentScheduled,
    OrderShipped,
    OrderDelivered,
    ShipmentFailed,
    ShipmentCancelled,
    ShipmentCancelRejected,
    ReturnReceived,
    ReturnRejected,
];

/// The parcel is going to be packed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ShipmentScheduled {
    /// The order.
    pub order_id: Uuid,
    /// The shipment.
    pub shipment_id: Uuid,
    /// Who will carry it.
    pub carrier: String,
    /// The carrier's number; none before the parcel is handed over.
    pub tracking: Option<String>,
    /// What is in it.
    pub lines: Vec<Line>,
}
event!(ShipmentScheduled, Warehouse, v 1, order_id);

/// The parcel left the house.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OrderShipped {
    /// The order.
    pub order_id: Uuid,
    /// The shipment.
    pub shipment_id: Uuid,
    /// Who carries it.
    pub carrier: String,
    /// The carrier's number.
    pub tracking: String,
    /// What is in it.
    pub lines: Vec<Line>,
}
event!(OrderShipped, Warehouse, v 1, order_id);

/// The parcel arrived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OrderDelivered {
    /// The order.
    pub order_id: Uuid,
    /// The shipment.
    pub shipment_id: Uuid,
    /// Who carried it.
    pub carrier: String,
    /// The carrier's number.
    pub tracking: String,
    /// What is in it.
    pub lines: Vec<Line>,
    /// When it arrived.
    pub delivered_at: DateTime<Utc>,
}
event!(OrderDelivered, Warehouse, v 1, order_id);

/// The carrier cannot deliver the parcel; it never left the house.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ShipmentFailed {
    /// The order.
    pub order_id: Uuid,
    /// The shipment.
    pub shipment_id: Option<Uuid>,
    /// The carrier's word, `undeliverable_address`.
    pub code: String,
}
event!(ShipmentFailed, Warehouse, v 1, order_id);

/// The parcel will not be sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ShipmentCancelled {
    /// The order.
    pub order_id: Uuid,
    /// The shipment; none when there was none yet.
    pub shipment_id: Option<Uuid>,
    /// Why, `order_cancelled`.
    pub code: String,
}
event!(ShipmentCancelled, Warehouse, v 1, order_id);

/// Too late: the parcel has left the house.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ShipmentCancelRejected {
    /// The order.
    pub order_id: Uuid,
    /// The shipment.
    pub shipment_id: Uuid,
    /// Where the parcel is, `DISPATCHED` or `DELIVERED`.
    pub state: String,
}
event!(ShipmentCancelRejected, Warehouse, v 1, order_id);

/// Returned goods arrived and were looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReturnReceived {
    /// The order.
    pub order_id: Uuid,
    /// The return.
    pub return_id: Uuid,
    /// What came back, in what condition.
    pub lines: Vec<ReturnedLine>,
    /// What is to be paid back, in minor units.
    pub refundable: i64,
}
event!(ReturnReceived, Warehouse, v 1, order_id, skus of lines);

/// Returned goods were refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReturnRejected {
    /// The order.
    pub order_id: Uuid,
    /// The return.
    pub return_id: Uuid,
    /// What came back, in what condition.
    pub lines: Vec<ReturnedLine>,
    /// Always 0, in minor units.
    pub refundable: i64,
}
event!(ReturnRejected, Warehouse, v 1, order_id);

/// One article that came back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, utoipa::ToSchema)]
pub struct ReturnedLine {
    /// The article.
    pub sku: String,
    /// How many pieces.
    pub quantity: Quantity,
    /// [`RESELLABLE`] or [`DAMAGED`].
    pub condition: String,
}

/// The condition of returned goods that are sold again.
pub const RESELLABLE: &str = "resellable";
/// The condition of returned goods that are paid back, but never sold again.
pub const DAMAGED: &str = "damaged";
