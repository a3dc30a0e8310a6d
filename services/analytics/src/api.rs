//! HTTP in: how the shop is doing. Reads only, from projections that follow the events.

use std::collections::BTreeMap;

use axum::Router;
use axum::extract::State;
use axum::http::Uri;
use chassis::{ApiError, FieldError, Json, Page, PageRequest, Query, openapi};
use chrono::{DateTime, Utc};
use messaging::Db;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

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

/// What the service is for, as its document says.
const ABOUT: &str = "Shows how the shop is doing, from projections that follow the events.";

/// The routes of the analytics service, and their document.
pub fn routes(app: App) -> Router {
    openapi::serve("analytics", ABOUT, documented(), app)
}

/// The document of the analytics service.
pub fn document() -> Value {
    openapi::document("analytics", ABOUT, documented().into_openapi())
}

fn documented() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(show_summary))
        .routes(routes!(list_sales))
        .routes(routes!(show_funnel))
        .routes(routes!(show_latency))
}

/// The shop in a few numbers.
#[derive(Debug, Serialize, ToSchema)]
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

/// The shop in a few numbers.
#[utoipa::path(
    get, path = "/v1/summary", tag = "figures",
    responses((status = 200, description = "The figures.", body = SummaryView)),
)]
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
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct SalesRequest {
    /// What is summed up.
    #[param(inline)]
    by: By,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum By {
    Minute,
    Product,
}

/// Sales in one minute; revenue is less what was paid back for these orders since.
#[derive(Debug, Serialize, ToSchema)]
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
#[derive(Debug, Serialize, ToSchema)]
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

/// One line of the sales, of the kind that was asked for.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
enum SaleView {
    Minute(MinuteView),
    Product(ProductView),
}

/// Sales: by minute the newest first, by product in order of the skus.
#[utoipa::path(
    get, path = "/v1/sales", tag = "figures", params(SalesRequest, PageRequest),
    responses((status = 200, description = "A page of sales.", body = Page<SaleView>,
        headers(("Link" = Option<String>, description = "The next page, `rel=\"next\"`, unless this is the last.")))),
)]
async fn list_sales(
    State(app): State<App>,
    Query(SalesRequest { by }): Query<SalesRequest>,
    Query(page): Query<PageRequest>,
    uri: Uri,
) -> Result<Page<SaleView>, ApiError> {
    let limit = page.limit()?;
    let after = page.cursor.as_deref().map(place).transpose()?;
    let items: Vec<SaleView> = match by {
        By::Minute => {
            let rows = store::sales_by_minute(app.db.pool(), after, limit + 1).await?;
            rows.into_iter().map(|row| SaleView::Minute(row.into())).collect()
        }
        By::Product => {
            let rows = store::sales_by_product(app.db.pool(), after, limit + 1).await?;
            rows.into_iter().map(|row| SaleView::Product(row.into())).collect()
        }
    };
    Ok(Page::new(items, limit, &uri, SaleView::place))
}

impl SaleView {
    /// The cursor of what follows this line.
    fn place(&self) -> String {
        match self {
            Self::Minute(MinuteView { minute, currency, .. }) => format!("{minute}~{currency}"),
            Self::Product(ProductView { sku, currency, .. }) => format!("{sku}~{currency}"),
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
#[derive(Debug, Serialize, ToSchema)]
struct FunnelView {
    /// By the name of the step.
    #[serde(flatten)]
    #[schema(value_type = BTreeMap<String, i64>)]
    steps: BTreeMap<&'static str, i64>,
    cancelled_by_reason: BTreeMap<String, i64>,
    /// Messages that were sent, by template.
    notified: BTreeMap<String, i64>,
    /// Messages that were given up, by template.
    not_notified: BTreeMap<String, i64>,
}

/// How many orders reached each step.
#[utoipa::path(
    get, path = "/v1/funnel", tag = "figures",
    responses((status = 200, description = "The funnel.", body = FunnelView)),
)]
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
#[derive(Debug, Serialize, ToSchema)]
struct LatencyView {
    count: i64,
    p50_ms: Option<i64>,
    p95_ms: Option<i64>,
    p99_ms: Option<i64>,
    max_ms: Option<i64>,
}

/// How long orders take.
#[utoipa::path(
    get, path = "/v1/latency", tag = "figures",
    responses((status = 200, description = "In milliseconds; no percentiles before the first order.", body = LatencyView)),
)]
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
