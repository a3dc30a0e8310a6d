//! What the inventory service tells.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    Currency, Customer, Line, Quantity,
    contract::{Published, published},
    event::event,
};

/// Every event of this module.
pub(crate) const EVENTS: &[Published] = published![
    ProductListed,
    ProductPriceChanged,
    StockLevelChanged,
    InventoryReserved,
    InventoryRejected,
    InventoryReleased,
    InventoryCommitted,
    InventoryRestocked,
];

/// A product is offered for the first time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProductListed {
    /// The article.
    pub sku: String,
    /// What it is called.
    pub name: String,
    /// Price of one piece in minor units.
    pub price: i64,
    /// Currency of the price.
    pub currency: Currency,
    /// Pieces that can be ordered.
    pub available: i64,
    /// Version of the product's description; a greater one is newer.
    pub revision: i64,
}
event!(ProductListed, Inventory, v 1, sku);

/// The name or the price of a product changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProductPriceChanged {
    /// The article.
    pub sku: String,
    /// What it is called now.
    pub name: String,
    /// The new price of one piece in minor units.
    pub price: i64,
    /// Currency of the price.
    pub currency: Currency,
    /// Pieces that can be ordered.
    pub available: i64,
    /// Version of the product's description; a greater one is newer.
    pub revision: i64,
}
event!(ProductPriceChanged, Inventory, v 1, sku);

/// The number of pieces that can be ordered changed; said once a batch, however many orders it held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StockLevelChanged {
    /// The article.
    pub sku: String,
    /// What it is called.
    pub name: String,
    /// Price of one piece in minor units.
    pub price: i64,
    /// Currency of the price.
    pub currency: Currency,
    /// Pieces that can be ordered now.
    pub available: i64,
    /// Version of the stock; a greater one is newer.
    pub revision: i64,
}
event!(StockLevelChanged, Inventory, v 1, sku);

/// Every line of the order is held for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InventoryReserved {
    /// The order.
    pub order_id: Uuid,
    /// The reservation.
    pub reservation_id: Uuid,
    /// What is held.
    pub lines: Vec<Line>,
    /// What is to be paid, in minor units.
    pub amount: i64,
    /// Currency of the amount.
    pub currency: Currency,
    /// Token of the payment method; never a card number.
    pub payment_method: String,
    /// Who ordered.
    pub customer: Customer,
    /// When the order is given up unless it has been paid.
    pub expires_at: DateTime<Utc>,
}
event!(InventoryReserved, Inventory, v 1, order_id);

/// At least one line cannot be held, so none is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InventoryRejected {
    /// The order.
    pub order_id: Uuid,
    /// What was missing.
    pub shortages: Vec<Shortage>,
}
event!(InventoryRejected, Inventory, v 1, order_id);

/// An article of which there is too little.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Shortage {
    /// The article.
    pub sku: String,
    /// How many pieces were wanted.
    pub requested: Quantity,
    /// How many there were.
    pub available: i64,
}

/// Whatever was held for the order is free again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InventoryReleased {
    /// The order.
    pub order_id: Uuid,
    /// The reservation; none when nothing had been held.
    pub reservation_id: Option<Uuid>,
    /// The event that asked for it, `PaymentDeclined`.
    pub cause: String,
}
event!(InventoryReleased, Inventory, v 1, order_id);

/// The held pieces left the house: they are sold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InventoryCommitted {
    /// The order.
    pub order_id: Uuid,
    /// What was sold.
    pub lines: Vec<Line>,
}
event!(InventoryCommitted, Inventory, v 1, order_id);

/// Returned pieces can be sold again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InventoryRestocked {
    /// The order.
    pub order_id: Uuid,
    /// What can be sold again; empty when nothing of it can.
    pub lines: Vec<Line>,
    /// The return that it came with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub return_id: Option<Uuid>,
}
event!(InventoryRestocked, Inventory, v 1, order_id);
