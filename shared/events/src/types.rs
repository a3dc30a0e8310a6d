//! The values that events share.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// An ISO 4217 code, `EUR`. Amounts beside it are integers in its minor unit (cents).
pub type Currency = String;

/// How many pieces; 1 to 1,000 in an order's line.
pub type Quantity = i32;

/// Who buys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ToSchema)]
pub struct Customer {
    /// The customer's id.
    pub id: Uuid,
    /// Where mail goes; personal data, so never in a log, a span or a metric.
    pub email: String,
}

/// One article of an order at the price that was promised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ToSchema)]
pub struct Line {
    /// The article.
    pub sku: String,
    /// Its name on the day of the order.
    pub name: String,
    /// How many pieces.
    #[schema(value_type = i32)]
    pub quantity: Quantity,
    /// Price of one piece in minor units.
    pub unit_price: i64,
}

/// Where the parcel goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Address {
    /// Who receives it.
    pub name: String,
    /// Street and number.
    pub street: String,
    /// Town.
    pub city: String,
    /// Postal code.
    pub postal_code: String,
    /// ISO 3166-1 alpha-2 country code.
    pub country: String,
}
