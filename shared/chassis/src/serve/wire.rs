//! The socket under a connection: knows when a request's head began to arrive, and gives what hyper
//! refuses by itself the form of all other refusals.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::http::StatusCode;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

use crate::problems;

/// How long, and how much, is still read of a client that was refused before it had said everything.
const LINGER: Duration = Duration::from_millis(500);
const LINGER_BYTES: usize = 1 << 20;

/// How far the request under way is, as seen from the socket.
pub(super) struct Pace {
    /// When the head that is not complete yet began to arrive.
    head_since: Mutex<Option<Instant>>,
    /// Whether a request is being answered, so that bytes are not those of a head.
    busy: AtomicBool,
    /// Whether not even a byte has come.
    fresh: AtomicBool,
    /// Whether the client may still be sending what nobody will read.
    unread: AtomicBool,
}

impl Pace {
    /// Of a new connection, whose first head is due.
    pub(super) fn new() -> Self {
        Self {
            head_since: Mutex::new(Some(Instant::now())),
            busy: AtomicBool::new(false),
            fresh: AtomicBool::new(true),
            unread: AtomicBool::new(false),
        }
    }

    fn bytes_came(&self) {
        self.fresh.store(false, Ordering::Relaxed);
        if !self.busy.load(Ordering::Relaxed) {
            self.since().get_or_insert_with(Instant::now);
        }
    }

    pub(super) fn head_is_read(&self) {
        self.busy.store(true, Ordering::Relaxed);
        *self.since() = None;
    }

    /// Whether the client may still be sending what nobody will read.
    pub(super) fn is_answered(&self, status: StatusCode) -> bool {
        self.busy.store(false, Ordering::Relaxed);
        let unread = matches!(status, StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT);
        if unread {
            self.unread.store(true, Ordering::Relaxed);
        }
        unread
    }

    pub(super) fn is_overdue(&self, within: Duration) -> bool {
        self.since().is_some_and(|since| since.elapsed() > within)
    }

    pub(super) fn is_fresh(&self) -> bool {
        self.fresh.load(Ordering::Relaxed)
    }

    fn since(&self) -> MutexGuard<'_, Option<Instant>> {
        self.head_since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A socket.
pub(super) struct Wire {
    socket: TcpStream,
    pace: Arc<Pace>,
    /// What is still to be written instead of hyper's own refusal.
    refusal: Vec<u8>,
    lingering: Option<(Pin<Box<Sleep>>, usize)>,
}

impl Wire {
    pub(super) fn new(socket: TcpStream, pace: Arc<Pace>) -> Self {
        Self {
            socket,
            pace,
            refusal: Vec::new(),
            lingering: None,
        }
    }

    /// Whether these bytes are a refusal of hyper's own; if so, ours is written in their place.
    fn replaces(&mut self, head: &[u8]) -> bool {
        let Some(refusal) = replacement(head) else {
            return false;
        };
        self.refusal = refusal;
        self.pace.unread.store(true, Ordering::Relaxed);
        true
    }

    fn poll_refusal(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.refusal.is_empty() {
            let written = ready!(Pin::new(&mut self.socket).poll_write(cx, &self.refusal))?;
            self.refusal.drain(..written);
        }
        Poll::Ready(Ok(()))
    }

    /// Closing on unread bytes would reset the connection before the refusal is read.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (until, left) = self
            .lingering
            .get_or_insert_with(|| (Box::pin(sleep(LINGER)), LINGER_BYTES));
        let mut scratch = [0; 4096];
        loop {
            if until.as_mut().poll(cx).is_ready() || *left == 0 {
                return Poll::Ready(());
            }
            let mut buffer = ReadBuf::new(&mut scratch);
            match ready!(Pin::new(&mut self.socket).poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => *left = left.saturating_sub(buffer.filled().len()),
                _ => return Poll::Ready(()),
            }
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.socket).poll_read(cx, buffer))?;
        if buffer.filled().len() > before {
            self.pace.bytes_came();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_refusal(cx))?;
        if self.replaces(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_refusal(cx))?;
        if parts.first().is_some_and(|head| self.replaces(head)) {
            return Poll::Ready(Ok(parts.iter().map(|part| part.len()).sum()));
        }
        Pin::new(&mut self.socket).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_refusal(cx))?;
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_refusal(cx))?;
        if self.lingering.is_none() {
            ready!(Pin::new(&mut self.socket).poll_shutdown(cx))?;
        }
        if self.pace.unread.load(Ordering::Relaxed) {
            ready!(self.poll_linger(cx));
        }
        Poll::Ready(Ok(()))
    }
}

/// Our refusal instead of hyper's: the answers of our routes carry a trace id, its own do not.
fn replacement(head: &[u8]) -> Option<Vec<u8>> {
    let status = head.strip_prefix(b"HTTP/1.1 4")?.get(..2)?;
    if head.windows(9).any(|bytes| bytes == b"trace-id:") {
        return None;
    }
    match status {
        b"00" => Some(problem(400, "Bad Request", "malformed-request", "this is not HTTP/1.1")),
        b"14" => Some(problem(
            414,
            "URI Too Long",
            "uri-too-long",
            "the address of the request is too long",
        )),
        b"31" => Some(problem(
            431,
            "Request Header Fields Too Large",
            "headers-too-large",
            "there are more than 100 headers, or more than 32 KiB of them",
        )),
        _ => None,
    }
}

/// A whole answer, for when there is no request to answer; its trace has no other span.
pub(super) fn problem(status: u16, reason: &str, slug: &'static str, detail: &str) -> Vec<u8> {
    let trace_id = format!("{:032x}", fastrand::u128(1..));
    let body = json!({
        "type": format!("/problems/{slug}"), "title": problems::title(slug), "status": status, "detail": detail,
        "instance": "", "trace_id": trace_id, "errors": [],
    })
    .to_string();
    let retry = if status == 503 { "retry-after: 1\r\n" } else { "" };
    let length = body.len();
    format!(
        "HTTP/1.1 {status} {reason}\r\ncontent-type: application/problem+json\r\ncontent-length: {length}\r\n\
         trace-id: {trace_id}\r\n{retry}connection: close\r\n\r\n{body}"
    )
    .into_bytes()
}
