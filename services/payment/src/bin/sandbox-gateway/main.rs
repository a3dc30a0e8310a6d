//! A stand-in for the card gateway: answers like Stripe, decides by test token, and keeps its own book of what it charged.
//!
//! It represents a company that is not ours, so it shares neither database nor broker nor code with the shop.
//! Whatever it has answered is on disk: being killed at any moment is its normal way to stop.

mod api;
mod book;
mod call;
mod charges;
mod clerk;
mod facts;
mod journal;
mod payments;
mod refunds;
mod refusal;
mod token;
mod views;

use std::io::IsTerminal;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use axum::serve::ListenerExt;
use clap::{Parser, Subcommand};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::book::Book;
use crate::clerk::Clerk;
use crate::journal::Journal;

/// What the sandbox gateway must be told.
#[derive(Parser)]
#[command(about = "A Stripe-compatible payment gateway that moves no money")]
struct Config {
    /// Address to serve on; port 0 takes a free one.
    #[arg(long, env = "HTTP_ADDR", default_value = "127.0.0.1:8010")]
    http_addr: SocketAddr,
    /// Folder of the book, created when missing.
    #[arg(long, env = "GATEWAY_DATA", default_value = ".shop/gateway")]
    gateway_data: PathBuf,
    /// Secret key that callers present as `Authorization: Bearer …`; starts with `sk_test_`.
    #[arg(long, env = "GATEWAY_KEY", default_value = "sk_test_tidings", hide_env_values = true)]
    gateway_key: String,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Asks the gateway that runs at HTTP_ADDR whether it is alive; exits with 1 if it is not.
    Health,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let levels = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into());
    tracing_subscriber::fmt()
        .with_env_filter(levels.from_env().context("RUST_LOG cannot be read")?)
        .with_ansi(std::io::stdout().is_terminal())
        .init();
    let config = Config::parse();
    if let Some(Command::Health) = config.command {
        return health(config.http_addr).await;
    }
    // Not a value parser of clap's, which would print the key it refuses.
    ensure!(
        config.gateway_key.starts_with("sk_test_"),
        "GATEWAY_KEY must start with sk_test_: a live key has no place here"
    );

    let mut book = Book::default();
    let journal = Journal::open(&config.gateway_data, |fact| book.apply(fact))?;
    let (clerk, keeping) = Clerk::start(book, journal);

    let listener = TcpListener::bind(config.http_addr)
        .await
        .with_context(|| format!("cannot listen on HTTP_ADDR {}", config.http_addr))?;
    tracing::info!("sandbox gateway listening on http://{}", listener.local_addr()?);
    let listener = listener.tap_io(|connection| _ = connection.set_nodelay(true));
    let mut terminated = signal(SignalKind::terminate())?;

    tokio::select! {
        served = axum::serve(listener, api::routes(clerk, &config.gateway_key)) => served.context("cannot serve"),
        kept = keeping => kept?.context("cannot write the book"),
        stopped = tokio::signal::ctrl_c() => stopped.context("cannot listen for signals"),
        _ = terminated.recv() => Ok(()),
    }
}

/// For the health check of a container that has neither shell nor curl.
async fn health(mut address: SocketAddr) -> anyhow::Result<()> {
    if address.ip().is_unspecified() {
        address.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(3))
        .build()?;
    let answer = client.get(format!("http://{address}/livez")).send().await?;
    answer.error_for_status()?;
    Ok(())
}
