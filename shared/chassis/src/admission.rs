//! Who is let in: what cannot be done in time is refused at once, so that nobody hangs.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use messaging::{Db, outbox};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::ApiError;

/// How many requests are here at a time.
const AT_ONCE: usize = 512;
/// How many of them are worked on. The others wait without holding anything: if all went on at once they would starve
/// each other of the few connections to the database, and none would be done in time.
const AT_WORK: usize = 128;
/// How long a request waits for its turn.
const TURN_WITHIN: Duration = Duration::from_secs(3);
/// How often the outbox is measured.
const MEASURE: Duration = Duration::from_secs(1);
/// How long that may take: a link that has died in silence does not end the measuring.
const MEASURED_WITHIN: Duration = Duration::from_secs(5);

/// Refuses what would have to wait: too many requests at a time, and changes whose events could not be told.
#[derive(Debug, Clone)]
pub struct Admission {
    room: Arc<Semaphore>,
    turns: Arc<Semaphore>,
    oldest_ms: Arc<AtomicI64>,
    limit_ms: i64,
}

impl Admission {
    /// Lets everything in until the outbox's oldest event is older than this.
    pub fn until(outbox_age: Duration) -> Self {
        Self {
            room: Arc::new(Semaphore::new(AT_ONCE)),
            turns: Arc::new(Semaphore::new(AT_WORK)),
            oldest_ms: Arc::default(),
            limit_ms: i64::try_from(outbox_age.as_millis()).unwrap_or(i64::MAX),
        }
    }

    /// At most so many requests at a time.
    #[must_use]
    pub fn at_once(self, requests: usize) -> Self {
        let room = Arc::new(Semaphore::new(requests));
        Self { room, ..self }
    }

    /// Stands in front of these routes.
    pub fn guard(&self, routes: Router) -> Router {
        routes.layer(middleware::from_fn_with_state(self.clone(), admit))
    }

    /// Measures the outbox once a second, for the guard and for `/metrics`.
    pub async fn measure(self, db: Db, shutdown: CancellationToken) {
        let meter = telemetry::metrics::meter();
        let age = meter.f64_gauge("shop.outbox.age").with_unit("s");
        let age = age
            .with_description("Age of the oldest event that is not published")
            .build();
        let depth = meter.i64_gauge("shop.outbox.depth");
        let depth = depth
            .with_description("Events that are not published, counted up to 10,000")
            .build();
        let mut clock = tokio::time::interval(MEASURE);
        clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = clock.tick() => {}
            }
            // Without its database the service refuses by itself; the last measurement stands.
            if let Ok(Ok(backlog)) = timeout(MEASURED_WITHIN, outbox::backlog(db.pool())).await {
                self.oldest_ms.store(backlog.oldest_ms, Ordering::Relaxed);
                age.record(backlog.oldest_ms as f64 / 1000.0, &[]);
                depth.record(backlog.depth, &[]);
            }
        }
    }

    fn is_behind(&self) -> bool {
        self.oldest_ms.load(Ordering::Relaxed) > self.limit_ms
    }
}

async fn admit(State(admission): State<Admission>, request: Request, next: Next) -> Response {
    let Ok(_place) = admission.room.try_acquire() else {
        return ApiError::overloaded("too many requests are under way, try again").into_response();
    };
    if !request.method().is_safe() && admission.is_behind() {
        let detail = "what was accepted before has not been passed on for too long, try again";
        return ApiError::overloaded(detail).into_response();
    }
    let Ok(Ok(_turn)) = timeout(TURN_WITHIN, admission.turns.acquire()).await else {
        return ApiError::overloaded("too many requests wait, try again").into_response();
    };
    next.run(request).await
}
