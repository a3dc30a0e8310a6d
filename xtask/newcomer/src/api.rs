//! HTTP in: how many points there are, and for what.

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use chassis::{ApiError, Json, Path};
use messaging::Db;
use serde::Serialize;

use crate::store;

/// What the handlers need.
#[derive(Clone)]
pub struct App {
    /// For reading.
    pub db: Db,
}

/// The routes of the newcomer service.
pub fn routes(app: App) -> Router {
    Router::new()
        .route("/v1/points", get(show_totals))
        .route("/v1/points/{subject}", get(show_points))
        .with_state(app)
}

/// All points there are.
#[derive(Debug, Serialize)]
struct TotalsView {
    accounts: i64,
    points: i64,
}

async fn show_totals(State(app): State<App>) -> Result<Json<TotalsView>, ApiError> {
    let (accounts, points) = store::totals(app.db.pool()).await?;
    Ok(Json(TotalsView { accounts, points }))
}

/// What was earned for one subject.
#[derive(Debug, Serialize)]
struct PointsView {
    subject: String,
    points: i64,
}

async fn show_points(State(app): State<App>, Path(subject): Path<String>) -> Result<Json<PointsView>, ApiError> {
    let earned = store::points(app.db.pool(), &subject).await?;
    let points = earned.ok_or_else(|| ApiError::not_found("nothing was ever earned for this"))?;
    Ok(Json(PointsView { subject, points }))
}
