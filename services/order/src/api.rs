//! HTTP in: orders are placed, looked at, followed, and cancelled.

mod follow;
mod place;
mod returns;
mod stream;
mod views;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use chassis::{ApiError, ETag, FieldError, InFlight, Json, Page, PageRequest, Path, Query, openapi};
use chrono::{DateTime, Datelike, Utc};
use events::CancelReason;
use messaging::{Db, Decisions, Touched};
use serde::Deserialize;
use serde_json::Value;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::clients::Inventory;
use crate::domain::{Cancellation, Orders, Patience};
use crate::store::{self, Filter};
use views::{OrderView, SagaView, TimelineView};

pub use follow::Followed;
pub(crate) use views::STATES;

/// What the handlers need.
pub struct App {
    /// For reading.
    pub db: Db,
    /// For changing.
    pub decisions: Decisions<Orders>,
    /// Asked for prices and stock.
    pub inventory: Inventory,
    /// How long an order may stay unpaid.
    pub pay_within: Duration,
    /// How long an order may stand still.
    pub patience: Patience,
    /// The idempotency keys under way.
    pub in_flight: InFlight,
    /// The orders that somebody follows.
    pub followed: Followed,
}

/// What the service is for, as its document says.
const ABOUT: &str = "Takes orders, and owns their state from the first event to the last.";

/// The routes of the order service, and their document.
pub fn routes(app: App) -> Router {
    openapi::serve("order", ABOUT, documented(), Arc::new(app))
}

/// The document of the order service.
pub fn document() -> Value {
    openapi::document("order", ABOUT, documented().into_openapi())
}

fn documented() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(place::place_order, list_orders))
        .routes(routes!(show_order))
        .routes(routes!(cancel_order))
        .routes(routes!(returns::request_return, returns::list_returns))
        .routes(routes!(returns::show_return))
        .routes(routes!(show_saga))
        .routes(routes!(show_timeline))
        .routes(routes!(stream::follow_order))
}

/// An order as it is now.
#[utoipa::path(
    get, path = "/v1/orders/{id}", tag = "orders",
    params(
        ("id" = Uuid, Path, description = "The order."),
        ("If-None-Match" = Option<String>, Header, description = "The `ETag` of what is known already."),
    ),
    responses(
        (status = 200, description = "The order.", body = OrderView,
            headers(("ETag" = String, description = "The version of the order."))),
        (status = 304, description = "It has not changed.",
            headers(("ETag" = String, description = "The version of the order."))),
    ),
)]
async fn show_order(
    State(app): State<Arc<App>>,
    Path(id): Path<Uuid>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let order = store::order(app.db.pool(), id).await?.ok_or_else(unknown_order)?;
    let tag = ETag(order.version);
    if tag.is_known_to(&headers) {
        return Ok((StatusCode::NOT_MODIFIED, [tag.header()]).into_response());
    }
    Ok(([tag.header()], Json(OrderView::of(&order))).into_response())
}

/// Which orders to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ListRequest {
    /// In this state.
    #[param(value_type = Option<crate::domain::State>, inline)]
    status: Option<String>,
    /// Of this customer.
    customer_id: Option<Uuid>,
    /// Placed later than this.
    created_after: Option<DateTime<Utc>>,
    /// How many at most.
    #[param(value_type = Option<i64>, minimum = 1, maximum = 100, default = 20)]
    limit: Option<String>,
    /// The `next_cursor` of the page before.
    cursor: Option<Uuid>,
    /// Only those that have stood still for longer than they may.
    #[serde(default)]
    needs_attention: bool,
}

