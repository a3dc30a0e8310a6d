//! What the inventory service is told and what it shows.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::domain::{Article, Product};

/// A product as outsiders see it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ProductView {
    #[schema(example = "TEA-ASSAM")]
    pub(super) sku: String,
    #[schema(example = "Assam, strong and malty, 100 g")]
    pub(super) name: String,
    /// Price of one piece in minor units of the currency.
    #[schema(example = 690)]
    pub(super) price: i64,
    #[schema(example = "EUR")]
    pub(super) currency: String,
    /// Pieces in the house.
    #[schema(example = 1_000)]
    pub(super) on_hand: i64,
    /// Pieces that are held for orders.
    #[schema(example = 12)]
    pub(super) reserved: i64,
    /// Pieces that can be ordered.
    #[schema(example = 988)]
    pub(super) available: i64,
}

impl From<&Article> for ProductView {
    fn from(article: &Article) -> Self {
        let Product {
            sku,
            name,
            price,
            currency,
        } = article.product.clone();
        let Article { on_hand, reserved, .. } = *article;
        Self {
            sku,
            name,
            price,
            currency,
            on_hand,
            reserved,
            available: article.available(),
        }
    }
}

/// The description of a product, as a client puts it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Description {
    /// On one line.
    #[schema(example = "Assam, strong and malty, 100 g", min_length = 1, max_length = 200)]
    pub(super) name: String,
    /// Price of one piece in minor units of the currency.
    #[schema(example = 690, minimum = 1, maximum = 100_000_000)]
    pub(super) price: i64,
    #[schema(example = "EUR", pattern = "^[A-Z]{3}$")]
    pub(super) currency: String,
}

/// Pieces that came or went by hand.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Adjustment {
    /// Pieces to add, or to take away when negative; never 0.
    #[schema(example = 25, minimum = -1_000_000_000, maximum = 1_000_000_000)]
    pub(super) delta: i64,
    /// On one line.
    #[schema(example = "delivery", min_length = 1, max_length = 200)]
    pub(super) reason: String,
}

/// What somebody would like to order.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StockCheck {
    #[schema(min_items = 1, max_items = 100)]
    pub(super) lines: Vec<WantedLine>,
}

/// One article.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WantedLine {
    #[schema(example = "TEA-ASSAM")]
    pub(super) sku: String,
    #[schema(example = 2, minimum = 1, maximum = 1_000_000)]
    pub(super) quantity: i64,
}

/// Prices and availability of the skus that exist; nothing is held.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StockCheckView {
    pub(super) items: Vec<CheckedLine>,
}

/// One article.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CheckedLine {
    pub(super) sku: String,
    pub(super) name: String,
    pub(super) price: i64,
    pub(super) currency: String,
    pub(super) available: i64,
    /// Whether there is enough for all lines of this article.
    pub(super) sufficient: bool,
}

/// A reservation as outsiders see it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ReservationView {
    pub(super) order_id: Uuid,
    pub(super) reservation_id: Uuid,
    /// `HELD`, `SOLD`, `RELEASED` or `REJECTED`, as it stands now.
    pub(super) state: &'static str,
    pub(super) lines: Vec<events::Line>,
}
