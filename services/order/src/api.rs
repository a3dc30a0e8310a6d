//! HTTP in: orders are placed, looked at, and cancelled.

mod place;
mod returns;
mod views;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use chassis::{ApiError, ETag, FieldError, Json, Page, PageRequest, Path, Query};
use chrono::{DateTime, Datelike, Utc};
use events::CancelReason;
use messaging::{Db, Decisions, Touched};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::clients::Inventory;
use crate::domain::{Cancellation, Orders, Patience};
use crate::store::{self, Filter};
use views::{OrderView, SagaView};

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
}

/// The routes of the order service.
pub fn routes(app: App) -> Router {
    Router::new()
        .route("/v1/orders", post(place::place_order).get(list_orders))
        .route("/v1/orders/{id}", get(show_order))
        .route("/v1/orders/{id}/cancel", post(cancel_order))
        .route(
            "/v1/orders/{id}/returns",
            post(returns::request_return).get(returns::list_returns),
        )
        .route("/v1/orders/{id}/returns/{return_id}", get(returns::show_return))
        .route("/v1/orders/{id}/saga", get(show_saga))
        .route("/v1/orders/{id}/timeline", get(show_timeline))
        .with_state(Arc::new(app))
}

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
#[derive(Debug, Deserialize)]
struct ListRequest {
    status: Option<String>,
    customer_id: Option<Uuid>,
    created_after: Option<DateTime<Utc>>,
    limit: Option<String>,
    cursor: Option<Uuid>,
    #[serde(default)]
    needs_attention: bool,
}

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

async fn show_saga(State(app): State<Arc<App>>, Path(id): Path<Uuid>) -> Result<Json<SagaView>, ApiError> {
    let order = store::order(app.db.pool(), id).await?.ok_or_else(unknown_order)?;
    let timeline = store::timeline(app.db.pool(), id).await?;
    let stuck = store::is_stuck(app.db.pool(), id, &app.patience).await?;
    Ok(Json(SagaView::of(&order, &timeline, stuck)))
}

async fn show_timeline(State(app): State<Arc<App>>, Path(id): Path<Uuid>) -> Result<Json<Value>, ApiError> {
    let items = store::timeline(app.db.pool(), id).await?;
    if items.is_empty() {
        return Err(unknown_order());
    }
    Ok(Json(json!({ "items": items })))
}

fn unknown_order() -> ApiError {
    ApiError::not_found("there is no order with this id")
}
