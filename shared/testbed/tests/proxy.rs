//! The proxy that breaks what it carries.
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use testbed::{Proxy, When};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// A server that repeats every line, and what it has heard.
async fn echo() -> (String, UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (hears, heard) = unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let hears = hears.clone();
            tokio::spawn(async move {
                let mut chunk = [0; 1024];
                while let Ok(length @ 1..) = stream.read(&mut chunk).await {
                    let _ = hears.send(String::from_utf8_lossy(&chunk[..length]).into_owned());
                    let _ = stream.write_all(&chunk[..length]).await;
                }
            });
        }
    });
    (address, heard)
}

async fn connect(proxy: &Proxy) -> TcpStream {
    TcpStream::connect(proxy.address()).await.unwrap()
}

/// Sends a word and returns what comes back; nothing if the connection ends.
async fn say(stream: &mut TcpStream, word: &str) -> Option<String> {
    stream.write_all(word.as_bytes()).await.ok()?;
    let mut chunk = [0; 1024];
    match stream.read(&mut chunk).await {
        Ok(length @ 1..) => Some(String::from_utf8_lossy(&chunk[..length]).into_owned()),
        _ => None,
    }
}

/// Whether nothing comes back for as long as one is ready to wait.
async fn is_silent(stream: &mut TcpStream) -> bool {
    let patience = Duration::from_millis(200);
    tokio::time::timeout(patience, stream.read_u8()).await.is_err()
}

#[tokio::test]
async fn a_healthy_link_carries_everything_and_ends_when_the_client_does() {
    let (target, mut heard) = echo().await;
    let proxy = Proxy::start(target).await.unwrap();
    let mut stream = connect(&proxy).await;
    assert_eq!(say(&mut stream, "hello").await.as_deref(), Some("hello"));
    stream.shutdown().await.unwrap();
    assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
    assert_eq!(heard.recv().await.as_deref(), Some("hello"));
}

#[tokio::test]
async fn a_cut_resets_the_connections_of_now_and_no_later_one() {
    let proxy = Proxy::start(echo().await.0).await.unwrap();
    let mut old = connect(&proxy).await;
    assert!(say(&mut old, "hello").await.is_some());
    proxy.cut();
    assert!(old.read_u8().await.is_err());
    assert!(say(&mut connect(&proxy).await, "again").await.is_some());
}

#[tokio::test]
async fn a_refusing_link_resets_new_connections_until_it_is_healed() {
    let proxy = Proxy::start(echo().await.0).await.unwrap();
    proxy.refuse();
    assert_eq!(say(&mut connect(&proxy).await, "hello").await, None);
    proxy.heal();
    assert!(say(&mut connect(&proxy).await, "hello").await.is_some());
}

#[tokio::test]
async fn a_stalled_link_carries_nothing_and_delivers_it_once_healed() {
    let (target, mut heard) = echo().await;
    let proxy = Proxy::start(target).await.unwrap();
    let mut old = connect(&proxy).await;
    assert!(say(&mut old, "one").await.is_some());
    assert_eq!(heard.recv().await.as_deref(), Some("one"));
    proxy.stall();
    let mut new = connect(&proxy).await;
    old.write_all(b"two").await.unwrap();
    new.write_all(b"two").await.unwrap();
    assert!(is_silent(&mut old).await && is_silent(&mut new).await);
    assert!(heard.try_recv().is_err(), "the server hears nothing either");
    proxy.heal();
    assert_eq!(heard.recv().await.as_deref(), Some("two"));
    assert_eq!(old.read_u8().await.unwrap(), b't');
    assert_eq!(new.read_u8().await.unwrap(), b't');
}

#[tokio::test]
async fn stranded_connections_stay_silent_though_new_ones_work() {
    let proxy = Proxy::start(echo().await.0).await.unwrap();
    let mut old = connect(&proxy).await;
    assert!(say(&mut old, "hello").await.is_some());
    proxy.strand();
    old.write_all(b"anybody?").await.unwrap();
    assert!(is_silent(&mut old).await);
    let mut new = connect(&proxy).await;
    assert!(say(&mut new, "hello").await.is_some());
    proxy.heal();
    assert!(old.read_u8().await.is_err(), "healed, they are reset");
    assert!(say(&mut new, "hello").await.is_some());
}

#[tokio::test]
async fn a_slow_link_takes_its_time_each_way() {
    let proxy = Proxy::start(echo().await.0).await.unwrap();
    let mut stream = connect(&proxy).await;
    let latency = Duration::from_millis(50);
    proxy.slow(latency);
    let asked = tokio::time::Instant::now();
    assert!(say(&mut stream, "hello").await.is_some());
    assert!(asked.elapsed() >= latency * 2);
}

#[tokio::test]
async fn a_cut_before_a_word_keeps_it_from_the_server_and_happens_once() {
    let (target, mut heard) = echo().await;
    let proxy = Proxy::start(target).await.unwrap();
    proxy.cut_at("COMMIT", When::Before);
    let mut stream = connect(&proxy).await;
    assert!(say(&mut stream, "BEGIN").await.is_some());
    assert!(proxy.is_armed());
    assert_eq!(say(&mut stream, "COMMIT").await, None);
    assert!(!proxy.is_armed());
    assert!(say(&mut connect(&proxy).await, "COMMIT again").await.is_some());
    assert_eq!(heard.recv().await.as_deref(), Some("BEGIN"));
    assert_eq!(heard.recv().await.as_deref(), Some("COMMIT again"));
}

#[tokio::test]
async fn a_cut_after_a_word_loses_the_answer_and_not_the_word() {
    let (target, mut heard) = echo().await;
    let proxy = Proxy::start(target).await.unwrap();
    proxy.cut_at("commit", When::After);
    let mut stream = connect(&proxy).await;
    // In two parts, as a word may cross.
    assert!(say(&mut stream, "COM").await.is_some());
    assert_eq!(say(&mut stream, "MIT").await, None);
    assert_eq!(heard.recv().await.as_deref(), Some("COM"));
    assert_eq!(heard.recv().await.as_deref(), Some("MIT"));
}
