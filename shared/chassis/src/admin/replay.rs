//! Replays of a service's projection, to ask for and to look at.

use axum::Router;
use axum::extract::{FromRequest, Request, State};
use axum::http::{StatusCode, header};
use axum::routing::get;
use messaging::replay::{Plan, Replays, Report};
use serde_json::{Value, json};

use super::Admin;
use crate::{ApiError, FieldError, Json};

/// Whether a service can be replayed.
#[derive(Clone)]
pub(crate) enum Replay {
    /// It does something about what it hears, and would do it again.
    Refused(&'static str),
    /// It only projects.
    Offered(Replays),
}

pub(super) fn routes() -> Router<Admin> {
    Router::new().route("/admin/replay", get(look).post(start))
}

async fn look(State(admin): State<Admin>) -> Result<Json<Value>, ApiError> {
    match &admin.replay {
        Replay::Offered(replays) => Ok(Json(shown(&replays.look())?)),
        Replay::Refused(reason) => Ok(Json(json!({ "replayable": false, "reason": reason }))),
    }
}

async fn start(State(admin): State<Admin>, request: Request) -> Result<(StatusCode, Json<Value>), ApiError> {
    let replays = match &admin.replay {
        Replay::Offered(replays) => replays,
        Replay::Refused(reason) => return Err(ApiError::conflict("not-replayable", *reason)),
    };
    // Everything is what is meant when nothing is said.
    let plan = match request.headers().contains_key(header::CONTENT_TYPE) {
        true => Json::<Plan>::from_request(request, &()).await?.0,
        false => Plan::default(),
    };
    let period = plan.since.is_some() || plan.until.is_some();
    if plan.order.is_some() && period {
        let field = FieldError::new("order", "is one order, or there is a period, not both");
        return Err(ApiError::invalid(vec![field]));
    }
    if plan.order.is_none() && !replays.own_the_tables().await? {
        let detail = "the role of this service does not own its tables: OWNER_DATABASE_URL names the one that does";
        return Err(ApiError::conflict("replay-needs-owner", detail));
    }
    if !replays.start(plan) {
        return Err(ApiError::conflict(
            "replay-under-way",
            "a replay is under way: GET shows how far it is",
        ));
    }
    Ok((StatusCode::ACCEPTED, Json(shown(&replays.look())?)))
}

fn shown(report: &Report) -> Result<Value, ApiError> {
    serde_json::to_value(report).map_err(ApiError::internal)
}
