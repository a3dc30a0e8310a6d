//! Refunds of returns over HTTP: what became of each, and the queue of those that an operator has to see to.

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use chassis::{ApiError, FieldError, Json, Page, PageRequest, Path, Query};
use chrono::{DateTime, Utc};
use messaging::Touched;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::App;
use crate::domain::{Payments, Retry};
use crate::store::{self, ReturnRefundRow};

/// The states that the queue can be asked for.
const STATES: [&str; 3] = ["DUE", "DONE", "REFUSED"];

/// The routes of refunds.
pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list_refunds))
        .routes(routes!(retry))
}

/// The refund of a return as outsiders see it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RefundView {
    return_id: Uuid,
    refund_id: Uuid,
    order_id: Uuid,
    amount: i64,
    /// REFUSED: the gateway will not, and an operator has to have it tried again.
    state: String,
    attempts: i32,
    trouble: Option<String>,
    state_since: DateTime<Utc>,
}

impl From<ReturnRefundRow> for RefundView {
    fn from(row: ReturnRefundRow) -> Self {
        let ReturnRefundRow {
            return_id,
            refund_id,
            order_id,
            amount,
            state,
            attempts,
            trouble,
            state_since,
        } = row;
        Self {
            return_id,
            refund_id,
            order_id,
            amount,
            state,
            attempts,
            trouble,
            state_since,
        }
    }
}

/// Which refunds to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct InState {
    /// DUE, DONE or REFUSED.
    #[param(pattern = "^(DUE|DONE|REFUSED)$")]
    state: String,
}

/// The refunds of returns that are in this state.
#[utoipa::path(
    get, path = "/v1/refunds", tag = "refunds", params(InState, PageRequest),
    responses((status = 200, description = "A page of refunds.", body = Page<RefundView>,
        headers(("Link" = Option<String>, description = "The next page, `rel=\"next\"`, unless this is the last.")))),
)]
async fn list_refunds(
    State(app): State<App>,
    Query(page): Query<PageRequest>,
    Query(InState { state }): Query<InState>,
    uri: Uri,
) -> Result<Page<RefundView>, ApiError> {
    let limit = page.limit()?;
    let refused = |field, reason: &str| ApiError::invalid(vec![FieldError::new(field, reason)]);
    if !STATES.contains(&state.as_str()) {
        return Err(refused("state", "must be one of DUE, DONE, REFUSED"));
    }
    let after = page.cursor.as_deref().map(str::parse).transpose();
    let after = after.map_err(|_| refused("cursor", "is not one of ours"))?;
    let rows = store::return_refunds_in_state(app.db.pool(), &state, after, limit + 1).await?;
    let items = rows.into_iter().map(RefundView::from).collect();
    Ok(Page::new(items, limit, &uri, |refund: &RefundView| {
        refund.return_id.to_string()
    }))
}

/// Has a refused refund tried again, once somebody has seen to the reason.
#[utoipa::path(
    post, path = "/v1/payments/{order_id}/refunds/{return_id}/retry", tag = "refunds", operation_id = "retry_refund",
    params(
        ("order_id" = Uuid, Path, description = "The order."),
        ("return_id" = Uuid, Path, description = "The return."),
    ),
    responses((status = 202, description = "It is tried again.", body = RefundView)),
    extensions(("x-problems" = json!(["refund-not-refused"]))),
)]
async fn retry(
    State(app): State<App>,
    Path((order_id, return_id)): Path<(Uuid, Uuid)>,
) -> Result<(StatusCode, Json<RefundView>), ApiError> {
    let try_again = move |payments: &mut Payments| (payments.retry_return_refund(order_id, return_id), ());
    match app.decisions.decide(Touched::order(order_id), try_again).await? {
        Retry::UnderWay => {}
        Retry::NotRefused(state) => {
            let detail = format!("the refund is {}", state.as_str());
            return Err(ApiError::conflict("refund-not-refused", detail));
        }
        Retry::Unknown => return Err(unknown()),
    }
    let refunds = store::return_refunds(app.db.pool(), order_id).await?;
    let refund = refunds
        .into_iter()
        .find(|refund| refund.return_id == return_id)
        .ok_or_else(unknown)?;
    tracing::info!(%order_id, %return_id, "an operator has a refund tried again");
    Ok((StatusCode::ACCEPTED, Json(RefundView::from(refund))))
}

fn unknown() -> ApiError {
    ApiError::not_found("there is no refund of this return")
}
