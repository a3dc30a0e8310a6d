//! The trace viewer of `cargo shop up`, and the OTLP sink of the end-to-end tests.
//!
//! Spans come in over OTLP/gRPC ([`Options::otlp`]), stay in memory, and go out three ways: to a browser and to
//! scripts through Jaeger's query API ([`Options::http`]), and to the process that holds the [`Viewer`].
//!
//! Memory is bounded by [`Options::capacity`] spans: beyond it the trace whose first span arrived earliest is
//! forgotten, whole; spans that arrive later still begin it anew. A span that an exporter sends twice counts once.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod http;
mod jaeger;
mod otlp;
mod query;
mod record;
mod span;
mod store;
pub mod ui;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

pub use span::{Event, Kind, Span, Status};
use store::Store;

/// How long [`Viewer::shutdown`] waits for open connections.
const FAREWELL: Duration = Duration::from_secs(2);

/// Where a viewer listens, what it shows and how much it keeps.
#[derive(Debug, Clone)]
pub struct Options {
    /// Address of the query API and the page; port 0 takes a free one.
    pub http: SocketAddr,
    /// Address of the OTLP/gRPC receiver; port 0 takes a free one.
    pub otlp: SocketAddr,
    /// Folder with Jaeger's UI, as [`ui::fetch`] makes it; without it the plain page is the whole UI.
    pub ui: Option<PathBuf>,
    /// Spans kept in memory, at 2 to 3 KiB each.
    pub capacity: usize,
}

impl Default for Options {
    /// The usual ports of Jaeger on the loopback address, the plain page, 100,000 spans.
    fn default() -> Self {
        Self {
            http: (Ipv4Addr::LOCALHOST, 16686).into(),
            otlp: (Ipv4Addr::LOCALHOST, 4317).into(),
            ui: None,
            capacity: 100_000,
        }
    }
}

impl Options {
    /// The default on free ports, for tests that run side by side.
    pub fn on_free_ports() -> Self {
        let free = (Ipv4Addr::LOCALHOST, 0).into();
        Self {
            http: free,
            otlp: free,
            ..Self::default()
        }
    }
}

/// A running viewer; it stops when dropped.
#[derive(Debug)]
pub struct Viewer {
    store: Arc<Store>,
    http: SocketAddr,
    otlp: SocketAddr,
    tasks: TaskTracker,
    stop: DropGuard,
}

impl Viewer {
    /// Starts listening; spans sent after this returns are kept.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        let store = Arc::new(Store::of(options.capacity));
        let routes = http::routes(store.clone(), options.ui.as_deref())?;
        let http = bind(options.http, "the trace viewer").await?;
        let otlp = bind(options.otlp, "the OTLP receiver").await?;
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let viewer = Self {
            store: store.clone(),
            http: http.local_addr()?,
            otlp: otlp.local_addr()?,
            tasks: tasks.clone(),
            stop: stop.clone().drop_guard(),
        };
        tasks.spawn(otlp::serve(otlp, store, stop.clone()));
        tasks.spawn(
            axum::serve(http, routes)
                .with_graceful_shutdown(stop.cancelled_owned())
                .into_future(),
        );
        tasks.close();
        Ok(viewer)
    }

    /// Where the query API and the page are.
    pub fn http_addr(&self) -> SocketAddr {
        self.http
    }

    /// Where exporters send to.
    pub fn otlp_addr(&self) -> SocketAddr {
        self.otlp
    }

    /// Every trace id at hand, in order of arrival.
    pub fn traces(&self) -> Vec<String> {
        self.store.ids().into_iter().map(record::trace_hex).collect()
    }

    /// The spans of a trace by start time; empty when none has arrived.
    pub fn spans(&self, trace_id: &str) -> Vec<Span> {
        let records = record::parse_trace_id(trace_id).and_then(|id| self.store.trace(id));
        records
            .unwrap_or_default()
            .iter()
            .map(|record| Span::from(&**record))
            .collect()
    }

    /// Waits until the spans of a trace satisfy `enough`, and returns them; fails with what had arrived by `timeout`.
    pub async fn wait_for(
        &self,
        trace_id: &str,
        mut enough: impl FnMut(&[Span]) -> bool,
        timeout: Duration,
    ) -> anyhow::Result<Vec<Span>> {
        let mut arrivals = self.store.arrivals();
        let mut spans = Vec::new();
        let arrived = arrivals.wait_for(|_| {
            spans = self.spans(trace_id);
            enough(&spans)
        });
        if tokio::time::timeout(timeout, arrived).await.is_err() {
            let seen: Vec<_> = spans
                .iter()
                .map(|span| format!("{}: {}", span.service, span.name))
                .collect();
            anyhow::bail!("trace {trace_id} is not as expected after {timeout:?}; it has {seen:#?}");
        }
        Ok(spans)
    }

    /// Stops accepting, lets open requests end (two seconds at most) and frees the ports.
    pub async fn shutdown(self) {
        drop(self.stop);
        let _ = tokio::time::timeout(FAREWELL, self.tasks.wait()).await;
    }
}

async fn bind(address: SocketAddr, what: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("{what} cannot listen on {address}"))
}
