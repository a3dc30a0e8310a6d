//! HTTP in: what became of an order's parcel, and the warehouse's work done by hand.

mod returns;

use axum::Router;
use axum::body::HttpBody;
use axum::extract::{FromRequest, Request, State as AppState};
use chassis::{ApiError, FieldError, Json, Path, openapi};
use chrono::{DateTime, Utc};
use events::Line;
use messaging::{Db, Decisions, Touched};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::clients::Carrier;
use crate::domain::{Shipment, State, Warehouse};
use crate::store;

/// What the handlers need.
#[derive(Clone)]
pub struct App {
    /// For reading.
    pub db: Db,
    /// For changing.
    pub decisions: Decisions<Warehouse>,
    /// Who takes the parcels.
    pub carrier: Carrier,
}

/// What the service is for, as its document says.
const ABOUT: &str = "Packs parcels, hands them to the carrier, and knows where they are.";

/// The routes of the warehouse service, and their document.
pub fn routes(app: App) -> Router {
    openapi::serve("warehouse", ABOUT, documented(), app)
}

/// The document of the warehouse service.
pub fn document() -> Value {
    openapi::document("warehouse", ABOUT, documented().into_openapi())
}

fn documented() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(show_shipment))
        .routes(routes!(dispatch))
        .routes(routes!(deliver))
        .routes(routes!(fail))
        .merge(returns::routes())
}

/// A shipment as outsiders see it; where it goes is not theirs to know.
#[derive(Debug, Serialize, ToSchema)]
struct ShipmentView {
    order_id: Uuid,
    /// None when it was undone before it was asked for.
    shipment_id: Option<Uuid>,
    state: &'static str,
    carrier: Option<String>,
    /// None until the carrier has it.
    tracking: Option<String>,
    lines: Vec<Line>,
    state_since: DateTime<Utc>,
}

impl ShipmentView {
    fn of(order_id: Uuid, shipment: Shipment, state_since: DateTime<Utc>) -> Self {
        let parcel = shipment.parcel;
        Self {
            order_id,
            shipment_id: parcel.as_ref().map(|parcel| parcel.shipment_id),
            state: shipment.state.as_str(),
            carrier: parcel.as_ref().map(|parcel| parcel.carrier.clone()),
            tracking: parcel.as_ref().and_then(|parcel| parcel.tracking.clone()),
            lines: parcel.map(|parcel| parcel.lines).unwrap_or_default(),
            state_since,
        }
    }
}

async fn known(app: &App, order_id: Uuid) -> Result<(Shipment, DateTime<Utc>), ApiError> {
    let found = store::shipment(app.db.pool(), order_id).await?;
    found.ok_or_else(|| ApiError::not_found("nothing was ever asked of us for this order"))
}

/// The parcel of an order.
#[utoipa::path(
    get, path = "/v1/shipments/{order_id}", tag = "shipments", params(("order_id" = Uuid, Path, description = "The order.")),
    responses((status = 200, description = "The shipment.", body = ShipmentView)),
)]
async fn show_shipment(
    AppState(app): AppState<App>,
    Path(order_id): Path<Uuid>,
) -> Result<Json<ShipmentView>, ApiError> {
    let (shipment, since) = known(&app, order_id).await?;
    Ok(Json(ShipmentView::of(order_id, shipment, since)))
}

