//! Whether the service can take requests.

use std::sync::Arc;
use std::time::Duration;

use async_nats::connection::State as Connection;
use async_nats::jetstream;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use messaging::provision::Hears;
use messaging::{Db, status};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

/// How long the database or the broker may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// How long an answer of the broker counts.
const KNOWN_FOR: Duration = Duration::from_secs(1);

/// What readiness depends on.
#[derive(Clone)]
pub(crate) struct Health {
    pub(crate) db: Db,
    pub(crate) broker: Broker,
    /// From here on the service is ending.
    pub(crate) ending: CancellationToken,
}

/// Ready means: can take requests. Without the broker it still can, events wait in the outbox.
pub(crate) async fn ready(State(health): State<Health>) -> (StatusCode, Json<Value>) {
    let ping = sqlx::query("select 1").execute(health.db.pool());
    let (database, broker) = tokio::join!(timeout(ANSWER_WITHIN, ping), health.broker.answers());
    let database = matches!(database, Ok(Ok(_)));
    let (code, status) = match (health.ending.is_cancelled(), database, broker) {
        (true, ..) => (StatusCode::SERVICE_UNAVAILABLE, "ending"),
        (false, false, _) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        (false, true, false) => (StatusCode::OK, "degraded"),
        (false, true, true) => (StatusCode::OK, "ready"),
    };
    let body = json!({ "status": status, "database": database, "broker": broker });
    (code, Json(body))
}

/// The broker, asked at most once a second.
#[derive(Clone)]
pub(crate) struct Broker {
    jetstream: jetstream::Context,
    hears: Option<Hears>,
    known: Arc<Mutex<Option<(Instant, bool)>>>,
}

impl Broker {
    pub(crate) fn new(jetstream: jetstream::Context, hears: Option<Hears>) -> Self {
        Self {
            jetstream,
            hears,
            known: Arc::default(),
        }
    }

    async fn answers(&self) -> bool {
        let mut known = self.known.lock().await;
        if let Some((at, answered)) = *known
            && at.elapsed() < KNOWN_FOR
        {
            return answered;
        }
        let answered = timeout(ANSWER_WITHIN, self.ask()).await.unwrap_or(false);
        *known = Some((Instant::now(), answered));
        answered
    }

    /// A client that says it is connected may have lost the task that writes, and a socket may have nobody at its
    /// other end: only an answer proves the connection.
    async fn ask(&self) -> bool {
        let client = self.jetstream.client();
        if client.connection_state() != Connection::Connected || client.flush().await.is_err() {
            return false;
        }
        match &self.hears {
            Some(hears) => status::lags(&self.jetstream, hears).await.is_ok(),
            None => true,
        }
    }
}
