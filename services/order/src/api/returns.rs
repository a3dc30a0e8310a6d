//! Returns over HTTP: asking for one, and following it.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use chassis::{ApiError, FieldError, IdempotencyKey, Json, Path};
use chrono::{DateTime, Utc};
use events::{Line, derive_id};
use messaging::Touched;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{App, unknown_order};
use crate::domain::{Orders, Refused, Return, ReturnState, ReturnWish, Returning};
use crate::store;

/// A return as outsiders see it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ReturnView {
    return_id: Uuid,
    order_id: Uuid,
    state: ReturnState,
    lines: Vec<Line>,
    reason: String,
    /// What its goods were paid for, in minor units.
    amount: i64,
    /// What was paid back, in minor units; 0 until it was.
    refunded: i64,
    currency: String,
    requested_at: DateTime<Utc>,
    received_at: Option<DateTime<Utc>>,
    rejected_at: Option<DateTime<Utc>>,
    restocked_at: Option<DateTime<Utc>>,
    refunded_at: Option<DateTime<Utc>>,
}

impl ReturnView {
    fn of(order_id: Uuid, currency: &str, (return_id, one): (&Uuid, &Return)) -> Self {
        Self {
            return_id: *return_id,
            order_id,
            state: one.state(),
            lines: one.lines.clone(),
            reason: one.reason.clone(),
            amount: one.worth(),
            refunded: one.refunded.map_or(0, |(_, amount)| amount),
            currency: currency.to_owned(),
            requested_at: one.requested_at,
            received_at: one.received.map(|(at, _)| at),
            rejected_at: one.rejected,
            restocked_at: one.restocked,
            refunded_at: one.refunded.map(|(at, _)| at),
        }
    }
}

/// Asks for goods to be taken back; 202 until they are, and paid back. The request begins a trace of its own, linked to
/// the order's.
///
/// Under an `Idempotency-Key` a request can be repeated and asks for one return. Keys are per order.
#[utoipa::path(
    post, path = "/v1/orders/{id}/returns", tag = "returns",
    params(
        ("id" = Uuid, Path, description = "The order."),
        ("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255, pattern = "^[ -~]+$",
            description = "Bare or as a quoted string."),
    ),
    request_body(content = ReturnWish, example = json!({
        "lines": [{ "sku": "TEA-ASSAM", "quantity": 1 }], "reason": "too strong",
    })),
    responses((status = 202, description = "The return, requested.", body = ReturnView, headers(
        ("Location" = String, description = "Where the return is."),
        ("Idempotent-Replayed" = Option<String>, description = "`true` when this was answered before."),
    ))),
    extensions(("x-problems" = json!([
        "order-not-returnable", "return-exceeds-order", "idempotency-key-reused", "invalid-request",
    ]))),
)]
pub(super) async fn request_return(
    State(app): State<Arc<App>>,
    Path(id): Path<Uuid>,
    key: Option<IdempotencyKey>,
    Json(wish): Json<ReturnWish>,
) -> Result<Response, ApiError> {
    let faults = wish.faults();
    if !faults.is_empty() {
        return Err(ApiError::invalid(fields(faults)));
    }
    // The key names the return, so the return itself remembers what was asked for under it.
    let return_id = key.map_or_else(Uuid::now_v7, |key| derive_id(id, &format!("return {}", key.0)));
    let ask = move |orders: &mut Orders| {
        let now = orders.now;
        let Some(order) = orders.orders.get_mut(&id) else {
            return (None, None);
        };
        let (outcome, event) = order.request_return(return_id, &wish, now);
        let asked = order.returns.get_key_value(&return_id);
        // As it was answered first, whatever has happened since.
        let view = asked.map(|(id, one)| ReturnView::of(order.id, &order.currency, (id, &one.as_requested())));
        (Some((outcome, view, order.trace.clone())), event)
    };
    let decided = app.decisions.decide(Touched::order(id), ask).await?;
    let (outcome, view, trace) = decided.ok_or_else(unknown_order)?;
    telemetry::link(&trace);
    match (outcome, view) {
        (Returning::Accepted, Some(view)) => Ok(accepted(&view)),
        (Returning::AskedBefore, Some(view)) => {
            let mut response = accepted(&view);
            let replayed = HeaderValue::from_static("true");
            response.headers_mut().insert("idempotent-replayed", replayed);
            Ok(response)
        }
        (outcome, _) => Err(refused(outcome)),
    }
}

fn accepted(view: &ReturnView) -> Response {
    let location = format!("/v1/orders/{}/returns/{}", view.order_id, view.return_id);
    (StatusCode::ACCEPTED, [(header::LOCATION, location)], Json(view)).into_response()
}

fn refused(outcome: Returning) -> ApiError {
    match outcome {
        Returning::Invalid(faults) => ApiError::invalid(fields(faults)),
        Returning::TooMuch(excess) => {
            let detail = "more would come back than was bought";
            ApiError::conflict("return-exceeds-order", detail).with_errors(fields(excess))
        }
        Returning::NotInState(state) => {
            let detail = format!(
                "the order is {}: only what has arrived can be sent back",
                state.as_str()
            );
            ApiError::conflict("order-not-returnable", detail)
        }
        Returning::TooOften => ApiError::conflict("order-not-returnable", "this order was sent back too often"),
        Returning::KeyReused => {
            let reason = "was used before with another body";
            let errors = vec![FieldError::new("Idempotency-Key", reason)];
            let status = StatusCode::UNPROCESSABLE_ENTITY;
            ApiError::new(status, "idempotency-key-reused", reason).with_errors(errors)
        }
        Returning::Accepted | Returning::AskedBefore => ApiError::internal("a return that is not there"),
    }
}

fn fields(faults: Vec<Refused>) -> Vec<FieldError> {
    let field = |Refused { field, reason }| FieldError { field, reason };
    faults.into_iter().map(field).collect()
}

/// A return as it is now.
#[utoipa::path(
    get, path = "/v1/orders/{id}/returns/{return_id}", tag = "returns",
    params(
        ("id" = Uuid, Path, description = "The order."),
        ("return_id" = Uuid, Path, description = "The return."),
    ),
    responses((status = 200, description = "The return.", body = ReturnView)),
)]
pub(super) async fn show_return(
    State(app): State<Arc<App>>,
    Path((id, return_id)): Path<(Uuid, Uuid)>,
) -> Result<Json<ReturnView>, ApiError> {
    let order = store::order(app.db.pool(), id).await?.ok_or_else(unknown_order)?;
    let found = order.returns.get_key_value(&return_id);
    let found = found.ok_or_else(|| ApiError::not_found("this order has no return with this id"))?;
    Ok(Json(ReturnView::of(id, &order.currency, found)))
}

/// Every return of an order, the oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ReturnsView {
    items: Vec<ReturnView>,
}

/// Every return of an order.
#[utoipa::path(
    get, path = "/v1/orders/{id}/returns", tag = "returns",
    params(("id" = Uuid, Path, description = "The order.")),
    responses((status = 200, description = "All of them, the oldest first.", body = ReturnsView)),
)]
pub(super) async fn list_returns(
    State(app): State<Arc<App>>,
    Path(id): Path<Uuid>,
) -> Result<Json<ReturnsView>, ApiError> {
    let order = store::order(app.db.pool(), id).await?.ok_or_else(unknown_order)?;
    let all = order.returns.iter();
    let mut items: Vec<ReturnView> = all.map(|found| ReturnView::of(id, &order.currency, found)).collect();
    items.sort_by_key(|item| (item.requested_at, item.return_id));
    Ok(Json(ReturnsView { items }))
}
