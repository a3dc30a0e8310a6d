//! A TCP proxy that breaks what it carries: cut, refused, stalled, slow, or cut at a chosen word.
//!
//! Whoever is to suffer connects to the proxy instead of the server. Nothing of the protocol is
//! known here; a pattern is found wherever it crosses, as long as it crosses in plain text.

use std::future::pending;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::free_port;

/// How much is carried at once.
const CHUNK: usize = 16 << 10;

/// On which side of the server's answer a connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// The server never hears of it.
    Before,
    /// The server has done it, and its answer never arrives.
    After,
}

/// A link between somebody and a server, healthy until told otherwise; dropping it cuts everything.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    link: Arc<Link>,
    accepting: JoinHandle<()>,
}

/// What all connections of a proxy share.
#[derive(Debug)]
struct Link {
    target: String,
    mood: watch::Sender<Mood>,
    trap: Mutex<Option<(Vec<u8>, When)>>,
}

/// How the link is; connections are numbered by the age of the link at which they were made.
#[derive(Clone, Copy, Debug, Default)]
struct Mood {
    age: u64,
    /// Connections made before are reset.
    cut: u64,
    /// Connections made before carry nothing any more, and nobody is told.
    stranded: u64,
    refusing: bool,
    stalled: bool,
    latency: Duration,
}

impl Proxy {
    /// Listens on a free port of 127.0.0.1 and forwards to `target`, which need not be there yet.
    pub async fn start(target: impl Into<String>) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, free_port()?)).await;
        let listener = listener.context("the proxy cannot listen")?;
        let address = listener.local_addr()?;
        let (target, mood, trap) = (target.into(), watch::Sender::default(), Mutex::default());
        let link = Arc::new(Link { target, mood, trap });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&link)));
        Ok(Self {
            address,
            link,
            accepting,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Resets every connection now; new ones are accepted.
    pub fn cut(&self) {
        self.change(|mood| mood.cut = mood.age);
    }

    /// Resets every connection, and every new one as soon as it is made.
    pub fn refuse(&self) {
        self.change(|mood| (mood.cut, mood.refusing) = (mood.age, true));
    }

    /// Keeps connections, old and new, and carries nothing in either direction: packets are dropped on the way.
    pub fn stall(&self) {
        self.change(|mood| mood.stalled = true);
    }

    /// Keeps the connections of now without ever carrying anything on them again; new ones work.
    ///
    /// That is what a failover leaves behind: neither side learns that the other is gone.
    pub fn strand(&self) {
        self.change(|mood| mood.stranded = mood.age);
    }

    /// Lets everything take so much longer, each way.
    pub fn slow(&self, latency: Duration) {
        self.change(|mood| mood.latency = latency);
    }

    /// Cuts a connection when it carries `pattern`, in capitals or not, to the server: once, the next time.
    pub fn cut_at(&self, pattern: impl Into<Vec<u8>>, when: When) {
        *self.link.trap() = Some((pattern.into(), when));
    }

    /// Whether a cut is still to come.
    pub fn is_armed(&self) -> bool {
        self.link.trap().is_some()
    }

    /// Ends whatever was done to it; stranded connections are reset, as by a server that knows nothing of them.
    pub fn heal(&self) {
        *self.link.trap() = None;
        self.change(|mood| {
            *mood = Mood {
                age: mood.age,
                cut: mood.cut.max(mood.stranded),
                ..Mood::default()
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut Mood)) {
        self.link.mood.send_modify(|mood| {
            mood.age += 1;
            change(mood);
        });
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, link: Arc<Link>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => {
                let Ok((client, _)) = accepted else { continue };
                let connection = Connection { born: link.mood.borrow().age, swallow: AtomicBool::new(false), link: Arc::clone(&link) };
                connections.spawn(connection.serve(client));
            }
        }
    }
}

impl Link {
    fn trap(&self) -> MutexGuard<'_, Option<(Vec<u8>, When)>> {
        self.trap.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the trap when its pattern crosses.
    fn spring(&self, crossing: &[u8]) -> Option<When> {
        let crosses = |pattern: &[u8]| {
            let mut windows = crossing.windows(pattern.len().max(1));
            windows.any(|window| window.eq_ignore_ascii_case(pattern))
        };
        let sprung = self.trap().take_if(|(pattern, _)| crosses(pattern));
        sprung.map(|(_, when)| when)
    }

    /// How many bytes of what has crossed may be the beginning of the pattern.
    fn memory(&self) -> usize {
        let trap = self.trap();
        trap.as_ref().map_or(0, |(pattern, _)| pattern.len().saturating_sub(1))
    }
}

struct Connection {
    /// The age of the link when it was made.
    born: u64,
    /// The server's next answer must not arrive.
    swallow: AtomicBool,
    link: Arc<Link>,
}

impl Connection {
    /// Carries until both sides are done; any other end is a reset.
    async fn serve(self, mut client: TcpStream) {
        let mut mood = self.link.mood.subscribe();
        let mut server = None;
        let ended = tokio::select! {
            ended = self.carry(&mut client, &mut server) => ended,
            _ = mood.wait_for(|mood| mood.cut > self.born || mood.refusing) => Err(ErrorKind::ConnectionReset.into()),
        };
        if ended.is_err() {
            let _ = client.set_zero_linger();
            let _ = server.map(|server| server.set_zero_linger());
        }
    }

    async fn carry(&self, client: &mut TcpStream, server: &mut Option<TcpStream>) -> io::Result<()> {
        self.passage().await;
        let server = server.insert(TcpStream::connect(&self.link.target).await?);
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
        tokio::try_join!(self.ask(from_client, to_server), self.answer(from_server, to_client))?;
        Ok(())
    }

    async fn ask(&self, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>) -> io::Result<()> {
        let (mut chunk, mut crossed) = (vec![0; CHUNK], Vec::new());
        loop {
            let length = from.read(&mut chunk).await?;
            self.passage().await;
            if length == 0 {
                return to.shutdown().await;
            }
            crossed.extend_from_slice(&chunk[..length]);
            match self.link.spring(&crossed) {
                Some(When::Before) => return Err(ErrorKind::ConnectionReset.into()),
                Some(When::After) => self.swallow.store(true, Ordering::Relaxed),
                None => {}
            }
            crossed.drain(..crossed.len().saturating_sub(self.link.memory()));
            to.write_all(&chunk[..length]).await?;
        }
    }

    async fn answer(&self, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>) -> io::Result<()> {
        let mut chunk = vec![0; CHUNK];
        loop {
            let length = from.read(&mut chunk).await?;
            self.passage().await;
            if self.swallow.load(Ordering::Relaxed) {
                return Err(ErrorKind::ConnectionReset.into());
            }
            if length == 0 {
                return to.shutdown().await;
            }
            to.write_all(&chunk[..length]).await?;
        }
    }

    /// Returns once something may cross.
    async fn passage(&self) {
        let mut mood = self.link.mood.subscribe();
        let passable = |mood: &Mood| !mood.stalled || mood.stranded > self.born;
        let mood = mood.wait_for(passable).await.map(|mood| *mood);
        let latency = match mood {
            Ok(mood) if mood.stranded <= self.born => mood.latency,
            _ => pending().await,
        };
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
    }
}
