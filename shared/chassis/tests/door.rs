//! A listener with a few routes behind it, and clients that speak in bytes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::routing::{get, post};
use chassis::serve::{Ending, Limits, serve};
use chassis::{Json, surface_within};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// How long anything may take: a net, not a measurement.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Limits that are reached soon.
pub(crate) fn tight() -> Limits {
    Limits {
        head_within: Duration::from_millis(300),
        body_within: Duration::from_millis(300),
        ..Limits::default()
    }
}

pub(crate) struct Door {
    pub(crate) address: SocketAddr,
    pub(crate) ending: Ending,
    pub(crate) served: JoinHandle<()>,
    /// `GET /slow` answers once for every permit.
    pub(crate) let_go: Arc<Semaphore>,
    /// How many `GET /slow` were begun.
    pub(crate) begun: Arc<Semaphore>,
}

impl Door {
    pub(crate) async fn open(limits: Limits) -> Self {
        let (let_go, begun) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let (released, started) = (Arc::clone(&let_go), Arc::clone(&begun));
        let slow = move || async move {
            started.add_permits(1);
            released.acquire().await.unwrap().forget();
            "at last"
        };
        let routes = Router::new()
            .route("/quick", get(|| async { "quick" }))
            .route("/slow", get(slow))
            .route("/length", post(|body: Bytes| async move { body.len().to_string() }))
            .route("/json", post(|Json(body): Json<Value>| async move { Json(body) }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, ending) = (listener.local_addr().unwrap(), Ending::default());
        let served = tokio::spawn(serve(listener, surface_within(routes, limits), limits, ending.clone()));
        Self {
            address,
            ending,
            served,
            let_go,
            begun,
        }
    }

    pub(crate) async fn client(&self) -> Client {
        Client(TcpStream::connect(self.address).await.unwrap())
    }

    /// What is answered to these bytes.
    pub(crate) async fn asked(&self, bytes: impl AsRef<[u8]>) -> Answer {
        let mut client = self.client().await;
        client.say(bytes).await;
        client.hear().await.unwrap()
    }
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    /// Fails unless it is a problem document of this kind that says all that one must say.
    pub(crate) fn assert_problem(&self, status: u16, slug: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert!(self.head.contains("content-type: application/problem+json"), "{self:?}");
        let problem: Value = serde_json::from_str(&self.body).unwrap();
        assert_eq!(problem["type"], format!("/problems/{slug}"), "{self:?}");
        assert_eq!(problem["status"], status, "{self:?}");
        for text in ["title", "detail", "instance"] {
            assert!(problem[text].is_string(), "{text} is missing: {self:?}");
        }
        let trace = problem["trace_id"].as_str().unwrap();
        assert!(self.head.contains(&format!("trace-id: {trace}")), "{self:?}");
    }
}

pub(crate) struct Client(pub(crate) TcpStream);

impl Client {
    /// Says something; a server that no longer listens is noticed when its answer is read.
    pub(crate) async fn say(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.0.write_all(bytes.as_ref()).await;
    }

    /// The next answer, or none when the connection was closed instead.
    pub(crate) async fn hear(&mut self) -> Option<Answer> {
        timeout(PATIENCE, self.next()).await.unwrap()
    }

    /// Waits until the server has closed the connection without a further answer.
    pub(crate) async fn is_closed(&mut self) {
        let mut rest = Vec::new();
        let ended = timeout(PATIENCE, self.0.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "the connection is still held");
        assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
    }

    async fn next(&mut self) -> Option<Answer> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.0.read_u8().await.ok()?);
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let length = head.split("content-length: ").nth(1).map_or(0, |rest| {
            let digits = rest.split("\r\n").next().unwrap();
            digits.parse().unwrap()
        });
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).await.ok()?;
        let body = String::from_utf8(body).unwrap();
        Some(Answer { status, head, body })
    }
}