/// Hands a scheduled parcel to the carrier; the answer is the same when it was handed over before.
#[utoipa::path(
    post, path = "/v1/shipments/{order_id}/dispatch", tag = "shipments", operation_id = "dispatch_shipment", params(("order_id" = Uuid, Path, description = "The order.")),
    responses((status = 200, description = "The shipment as it is now.", body = ShipmentView)),
    extensions(("x-problems" = json!(["shipment-not-in-state"]))),
)]
async fn dispatch(AppState(app): AppState<App>, Path(order_id): Path<Uuid>) -> Result<Json<ShipmentView>, ApiError> {
    let (shipment, _) = known(&app, order_id).await?;
    let parcel = shipment.parcel.as_ref();
    if let Some((parcel, ship_to)) = parcel.and_then(|parcel| Some((parcel, parcel.ship_to.as_ref()?))) {
        let handed_over = app.carrier.hand_over(parcel.shipment_id, ship_to).await;
        let handover = handed_over.map_err(|error| {
            tracing::warn!(error = format!("{error:#}"), "the carrier cannot be reached");
            ApiError::unavailable("the carrier cannot be reached, try again")
        })?;
        let settle = move |warehouse: &mut Warehouse| ((), warehouse.settle(order_id, &handover));
        app.decisions.decide(Touched::order(order_id), settle).await?;
    }
    reached(&app, order_id, &[State::Dispatched, State::Delivered]).await
}

/// Sees a dispatched parcel arrive; the answer is the same when it had arrived before.
#[utoipa::path(
    post, path = "/v1/shipments/{order_id}/deliver", tag = "shipments", operation_id = "deliver_shipment", params(("order_id" = Uuid, Path, description = "The order.")),
    responses((status = 200, description = "The shipment as it is now.", body = ShipmentView)),
    extensions(("x-problems" = json!(["shipment-not-in-state"]))),
)]
async fn deliver(AppState(app): AppState<App>, Path(order_id): Path<Uuid>) -> Result<Json<ShipmentView>, ApiError> {
    let now = store::clock(app.db.pool()).await?;
    let settle = move |warehouse: &mut Warehouse| ((), warehouse.deliver(order_id, now));
    app.decisions.decide(Touched::order(order_id), settle).await?;
    reached(&app, order_id, &[State::Delivered]).await
}

/// Why a parcel is given up.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Failure {
    /// Why; `failed_by_hand` unless said.
    #[schema(example = "damaged", pattern = "^[a-z0-9_]{1,64}$")]
    code: Option<String>,
}

/// Gives up a scheduled parcel; the body may be left out. The answer is the same when it had failed before.
#[utoipa::path(
    post, path = "/v1/shipments/{order_id}/fail", tag = "shipments", operation_id = "fail_shipment", params(("order_id" = Uuid, Path, description = "The order.")),
    request_body(content = Option<Failure>, description = "May be left out."),
    responses((status = 200, description = "The shipment as it is now.", body = ShipmentView)),
    extensions(("x-problems" = json!(["shipment-not-in-state"]))),
)]
async fn fail(
    AppState(app): AppState<App>,
    Path(order_id): Path<Uuid>,
    request: Request,
) -> Result<Json<ShipmentView>, ApiError> {
    let Json(Failure { code }) = if request.body().is_end_stream() {
        Json(Failure::default())
    } else {
        Json::from_request(request, &()).await?
    };
    let code = code.unwrap_or_else(|| "failed_by_hand".into());
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if !(1..=64).contains(&code.len()) || !code.bytes().all(legal) {
        let reason = "must be 1 to 64 lower-case letters, digits or '_'";
        return Err(ApiError::invalid(vec![FieldError::new("code", reason)]));
    }
    let give_up = move |warehouse: &mut Warehouse| ((), warehouse.fail(order_id, &code));
    app.decisions.decide(Touched::order(order_id), give_up).await?;
    reached(&app, order_id, &[State::Failed]).await
}

/// The shipment if it is where the request wanted it; a refusal that says where it is instead.
async fn reached(app: &App, order_id: Uuid, wanted: &[State]) -> Result<Json<ShipmentView>, ApiError> {
    let (shipment, since) = known(app, order_id).await?;
    if wanted.contains(&shipment.state) {
        return Ok(Json(ShipmentView::of(order_id, shipment, since)));
    }
    let detail = format!("the shipment is {}", shipment.state.as_str());
    Err(ApiError::conflict("shipment-not-in-state", detail))
}
