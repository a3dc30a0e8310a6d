//! `cargo shop status`.

use std::process::ExitCode;

use anyhow::Result;
use futures_util::future::join_all;
use reqwest::Client;
use serde_json::Value;

use super::client;
use super::ink::Ink;
use super::running::{Running, RunningService};
use super::usage::{megabytes, memory, memory_of_family};

/// A line of the table; every column but the first may be unknown.
struct Row {
    name: String,
    address: String,
    state: String,
    outbox: String,
    waiting: String,
    memory: String,
}

/// Shows the table; the exit status is 0 when every service is ready.
pub(super) async fn run() -> Result<ExitCode> {
    let running = Running::find()?;
    let (client, ink) = (client()?, Ink::of_stdout());
    println!(
        "Running since {} (process {}).\n",
        running.started_at.format("%Y-%m-%d %H:%M:%S"),
        running.pid
    );
    let services = join_all(running.services.iter().map(|service| row(&client, service))).await;
    let all_ready = services.iter().all(|row| row.state == "ready");
    let header = Row {
        name: "service".into(),
        address: "address".into(),
        state: "state".into(),
        outbox: "outbox".into(),
        waiting: "to handle".into(),
        memory: "memory".into(),
    };
    println!("{}", ink.bold(&header.text(|state| state.to_owned())));
    for row in services.iter().chain(&others(&running)) {
        println!(
            "{}",
            row.text(|state| match state.trim() {
                "ready" | "running" => ink.good(state),
                "degraded" => ink.warning(state),
                _ => ink.bad(state),
            })
        );
    }
    Ok(if all_ready {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

impl Row {
    fn text(&self, paint: impl Fn(&str) -> String) -> String {
        let Self {
            name,
            address,
            state,
            outbox,
            waiting,
            memory,
        } = self;
        let state = paint(&format!("{state:<12}"));
        format!("{name:<16}{address:<25}{state}{outbox:<18}{waiting:<11}{memory:>10}")
    }
}

async fn row(client: &Client, service: &RunningService) -> Row {
    let answers = tokio::join!(
        get(client, service, "readyz"),
        get(client, service, "admin/outbox"),
        get(client, service, "admin/consumers"),
    );
    let unknown = || "-".to_owned();
    let (ready, outbox, consumers) = answers;
    let state = ready.and_then(|answer| answer["status"].as_str().map(str::to_owned));
    let outbox = outbox.and_then(|outbox| {
        let (depth, oldest) = (outbox["depth"].as_i64()?, outbox["oldest_ms"].as_i64()?);
        Some(if depth == 0 {
            "empty".to_owned()
        } else {
            format!("{depth}, for {oldest} ms")
        })
    });
    let waiting = consumers.and_then(|consumers| {
        let of = |lag: &Value| Some(lag["pending"].as_u64()? + lag["unacknowledged"].as_u64()?);
        Some(consumers.as_array()?.iter().filter_map(of).sum::<u64>().to_string())
    });
    Row {
        name: service.name.clone(),
        address: service.url.clone(),
        state: state.unwrap_or_else(|| "down".to_owned()),
        outbox: outbox.unwrap_or_else(unknown),
        waiting: waiting.unwrap_or_else(unknown),
        memory: megabytes(service.pid.and_then(memory)),
    }
}

/// An answer, also one that is not 200: a service that is not ready says so in it.
async fn get(client: &Client, service: &RunningService, path: &str) -> Option<Value> {
    let answer = client.get(format!("{}/{path}", service.admin_url)).send().await.ok()?;
    answer.json().await.ok()
}

/// Without user and password.
fn address(url: &str) -> String {
    url.rsplit_once('@')
        .map_or_else(|| url.to_owned(), |(_, host)| format!("nats://{host}"))
}

fn others(running: &Running) -> Vec<Row> {
    let row = |name: &str, address: &str, memory: Option<u64>| Row {
        name: name.into(),
        address: address.into(),
        state: if memory.is_some() { "running" } else { "down" }.into(),
        outbox: String::new(),
        waiting: String::new(),
        memory: megabytes(memory),
    };
    let of = |pid: Option<u32>| pid.and_then(memory_of_family);
    let mut others = vec![
        row("sandbox-gateway", &running.gateway_url, of(running.gateway_pid)),
        row("PostgreSQL", "", of(running.postgres_pid)),
    ];
    let brokers = running.nats_url.split(',').zip(&running.nats_pids);
    others.extend(brokers.map(|(url, pid)| row("nats-server", &address(url), of(*pid))));
    if let Some(viewer) = &running.viewer_url {
        others.push(row("trace viewer", viewer, memory(running.pid)));
    }
    others
}
