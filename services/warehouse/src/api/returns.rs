//! Returns over HTTP: what became of one, and the work of the returns desk done by hand.

use axum::body::HttpBody;
use axum::extract::{FromRequest, Request, State as AppState};
use chassis::{ApiError, FieldError, Json, Path};
use chrono::{DateTime, Utc};
use either::Either;
use events::{Line, ReturnReceived, ReturnRejected, ReturnedLine};
use messaging::Touched;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::App;
use crate::domain::{Mismatch, Return, ReturnState, Warehouse};
use crate::store;

/// The routes of the returns desk.
pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(show_return))
        .routes(routes!(receive))
        .routes(routes!(reject))
}

/// A return as outsiders see it.
#[derive(Debug, Serialize, ToSchema)]
struct ReturnView {
    return_id: Uuid,
    order_id: Uuid,
    state: &'static str,
    lines: Vec<Line>,
    reason: String,
    /// What was found in the parcel; empty while it is awaited.
    found: Vec<ReturnedLine>,
    /// What they are to be paid back, in minor units.
    refundable: i64,
    state_since: DateTime<Utc>,
}

async fn known(app: &App, return_id: Uuid) -> Result<(Return, DateTime<Utc>), ApiError> {
    let found = store::one_return(app.db.pool(), return_id).await?;
    found.ok_or_else(|| ApiError::not_found("no such return was announced to us"))
}

/// What became of goods that are sent back.
#[utoipa::path(
    get, path = "/v1/returns/{return_id}", tag = "returns",
    params(("return_id" = Uuid, Path, description = "The return.")),
    responses((status = 200, description = "The return.", body = ReturnView)),
)]
async fn show_return(AppState(app): AppState<App>, Path(return_id): Path<Uuid>) -> Result<Json<ReturnView>, ApiError> {
    let (parcel, state_since) = known(&app, return_id).await?;
    Ok(Json(ReturnView {
        return_id,
        order_id: parcel.order_id,
        state: parcel.state.as_str(),
        lines: parcel.lines,
        reason: parcel.reason,
        found: parcel.found,
        refundable: parcel.refundable,
        state_since,
    }))
}

/// What was found in the parcel.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Found {
    lines: Option<Vec<FoundLine>>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct FoundLine {
    sku: String,
    quantity: i32,
    condition: String,
}

/// Takes the goods back; without a body, all of them as good as new. The answer is the same when that was done before.
#[utoipa::path(
    post, path = "/v1/returns/{return_id}/receive", tag = "returns", operation_id = "receive_return",
    params(("return_id" = Uuid, Path, description = "The return.")),
    request_body(content = Option<Found>, description = "May be left out."),
    responses((status = 200, description = "The return as it is now.", body = ReturnView)),
    extensions(("x-problems" = json!(["return-not-in-state"]))),
)]
async fn receive(
    AppState(app): AppState<App>,
    Path(return_id): Path<Uuid>,
    request: Request,
) -> Result<Json<ReturnView>, ApiError> {
    let (parcel, _) = known(&app, return_id).await?;
    let Json(Found { lines }) = if request.body().is_end_stream() {
        Json(Found::default())
    } else {
        Json::from_request(request, &()).await?
    };
    let found: Option<Vec<ReturnedLine>> = lines.map(|lines| lines.into_iter().map(ReturnedLine::from).collect());
    if let Some(found) = &found {
        parcel.check(found).map_err(refused)?;
    }
    let take_back = move |warehouse: &mut Warehouse| match &found {
        Some(found) => warehouse.receive(return_id, found),
        None => warehouse.receive_unopened(return_id),
    };
    settle(
        &app,
        return_id,
        parcel.order_id,
        ReturnState::Received,
        move |warehouse| take_back(warehouse).map(Either::Left),
    )
    .await
}

/// Refuses the goods; the answer is the same when that was done before.
#[utoipa::path(
    post, path = "/v1/returns/{return_id}/reject", tag = "returns", operation_id = "reject_return",
    params(("return_id" = Uuid, Path, description = "The return.")),
    responses((status = 200, description = "The return as it is now.", body = ReturnView)),
    extensions(("x-problems" = json!(["return-not-in-state"]))),
)]
async fn reject(AppState(app): AppState<App>, Path(return_id): Path<Uuid>) -> Result<Json<ReturnView>, ApiError> {
    let (parcel, _) = known(&app, return_id).await?;
    settle(
        &app,
        return_id,
        parcel.order_id,
        ReturnState::Rejected,
        move |warehouse| warehouse.reject(return_id).map(Either::Right),
    )
    .await
}

/// Does it, and shows the return if it is where the request wanted it; a refusal says where it is instead.
async fn settle(
    app: &App,
    return_id: Uuid,
    order_id: Uuid,
    wanted: ReturnState,
    decide: impl Fn(&mut Warehouse) -> Option<Either<ReturnReceived, ReturnRejected>> + Send + 'static,
) -> Result<Json<ReturnView>, ApiError> {
    let decided = move |warehouse: &mut Warehouse| ((), decide(warehouse));
    app.decisions.decide(Touched::order(order_id), decided).await?;
    let (parcel, _) = known(app, return_id).await?;
    if parcel.state == wanted {
        return show_return(AppState(app.clone()), Path(return_id)).await;
    }
    let detail = format!("the return is {}", parcel.state.as_str());
    Err(ApiError::conflict("return-not-in-state", detail))
}

impl From<FoundLine> for ReturnedLine {
    fn from(
        FoundLine {
            sku,
            quantity,
            condition,
        }: FoundLine,
    ) -> Self {
        Self {
            sku,
            quantity,
            condition,
        }
    }
}

fn refused(mismatch: Mismatch) -> ApiError {
    let reason = match mismatch {
        Mismatch::Condition => "must each be resellable or damaged",
        Mismatch::Pieces => "must be every piece that was announced, and no other",
    };
    ApiError::invalid(vec![FieldError::new("lines", reason)])
}
