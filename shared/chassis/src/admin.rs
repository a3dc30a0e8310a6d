//! The operator's side of a service, on a listener of its own that is never public.

mod dead_letters;
mod replay;

use std::time::Duration;

use async_nats::jetstream;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::middleware::map_response;
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use events::contract::Contract;
use messaging::provision::Hears;
use messaging::status::{InboxStatus, Lag};
use messaging::{Db, outbox, relay, status};
use serde::Serialize;
use tokio::sync::watch;

pub(crate) use replay::Replay;

use crate::health::{Health, ready};
use crate::http::TRACE_ID;
use crate::{ApiError, contract, surface};

/// What the operator's endpoints look at.
#[derive(Clone)]
pub(crate) struct Admin {
    pub(crate) db: Db,
    pub(crate) jetstream: jetstream::Context,
    pub(crate) hears: Option<Hears>,
    pub(crate) contract: Contract,
    pub(crate) replay: Replay,
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
        .route("/admin/schemas", get(contract::show))
        .merge(dead_letters::routes())
        .merge(replay::routes());
    // Probes and scrapes are no part of any trace.
    let probes = Router::new()
        .route("/livez", get(|| async { "alive" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(|| async { telemetry::metrics::render() }));
    let probes = probes.with_state(health).layer(map_response(numbered));
    surface(routes.with_state(admin)).merge(probes)
}

/// Every answer carries a trace id; that of a probe names no trace.
async fn numbered(mut response: Response) -> Response {
    let id = format!("{:032x}", fastrand::u128(1..));
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(TRACE_ID, id);
    }
    response
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
