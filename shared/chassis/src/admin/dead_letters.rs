//! Dead letters, to look at and to decide about.
//!
//! Lists and groups tell nothing that an event holds; one that is shown tells all, so this is for operators only.

use axum::Router;
use axum::extract::{FromRequest, Request, State};
use axum::http::{StatusCode, Uri, header};
use axum::routing::{get, post};
use messaging::dead_letters::{self as letters, Answer, DeadLetter, Filter, Group, Matching, Shown};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use uuid::Uuid;

use super::Admin;
use crate::{ApiError, FieldError, Json, Page, PageRequest, Path, Query};

/// Every state, as a list can be asked for it.
const STATES: [&str; 4] = ["dead", "parked", "redriven", "discarded"];
/// Who acts when nobody says.
const SOMEBODY: &str = "operator";
/// How many events a second are redriven unless the operator says otherwise, and at most.
const PER_SECOND: u32 = 100;
const MOST_PER_SECOND: u32 = 1_000;
/// The longest name, and the longest reason, in bytes.
const LONGEST: usize = 500;

pub(super) fn routes() -> Router<Admin> {
    Router::new()
        .route("/admin/dead-letters", get(list))
        .route("/admin/dead-letters/groups", get(groups))
        .route("/admin/dead-letters/redrive", post(redrive_matching))
        .route("/admin/dead-letters/{event_id}", get(show))
        .route("/admin/dead-letters/{event_id}/redrive", post(redrive_one))
        .route("/admin/dead-letters/{event_id}/discard", post(discard))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Asked {
    state: Option<String>,
    reason: Option<String>,
    event_type: Option<String>,
    limit: Option<String>,
    cursor: Option<String>,
}

async fn list(State(admin): State<Admin>, uri: Uri, Query(asked): Query<Asked>) -> Result<Page<DeadLetter>, ApiError> {
    let limit = PageRequest::of(asked.limit.as_deref())?.limit()?;
    if asked.state.as_deref().is_some_and(|state| !STATES.contains(&state)) {
        return Err(refused("state", format!("must be one of {}", STATES.join(", "))));
    }
    let before = asked.cursor.as_deref().map(str::parse).transpose();
    let filter = Filter {
        state: asked.state,
        reason: asked.reason,
        event_type: asked.event_type,
        before: before.map_err(|_| refused("cursor", "must be the next_cursor of another page"))?,
    };
    let found = letters::list(admin.db.pool(), admin.consumer(), &filter, limit + 1).await?;
    Ok(Page::new(found, limit, &uri, |letter| letter.id.to_string()))
}

async fn groups(State(admin): State<Admin>) -> Result<Json<Value>, ApiError> {
    let groups: Vec<Group> = letters::groups(admin.db.pool(), admin.consumer()).await?;
    Ok(Json(json!({ "items": groups })))
}

async fn show(State(admin): State<Admin>, Path(event_id): Path<Uuid>) -> Result<Json<Shown>, ApiError> {
    let found = letters::show(admin.db.pool(), admin.consumer(), event_id).await?;
    found.map(Json).ok_or_else(|| unknown(event_id))
}

/// What one event is to be redriven with; nothing needs to be said.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Redrive {
    by: Option<String>,
}

async fn redrive_one(
    State(admin): State<Admin>,
    Path(event_id): Path<Uuid>,
    Optional(asked): Optional<Redrive>,
) -> Result<(StatusCode, Json<Shown>), ApiError> {
    let who = who(asked.by)?;
    let answer = letters::redrive_one(&admin.db, admin.consumer(), event_id, &who).await?;
    accepted(answer, event_id, "dead-letter-not-redrivable")?;
    tracing::info!(%event_id, who, "a dead letter is to be redriven");
    let shown = show(State(admin), Path(event_id)).await?;
    Ok((StatusCode::ACCEPTED, shown))
}

/// Which events are to be redriven, and how.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RedriveMatching {
    reason: Option<String>,
    event_type: Option<String>,
    all: bool,
    dry_run: bool,
    per_second: Option<u32>,
    by: Option<String>,
}

async fn redrive_matching(
    State(admin): State<Admin>,
    Json(asked): Json<RedriveMatching>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let who = who(asked.by)?;
    let chosen = asked.reason.is_some() || asked.event_type.is_some();
    if chosen == asked.all {
        return Err(refused(
            "all",
            "must be true, unless a reason or an event_type is given",
        ));
    }
    let per_second = asked.per_second.unwrap_or(PER_SECOND);
    if !(1..=MOST_PER_SECOND).contains(&per_second) {
        return Err(refused(
            "per_second",
            format!("must be between 1 and {MOST_PER_SECOND}"),
        ));
    }
    let matching = Matching {
        reason: asked.reason,
        event_type: asked.event_type,
    };
    let consumer = admin.consumer();
    let events = letters::redrive_matching(&admin.db, consumer, &matching, per_second, &who, asked.dry_run).await?;
    if !asked.dry_run {
        tracing::info!(events, per_second, who, "dead letters are to be redriven");
    }
    let status = if asked.dry_run {
        StatusCode::OK
    } else {
        StatusCode::ACCEPTED
    };
    let answer = json!({ "events": events, "dry_run": asked.dry_run, "per_second": per_second });
    Ok((status, Json(answer)))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Discard {
    reason: String,
    by: Option<String>,
}

async fn discard(
    State(admin): State<Admin>,
    Path(event_id): Path<Uuid>,
    Json(asked): Json<Discard>,
) -> Result<Json<Shown>, ApiError> {
    let (who, reason) = (who(asked.by)?, text("reason", &asked.reason)?);
    let answer = letters::discard(&admin.db, admin.consumer(), event_id, &who, &reason).await?;
    accepted(answer, event_id, "dead-letter-closed")?;
    tracing::warn!(%event_id, who, "a dead letter is discarded");
    show(State(admin), Path(event_id)).await
}

impl Admin {
    /// The name of the inbox; a service that hears nothing has no dead letters either.
    fn consumer(&self) -> &'static str {
        self.hears.as_ref().map_or("", |hears| hears.service)
    }
}

fn accepted(answer: Answer, event_id: Uuid, slug: &'static str) -> Result<(), ApiError> {
    match answer {
        Answer::Accepted => Ok(()),
        Answer::Unknown => Err(unknown(event_id)),
        Answer::Refused(why) => Err(ApiError::conflict(slug, why)),
    }
}

fn unknown(event_id: Uuid) -> ApiError {
    ApiError::not_found(format!("there is no dead letter {event_id}"))
}

fn who(by: Option<String>) -> Result<String, ApiError> {
    by.map_or_else(|| Ok(SOMEBODY.to_owned()), |by| text("by", &by))
}

/// A text that says something, of a sensible length.
fn text(field: &str, said: &str) -> Result<String, ApiError> {
    let said = said.trim();
    if said.is_empty() || said.len() > LONGEST || said.contains(char::is_control) {
        let reason = format!("must be 1 to {LONGEST} bytes of text in one line");
        return Err(refused(field, reason));
    }
    Ok(said.to_owned())
}

fn refused(field: &str, reason: impl Into<String>) -> ApiError {
    ApiError::invalid(vec![FieldError::new(field, reason)])
}

/// A JSON body, or the default when there is none.
struct Optional<T>(T);

impl<S: Send + Sync, T: DeserializeOwned + Default> FromRequest<S> for Optional<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        if request.headers().contains_key(header::CONTENT_TYPE) {
            let Json(body) = Json::from_request(request, state).await?;
            return Ok(Self(body));
        }
        Ok(Self(T::default()))
    }
}