/// Orders, the newest first.
#[utoipa::path(
    get, path = "/v1/orders", tag = "orders", params(ListRequest),
    responses((status = 200, description = "A page of orders.", body = Page<OrderView>,
        headers(("Link" = Option<String>, description = "The next page, `rel=\"next\"`, unless this is the last.")))),
)]
async fn list_orders(
    State(app): State<Arc<App>>,
    Query(request): Query<ListRequest>,
    uri: Uri,
) -> Result<Page<OrderView>, ApiError> {
    let ListRequest {
        status,
        customer_id,
        created_after,
        limit,
        cursor,
        needs_attention,
    } = request;
    let limit = PageRequest::of(limit.as_deref())?.limit()?;
    if status.as_deref().is_some_and(|status| !views::STATES.contains(&status)) {
        let reason = format!("must be one of {}", views::STATES.join(", "));
        return Err(ApiError::invalid(vec![FieldError::new("status", reason)]));
    }
    if created_after.is_some_and(|time| !(0..=9_999).contains(&time.year())) {
        return Err(ApiError::invalid(vec![FieldError::new(
            "created_after",
            "must be within the years 0000 to 9999",
        )]));
    }
    let filter = Filter {
        status,
        customer_id,
        created_after,
        after: cursor,
        stuck: needs_attention.then_some(app.patience),
    };
    let orders = store::orders(app.db.pool(), &filter, limit + 1).await?;
    let items = orders.iter().map(OrderView::of).collect();
    Ok(Page::new(items, limit, &uri, |order: &OrderView| order.id.to_string()))
}

/// Asks for the order to be undone; 202 until every participant has confirmed it.
#[utoipa::path(
    post, path = "/v1/orders/{id}/cancel", tag = "orders",
    params(("id" = Uuid, Path, description = "The order.")),
    responses(
        (status = 202, description = "It is being undone.", body = OrderView),
        (status = 200, description = "It had been undone before.", body = OrderView),
    ),
    extensions(("x-problems" = json!(["order-not-cancellable"]))),
)]
async fn cancel_order(State(app): State<Arc<App>>, Path(id): Path<Uuid>) -> Result<Response, ApiError> {
    let cancel = move |orders: &mut Orders| {
        let Some(order) = orders.orders.get_mut(&id) else {
            return (None, None);
        };
        let (outcome, event) = order.request_cancellation(CancelReason::RequestedByCustomer, "customer");
        (Some((outcome, OrderView::of(order))), event)
    };
    let (outcome, view) = app
        .decisions
        .decide(Touched::order(id), cancel)
        .await?
        .ok_or_else(unknown_order)?;
    match outcome {
        Cancellation::UnderWay => Ok((StatusCode::ACCEPTED, Json(view)).into_response()),
        Cancellation::AlreadyDone => Ok(Json(view).into_response()),
        Cancellation::TooLate(state) => Err(ApiError::conflict(
            "order-not-cancellable",
            format!("the order is {}: the parcel has left the house", state.as_str()),
        )),
    }
}

/// How far the order has come, step by step.
#[utoipa::path(
    get, path = "/v1/orders/{id}/saga", tag = "orders", params(("id" = Uuid, Path, description = "The order.")),
    responses((status = 200, description = "Every step, where it stands, and what undoes it.", body = SagaView)),
)]
async fn show_saga(State(app): State<Arc<App>>, Path(id): Path<Uuid>) -> Result<Json<SagaView>, ApiError> {
    let order = store::order(app.db.pool(), id).await?.ok_or_else(unknown_order)?;
    let timeline = store::timeline(app.db.pool(), id).await?;
    let stuck = store::is_stuck(app.db.pool(), id, &app.patience).await?;
    Ok(Json(SagaView::of(&order, &timeline, stuck)))
}

/// Every event that the order heard and told, oldest first, each with the one it follows from.
#[utoipa::path(
    get, path = "/v1/orders/{id}/timeline", tag = "orders", params(("id" = Uuid, Path, description = "The order.")),
    responses((status = 200, description = "All of them: a saga has some twenty.", body = TimelineView)),
)]
async fn show_timeline(State(app): State<Arc<App>>, Path(id): Path<Uuid>) -> Result<Json<TimelineView>, ApiError> {
    let items = store::timeline(app.db.pool(), id).await?;
    if items.is_empty() {
        return Err(unknown_order());
    }
    Ok(Json(TimelineView { items }))
}

fn unknown_order() -> ApiError {
    ApiError::not_found("there is no order with this id")
}
