//! An order's states as they come, as Server-Sent Events.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use chassis::{ApiError, FieldError, Path};
use futures_util::{Stream, StreamExt};
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::StrDeserializer;
use serde_json::json;
use tokio::time::{sleep, timeout};
use utoipa::ToSchema;
use uuid::Uuid;

use super::follow::{Following, WITHIN};
use super::{App, unknown_order};
use crate::domain::State as OrderState;
use crate::store::{self, PastState};

/// How often a stream shows that it is alive.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How long a client waits before it comes back.
const COME_BACK: Duration = Duration::from_secs(2);
/// How long after the database failed it is asked again.
const AGAIN: Duration = Duration::from_secs(1);
/// The number of the last event that a client has seen.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// One event of the stream.
#[derive(ToSchema)]
#[allow(dead_code)] // Events are written by hand; this is what they look like.
struct StateEvent {
    /// The order's version: what to send as `Last-Event-ID`.
    #[schema(pattern = "^[1-9][0-9]*$")]
    id: String,
    /// JSON with `order_id`, `version`, `state`, `reason` and `changed_at`.
    #[schema(content_media_type = "application/json")]
    data: String,
}

/// Tells every state of an order, past and to come, until a terminal one.
///
/// Server-Sent Events: `id` is the order's version, `data` is JSON with `order_id`, `version`, `state`, `reason` and
/// `changed_at`. A client that comes back with `Last-Event-ID` misses nothing and hears nothing twice. A comment every
/// 15 seconds shows that the stream is alive. 204 means that nothing more will come.
#[utoipa::path(
    get, path = "/v1/orders/{id}/events", tag = "orders", operation_id = "follow_order",
    params(
        ("id" = Uuid, Path, description = "The order."),
        ("Last-Event-ID" = Option<i64>, Header, minimum = 0, description = "The last version that was seen."),
    ),
    responses(
        (status = 200, description = "The states, as they come; the schema is that of one event.", body = StateEvent,
            content_type = "text/event-stream"),
        (status = 204, description = "Every state was seen, and no other will follow."),
    ),
    extensions(("x-problems" = json!(["invalid-request"]))),
)]
pub(super) async fn follow_order(
    State(app): State<Arc<App>>,
    Path(id): Path<Uuid>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let seen = last_seen(&headers)?;
    // Followed before it is read: what changes in between is read twice rather than never, and told once.
    let following = app.followed.follow(id)?;
    let order = store::order(app.db.pool(), id).await?.ok_or_else(unknown_order)?;
    let states = store::states_after(app.db.pool(), id, seen).await?;
    if states.is_empty() && order.state().is_terminal() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let follower = Follower {
        app,
        id,
        seen,
        waiting: states.into(),
        following,
        told_all: false,
    };
    let first = Event::default().retry(COME_BACK);
    let events = futures_util::stream::once(async { Ok(first) }).chain(follower.events());
    let headers = [
        (header::CACHE_CONTROL, "no-store"),
        // A proxy that collects an answer before it passes it on would keep it for ever.
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    let events = Sse::new(events).keep_alive(KeepAlive::new().interval(HEARTBEAT));
    Ok((headers, events).into_response())
}

/// What was seen already; 0 when nothing was.
fn last_seen(headers: &HeaderMap) -> Result<i64, ApiError> {
    let Some(value) = headers.get(LAST_EVENT_ID) else {
        return Ok(0);
    };
    let version = value.to_str().ok().and_then(|text| text.parse().ok());
    version.filter(|version| *version >= 0).ok_or_else(|| {
        let reason = "must be the id of an event of this stream";
        ApiError::invalid(vec![FieldError::new("Last-Event-ID", reason)])
    })
}

/// One client; what it holds does not grow with the stream.
struct Follower {
    app: Arc<App>,
    id: Uuid,
    seen: i64,
    waiting: VecDeque<PastState>,
    following: Following,
    told_all: bool,
}

impl Follower {
    fn events(self) -> impl Stream<Item = Result<Event, Infallible>> {
        futures_util::stream::unfold(self, |mut follower| async {
            let state = follower.next().await?;
            let event = event(follower.id, &state);
            Some((Ok(event), follower))
        })
    }

    /// The next state; none after a terminal one, and when the service ends.
    async fn next(&mut self) -> Option<PastState> {
        loop {
            if let Some(state) = self.waiting.pop_front() {
                self.seen = state.version;
                self.told_all = self.waiting.is_empty() && is_terminal(&state.state);
                return Some(state);
            }
            if self.told_all || self.following.news.changed().await.is_err() {
                return None;
            }
            let read = timeout(WITHIN, store::states_after(self.app.db.pool(), self.id, self.seen)).await;
            match read.unwrap_or(Err(sqlx::Error::PoolTimedOut)) {
                Ok(states) => self.waiting = states.into(),
                Err(error) => {
                    tracing::warn!(%error, "a follower waits for the database");
                    sleep(AGAIN).await;
                    self.following.news.mark_changed();
                }
            }
        }
    }
}

fn event(order_id: Uuid, past: &PastState) -> Event {
    let PastState {
        version,
        state,
        reason,
        changed_at,
    } = past;
    let data = json!({
        "order_id": order_id, "version": version, "state": state, "reason": reason, "changed_at": changed_at,
    });
    Event::default().id(version.to_string()).data(data.to_string())
}

fn is_terminal(word: &str) -> bool {
    let word: StrDeserializer<'_, serde::de::value::Error> = word.into_deserializer();
    OrderState::deserialize(word).is_ok_and(OrderState::is_terminal)
}
