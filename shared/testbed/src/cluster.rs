//! Private nats-servers that keep every stream together.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::{Nats, Place, free_port};

/// How long an election may take, and catching up after it.
const PATIENCE: Duration = Duration::from_secs(90);
const LOOK: Duration = Duration::from_millis(50);
/// A server that is paused takes connections and does not answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// The servers of one broker: one that stands alone, or several on loopback that elect a leader for each stream.
#[derive(Debug)]
pub struct Cluster {
    servers: Vec<Nats>,
}

impl Cluster {
    /// Starts a server in each place, with more lines of configuration and the variables that these refer to as `$NAME`,
    /// and returns once they are [`Self::healthy`].
    pub async fn start(places: Vec<Place>, configuration: &str, variables: &[(String, String)]) -> Result<Self> {
        let routes: Vec<u16> = places.iter().map(|_| free_port()).collect::<Result<_>>()?;
        let mut servers = Vec::with_capacity(places.len());
        for (index, place) in places.into_iter().enumerate() {
            let all = membership(index, &routes) + configuration;
            servers.push(Nats::start_told(place, &all, variables.to_vec()).await?);
        }
        let cluster = Self { servers };
        cluster.healthy().await?;
        Ok(cluster)
    }

    /// Each server: to kill, to pause, to restart.
    pub fn servers(&self) -> &[Nats] {
        &self.servers
    }

    /// The addresses for clients, comma-separated.
    pub fn url(&self) -> String {
        let urls: Vec<String> = self.servers.iter().map(Nats::url).collect();
        urls.join(",")
    }

    /// Waits until every server that runs knows who leads, and has caught up with its streams and durables.
    pub async fn healthy(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        for server in self.servers.iter().filter(|server| server.pid().is_some()) {
            while let Err(error) = get(server, "/healthz").await {
                if Instant::now() > deadline {
                    return Err(error).context(format!("a broker is not healthy within {PATIENCE:?}"));
                }
                sleep(LOOK).await;
            }
        }
        Ok(())
    }

    /// Waits until a server that runs leads the stream, and returns its index.
    pub async fn leader_of(&self, stream: &str) -> Result<usize> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(leader) = self.leaders().await.get(stream) {
                return Ok(*leader);
            }
            if Instant::now() > deadline {
                bail!("nobody leads {stream} within {PATIENCE:?}");
            }
            sleep(LOOK).await;
        }
    }

    /// Which server leads which stream, as the leaders themselves say it.
    pub async fn leaders(&self) -> BTreeMap<String, usize> {
        let mut leaders = BTreeMap::new();
        for (index, server) in self.servers.iter().enumerate() {
            let told = get(server, "/jsz?accounts=true&streams=true").await;
            let led = told.map(|told| led_by(&name(index), &told)).unwrap_or_default();
            leaders.extend(led.into_iter().map(|stream| (stream, index)));
        }
        leaders
    }
}

fn name(index: usize) -> String {
    format!("nats-{}", index + 1)
}

/// Names do not change from start to start, as the stores know them; the ports of the routes may.
fn membership(index: usize, routes: &[u16]) -> String {
    let (name, own) = (name(index), routes[index]);
    if routes.len() == 1 {
        return String::new();
    }
    let routes: Vec<String> = routes
        .iter()
        .map(|port| format!("\"nats://127.0.0.1:{port}\""))
        .collect();
    format!(
        "server_name: \"{name}\"\ncluster {{\n    name: tidings\n    listen: \"127.0.0.1:{own}\"\n    routes: [{}]\n}}\n",
        routes.join(", ")
    )
}

/// The streams that this server says it leads.
fn led_by(server: &str, told: &Value) -> Vec<String> {
    let each = |value: &Value, name: &str| value[name].as_array().cloned().unwrap_or_default();
    let accounts = each(told, "account_details").into_iter();
    let streams = accounts.flat_map(|account| each(&account, "stream_detail"));
    let led = streams.filter(|stream| stream["cluster"]["leader"] == server);
    led.filter_map(|stream| Some(stream["name"].as_str()?.to_owned()))
        .collect()
}

/// What a server's monitor answers, unless it is a complaint.
async fn get(server: &Nats, path: &str) -> Result<Value> {
    let address = server.monitor_url().trim_start_matches("http://").to_owned();
    let asked = async {
        let mut socket = TcpStream::connect(&address).await?;
        socket
            .write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())
            .await?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await?;
        anyhow::Ok(answer)
    };
    let answer = timeout(ANSWER_WITHIN, asked).await.context("no answer")??;
    let (head, body) = answer.split_once("\r\n\r\n").context("half an answer")?;
    ensure!(head.contains(" 200 "), "{body}");
    Ok(serde_json::from_str(body)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_led_by_the_server_that_says_so_of_itself() {
        let told = serde_json::json!({ "account_details": [
            { "name": "SYS" },
            { "name": "SHOP", "stream_detail": [
                { "name": "ORDER", "cluster": { "leader": "nats-2" } },
                { "name": "PAYMENT", "cluster": { "leader": "nats-1" } },
                { "name": "EMAIL", "cluster": {} },
            ] },
        ] });
        assert_eq!(led_by("nats-2", &told), ["ORDER"]);
        assert_eq!(led_by("nats-3", &told), Vec::<String>::new());
    }

    #[test]
    fn one_server_stands_alone() {
        assert_eq!(membership(0, &[1]), "");
        assert!(membership(2, &[1, 2, 3]).contains("listen: \"127.0.0.1:3\""));
    }
}
