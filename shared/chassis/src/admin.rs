//! The operator's side of a service, on a listener of its own that is never public.

use std::time::Duration;

use async_nats::connection::State as Connection;
use async_nats::jetstream;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use messaging::provision::Hears;
use messaging::status::{DeadLetter, InboxStatus, Lag};
use messaging::{Db, outbox, status};
use serde_json::{Value, json};

use crate::{ApiError, surface};

/// What the operator's endpoints look at.
#[derive(Clone)]
pub(crate) struct Admin {
    pub(crate) db: Db,
    pub(crate) jetstream: jetstream::Context,
    pub(crate) hears: Option<Hears>,
}

pub(crate) fn routes(admin: Admin) -> Router {
    let routes = Router::new()
        .route("/admin/outbox", get(outbox_backlog))
        .route("/admin/inbox", get(inbox_status))
        .route("/admin/consumers", get(consumers))
        .route("/admin/dead-letters", get(dead_letters));
    // Probes and scrapes are no part of any trace.
    let probes = Router::new()
        .route("/livez", get(|| async { "alive" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(|| async { telemetry::metrics::render() }));
    surface(routes.with_state(admin.clone())).merge(probes.with_state(admin))
}

/// Ready means: can take requests. Without the broker it still can, events wait in the outbox.
async fn ready(State(admin): State<Admin>) -> (StatusCode, Json<Value>) {
    let ping = sqlx::query("select 1").execute(admin.db.pool());
    let database = matches!(tokio::time::timeout(Duration::from_secs(1), ping).await, Ok(Ok(_)));
    let broker = admin.jetstream.client().connection_state() == Connection::Connected;
    let status = match (database, broker) {
        (true, true) => "ready",
        (true, false) => "degraded",
        (false, _) => "unavailable",
    };
    let code = if database {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (
        code,
        Json(json!({ "status": status, "database": database, "broker": broker })),
    )
}

async fn outbox_backlog(State(admin): State<Admin>) -> Result<Json<outbox::Backlog>, ApiError> {
    Ok(Json(outbox::backlog(admin.db.pool()).await?))
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

async fn dead_letters(State(admin): State<Admin>) -> Result<Json<Vec<DeadLetter>>, ApiError> {
    Ok(Json(status::dead_letters(admin.db.pool()).await?))
}
