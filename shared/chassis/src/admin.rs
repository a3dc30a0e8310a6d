//! The operator's side of a service, on a listener of its own that is never public.

mod dead_letters;

use std::time::Duration;

use async_nats::jetstream;
use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use messaging::provision::Hears;
use messaging::status::{InboxStatus, Lag};
use messaging::{Db, outbox, relay, status};
use serde::Serialize;
use tokio::sync::watch;

use crate::health::{Health, ready};
use crate::{ApiError, surface};

/// What the operator's endpoints look at.
#[derive(Clone)]
pub(crate) struct Admin {
    pub(crate) db: Db,
    pub(crate) jetstream: jetstream::Context,
    pub(crate) hears: Option<Hears>,
    pub(crate) relay: Option<(relay::Kind, watch::Receiver<relay::Standing>)>,
}

/// What waits to be published, and who should.
#[derive(Serialize)]
struct OutboxStatus {
    #[serde(flatten)]
    backlog: outbox::Backlog,
    /// None where nothing is ever published.
    relay: Option<relay::Status>,
}

pub(crate) fn routes(admin: Admin, health: Health) -> Router {
    let routes = Router::new()
        .route("/admin/outbox", get(outbox_status))
        .route("/admin/inbox", get(inbox_status))
        .route("/admin/consumers", get(consumers))
        .merge(dead_letters::routes());
    // Probes and scrapes are no part of any trace.
    let probes = Router::new()
        .route("/livez", get(|| async { "alive" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(|| async { telemetry::metrics::render() }));
    surface(routes.with_state(admin)).merge(probes.with_state(health))
}

async fn outbox_status(State(admin): State<Admin>) -> Result<Json<OutboxStatus>, ApiError> {
    let pool = admin.db.pool();
    let relay = match &admin.relay {
        Some((kind, standing)) => {
            let standing = standing.borrow().clone();
            Some(relay::Status::of(*kind, standing, pool).await?)
        }
        None => None,
    };
    let backlog = outbox::backlog(pool).await?;
    Ok(Json(OutboxStatus { backlog, relay }))
}

async fn inbox_status(State(admin): State<Admin>) -> Result<Json<InboxStatus>, ApiError> {
    Ok(Json(status::inbox(admin.db.pool()).await?))
}

async fn consumers(State(admin): State<Admin>) -> Result<Json<Vec<Lag>>, ApiError> {
    let Some(hears) = &admin.hears else {
        return Ok(Json(Vec::new()));
    };
    let asked = tokio::time::timeout(Duration::from_secs(3), status::lags(&admin.jetstream, hears)).await;
    match asked {
        Ok(Ok(lags)) => Ok(Json(lags)),
        _ => Err(ApiError::unavailable("the broker does not answer")),
    }
}
