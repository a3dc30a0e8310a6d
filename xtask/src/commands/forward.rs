//! `shop forward`: one address in front of however many replicas there are, for whoever can publish a port only once.

use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};
use clap::Args;
use futures_util::future::try_join_all;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream, lookup_host};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// A port of this machine, and where connections to it go; all addresses of a name take turns.
    #[arg(required = true, value_name = "PORT=HOST:PORT")]
    ways: Vec<Way>,
}

#[derive(Debug, Clone)]
struct Way {
    port: u16,
    to: String,
}

impl FromStr for Way {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (port, to) = text.split_once('=').context("it is not PORT=HOST:PORT")?;
        Ok(Self {
            port: port.parse().with_context(|| format!("{port:?} is no port"))?,
            to: to.to_owned(),
        })
    }
}

/// Forwards until the process is ended.
pub(super) async fn run(options: Options) -> Result<ExitCode> {
    let ways = options.ways.into_iter().map(|way| async move {
        let listener = TcpListener::bind(("0.0.0.0", way.port)).await;
        let listener = listener.with_context(|| format!("cannot listen on port {}", way.port))?;
        println!("Port {} leads to {}.", way.port, way.to);
        forward(listener, way.to).await
    });
    try_join_all(ways).await?;
    Ok(ExitCode::SUCCESS)
}

async fn forward(listener: TcpListener, to: String) -> Result<()> {
    let (to, turn) = (Arc::new(to), Arc::new(AtomicUsize::new(0)));
    loop {
        let (mut from, _) = listener.accept().await?;
        let (to, turn) = (to.clone(), turn.clone());
        tokio::spawn(async move {
            match connect(&to, turn.fetch_add(1, Ordering::Relaxed)).await {
                // However a connection ends, both ends learn of it by its end.
                Ok(mut link) => _ = copy_bidirectional(&mut from, &mut link).await,
                Err(error) => eprintln!("{to}: {error:#}"),
            }
        });
    }
}

/// Connects to the address whose turn it is, or else to the first of the others that answers.
async fn connect(to: &str, turn: usize) -> Result<TcpStream> {
    let mut addresses: Vec<_> = lookup_host(to).await?.collect();
    // In whatever order they are told.
    addresses.sort_unstable();
    let first = turn % addresses.len().max(1);
    addresses.rotate_left(first);
    let link = TcpStream::connect(&addresses[..]).await?;
    link.set_nodelay(true)?;
    Ok(link)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn what_is_said_at_either_end_is_heard_at_the_other() {
        let served = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = served.local_addr().unwrap().to_string();
        let door = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = door.local_addr().unwrap();
        tokio::spawn(forward(door, to));

        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"order").await.unwrap();
        let (mut server, _) = served.accept().await.unwrap();
        let mut heard = [0; 5];
        server.read_exact(&mut heard).await.unwrap();
        server.write_all(b"placed").await.unwrap();
        drop(server);
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!((&heard, answer.as_str()), (b"order", "placed"));
    }

    #[test]
    fn a_way_is_a_port_and_an_address() {
        let way: Way = "8003=inventory:8003".parse().unwrap();
        assert_eq!((way.port, way.to.as_str()), (8003, "inventory:8003"));
        assert!("8003".parse::<Way>().is_err());
        assert!("door=inventory:8003".parse::<Way>().is_err());
    }
}
