//! HTTP in: how the shop is doing. Reads only, from projections that follow the events.

use std::collections::BTreeMap;

use axum::Router;
use axum::extract::State;
use axum::http::Uri;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use chassis::{ApiError, FieldError, Json, Page, PageRequest, Query};
use chrono::{DateTime, Utc};
use messaging::Db;
use serde::{Deserialize, Serialize};

use crate::domain::Step;
use crate::store::{self, Latency, ProductSalesRow, SalesRow};

/// The currency of a shop that has sold nothing yet.
const USUAL_CURRENCY: &str = "EUR";

/// What the handlers need.
#[derive(Clone)]
pub struct App {
    /// For reading.
    pub db: Db,
}

/// The routes of the analytics service.
pub fn routes(app: App) -> Router {
    Router::new()
        .route("/v1/summary", get(show_summary))
        .route("/v1/sales", get(list_sales))
        .route("/v1/funnel", get(show_funnel))
        .route("/v1/latency", get(show_latency))
        .with_state(app)
}

/// The shop in a few numbers.
#[derive(Debug, Serialize)]
struct SummaryView {
    orders_placed: i64,
    orders_completed: i64,
    orders_cancelled: i64,
    /// Orders of which something was sent back and paid back.
    orders_returned: i64,
    /// What completed orders cost less what was paid back, in minor units of the currency.
    revenue: i64,
    /// What was paid back of what completed orders cost, in minor units of the currency.
    refunded: i64,
    /// The one with most revenue.
    currency: String,
    /// When the newest event that was heard was told; none before the first.
    as_of: Option<DateTime<Utc>>,
    /// How long after that it was handled, in milliseconds.
    lag: i64,
}

async fn show_summary(State(app): State<App>) -> Result<Json<SummaryView>, ApiError> {
    let summary = store::summary(app.db.pool()).await?;
    Ok(Json(SummaryView {
        orders_placed: summary.placed,
        orders_completed: summary.completed,
        orders_cancelled: summary.cancelled,
        orders_returned: summary.returned,
        revenue: summary.revenue.unwrap_or(0),
        refunded: summary.refunded.unwrap_or(0),
        currency: summary.currency.unwrap_or_else(|| USUAL_CURRENCY.to_owned()),
        as_of: summary.newest_at,
        // Two clocks may disagree; nothing is handled before it was told.
        lag: summary.lag_ms.unwrap_or(0).max(0),
    }))
}

/// What is wanted of the sales.
#[derive(Debug, Deserialize)]
struct SalesRequest {
    by: By,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum By {
    Minute,
    Product,
}

/// Sales in one minute; revenue is less what was paid back for these orders since.
#[derive(Debug, Serialize)]
struct MinuteView {
    minute: String,
    currency: String,
    orders: i64,
    units: i64,
    revenue: i64,
}

impl From<SalesRow> for MinuteView {
    fn from(row: SalesRow) -> Self {
        let SalesRow {
            key,
            currency,
            orders,
            units,
            revenue,
        } = row;
        Self {
            minute: key,
            currency,
            orders,
            units,
            revenue,
        }
    }
}

/// Sales of one product, before refunds.
#[derive(Debug, Serialize)]
struct ProductView {
    sku: String,
    name: Option<String>,
    available: Option<i64>,
    currency: String,
    orders: i64,
    units: i64,
    revenue: i64,
}

impl From<ProductSalesRow> for ProductView {
    fn from(row: ProductSalesRow) -> Self {
        let ProductSalesRow {
            sku,
            name,
            available,
            currency,
            orders,
            units,
            revenue,
        } = row;
        Self {
            sku,
            name,
            available,
            currency,
            orders,
            units,
            revenue,
        }
    }
}

/// By minute the newest first, by product in order of the skus.
async fn list_sales(
    State(app): State<App>,
    Query(SalesRequest { by }): Query<SalesRequest>,
    Query(page): Query<PageRequest>,
    uri: Uri,
) -> Result<Response, ApiError> {
    let limit = page.limit()?;
    let after = page.cursor.as_deref().map(place).transpose()?;
    match by {
        By::Minute => {
            let rows = store::sales_by_minute(app.db.pool(), after, limit + 1).await?;
            let items = rows.into_iter().map(MinuteView::from).collect();
            let cursor = |item: &MinuteView| format!("{}~{}", item.minute, item.currency);
            Ok(Page::new(items, limit, &uri, cursor).into_response())
        }
        By::Product => {
            let rows = store::sales_by_product(app.db.pool(), after, limit + 1).await?;
            let items = rows.into_iter().map(ProductView::from).collect();
            let cursor = |item: &ProductView| format!("{}~{}", item.sku, item.currency);
            Ok(Page::new(items, limit, &uri, cursor).into_response())
        }
    }
}

/// The key and the currency that a cursor names; neither a sku nor a minute holds a tilde.
fn place(cursor: &str) -> Result<(&str, &str), ApiError> {
    let refused = || {
        ApiError::invalid(vec![FieldError::new(
            "cursor",
            "must be the next_cursor of another page",
        )])
    };
    cursor.split_once('~').ok_or_else(refused)
}

/// How many orders reached each step, whatever became of them later.
#[derive(Debug, Serialize)]
struct FunnelView {
    #[serde(flatten)]
    steps: BTreeMap<&'static str, i64>,
    cancelled_by_reason: BTreeMap<String, i64>,
    /// Messages that were sent, by template.
    notified: BTreeMap<String, i64>,
    /// Messages that were given up, by template.
    not_notified: BTreeMap<String, i64>,
}

async fn show_funnel(State(app): State<App>) -> Result<Json<FunnelView>, ApiError> {
    let counts = store::counts(app.db.pool()).await?;
    let of = |name: &'static str| counts.iter().filter(move |(step, ..)| step == name);
    let total = |step: &Step| (step.name(), of(step.name()).map(|(.., count)| count).sum());
    let by_detail = |name| of(name).map(|(_, detail, count)| (detail.clone(), *count)).collect();
    Ok(Json(FunnelView {
        steps: Step::ALL.iter().map(total).collect(),
        cancelled_by_reason: by_detail(Step::Cancelled.name()),
        notified: by_detail("notified"),
        not_notified: by_detail("not_notified"),
    }))
}

/// From placed to completed, of the 10,000 orders completed last.
#[derive(Debug, Serialize)]
struct LatencyView {
    count: i64,
    p50_ms: Option<i64>,
    p95_ms: Option<i64>,
    p99_ms: Option<i64>,
    max_ms: Option<i64>,
}

async fn show_latency(State(app): State<App>) -> Result<Json<LatencyView>, ApiError> {
    let Latency {
        count,
        p50_ms,
        p95_ms,
        p99_ms,
        max_ms,
    } = store::latency(app.db.pool()).await?;
    Ok(Json(LatencyView {
        count,
        p50_ms,
        p95_ms,
        p99_ms,
        max_ms,
    }))
}
