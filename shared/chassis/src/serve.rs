//! Serving HTTP/1.1: what a connection may take and for how long, and how all of them end.
//!
//! `axum::serve` waits for ever for a request's head and takes any number of connections, hence this.
//! HTTP/2 is spoken by whatever stands in front.

mod wire;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, Request, header};
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use wire::{Pace, Wire};

/// The longest request line and headers, in bytes, and the most headers.
const LARGEST_HEAD: usize = 32 << 10;
const MOST_HEADERS: usize = 100;
/// How long a connection may still wait for its first byte once no new ones are accepted.
const FIRST_WORD: Duration = Duration::from_millis(500);
/// How many connections beyond the limit are told so at a time; more are just closed.
const REFUSED_AT_ONCE: usize = 64;

/// What a listener allows.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How many connections at a time; the next one is answered 503.
    pub connections: usize,
    /// How long a request's head may take from its first byte, or a new connection until its first head is there.
    pub head_within: Duration,
    /// How long a connection may idle between requests; longer than proxies in front keep theirs.
    pub idle_within: Duration,
    /// How long a request's body may take.
    pub body_within: Duration,
    /// How long an answer may take.
    pub answer_within: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1_024,
            head_within: Duration::from_secs(10),
            idle_within: Duration::from_secs(75),
            body_within: Duration::from_secs(10),
            answer_within: Duration::from_secs(10),
        }
    }
}

/// How serving ends: first it is announced, then nothing new is accepted.
#[derive(Debug, Clone, Default)]
pub struct Ending {
    /// From here on answers close their connections, so that clients go elsewhere.
    pub announced: CancellationToken,
    /// From here on no connection is accepted, idle ones are closed, and requests under way are finished.
    pub stopped: CancellationToken,
}

/// Serves until it is told to stop and the last request under way has been answered.
pub async fn serve(listener: TcpListener, routes: Router, limits: Limits, ending: Ending) {
    let (room, refusals) = (semaphore(limits.connections), semaphore(REFUSED_AT_ONCE));
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = ending.stopped.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let socket = match accepted {
            Ok((socket, _)) => socket,
            Err(error) => {
                // Out of file descriptors, or the client was gone already: neither ends the listener.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        // An answer is one write; it must not wait for the acknowledgement of the one before.
        let _ = socket.set_nodelay(true);
        match Arc::clone(&room).try_acquire_owned() {
            Ok(place) => {
                let connection = connection(socket, routes.clone(), limits, ending.clone(), place);
                connections.spawn(connection);
            }
            Err(_) => refuse(socket, &refusals),
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

fn semaphore(permits: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(permits))
}

/// Tells one connection too many to come back later, without reading what it wants.
fn refuse(mut socket: TcpStream, refusals: &Arc<Semaphore>) {
    let Ok(place) = Arc::clone(refusals).try_acquire_owned() else {
        return;
    };
    tokio::spawn(async move {
        let answer = wire::problem(
            503,
            "Service Unavailable",
            "overloaded",
            "there are too many connections",
        );
        let told = async {
            socket.write_all(&answer).await?;
            socket.shutdown().await?;
            // Closing on unread bytes would reset the connection before the answer is read.
            tokio::io::copy(&mut socket, &mut tokio::io::sink()).await
        };
        let _ = timeout(Duration::from_secs(1), told).await;
        drop(place);
    });
}

/// One connection from its first byte to its last.
async fn connection(socket: TcpStream, routes: Router, limits: Limits, ending: Ending, _place: OwnedSemaphorePermit) {
    let pace = Arc::new(Pace::new());
    let (watched, announced) = (Arc::clone(&pace), ending.announced.clone());
    let answer = service_fn(move |request: Request<Incoming>| {
        watched.head_is_read();
        let (routes, pace, announced) = (routes.clone(), Arc::clone(&watched), announced.clone());
        async move {
            let answered: Result<Response, Infallible> = routes.oneshot(request.map(Body::new)).await;
            answered.map(|mut response| {
                // After a body that was not read nothing more can be said on this connection either.
                if pace.is_answered(response.status()) || announced.is_cancelled() {
                    let close = HeaderValue::from_static("close");
                    response.headers_mut().insert(header::CONNECTION, close);
                }
                response
            })
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle_within)
        .max_buf_size(LARGEST_HEAD)
        .max_headers(MOST_HEADERS)
        .serve_connection(TokioIo::new(Wire::new(socket, Arc::clone(&pace))), answer);
    let mut connection = std::pin::pin!(connection);
    let mut stopping = std::pin::pin!(ending.stopped.cancelled());
    let (mut stopped, look) = (false, limits.head_within / 4);
    let mut next_look = Instant::now() + look;
    loop {
        tokio::select! {
            // The connection first: a request that has arrived is answered before idle connections are closed.
            biased;
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection ended early");
                }
                return;
            }
            () = &mut stopping, if !stopped => {
                stopped = true;
                connection.as_mut().graceful_shutdown();
                next_look = next_look.min(Instant::now() + FIRST_WORD);
            }
            () = sleep_until(next_look) => {
                // Whoever connected and still says nothing has no request that could be finished.
                if pace.is_overdue(limits.head_within) || stopped && pace.is_fresh() {
                    return;
                }
                next_look = Instant::now() + look;
            }
        }
    }
}
