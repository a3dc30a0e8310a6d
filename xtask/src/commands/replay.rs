//! `cargo shop replay`: asks a service for a replay over its operator's endpoint, and shows how it goes.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use chrono::{DateTime, Utc};
use clap::Args;
use reqwest::{Client, Response};
use serde_json::{Value, json};
use uuid::Uuid;
use xtask::shop::Service;

use super::client;
use super::ink::{Ink, say};
use super::running::Running;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(300);

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Whose projection.
    #[arg(default_value = "analytics")]
    service: Service,
    /// Only orders placed at or after this time, 2026-11-21T10:00:00Z: nothing is exchanged then.
    #[arg(long, value_name = "TIME")]
    since: Option<DateTime<Utc>>,
    /// Only orders placed before this time.
    #[arg(long, value_name = "TIME")]
    until: Option<DateTime<Utc>>,
    /// Only this order: it is compared with its events, and corrected.
    #[arg(long, conflicts_with_all = ["since", "until"])]
    order: Option<Uuid>,
    /// Only compares, and exits with 1 on any difference.
    #[arg(long)]
    dry_run: bool,
    /// Corrects orders of the period that differ.
    #[arg(long, conflicts_with = "dry_run")]
    mend: bool,
    /// Goes on although the streams have forgotten events: what came of them is gone then.
    #[arg(long)]
    accept_loss: bool,
}

pub(super) async fn run(options: Options) -> Result<ExitCode> {
    if options.mend && options.since.is_none() && options.until.is_none() {
        bail!("--mend is for a period: give --since or --until");
    }
    let admin = match Running::look()? {
        Some(running) => running.service(options.service)?.admin_url.clone(),
        None => format!("http://127.0.0.1:{}", options.service.admin_port()),
    };
    let (client, url) = (client()?, format!("{admin}/admin/replay"));
    let plan = json!({
        "since": options.since, "until": options.until, "order": options.order,
        "dry_run": options.dry_run, "mend": options.mend, "accept_loss": options.accept_loss,
    });
    answer(client.post(&url).json(&plan).send().await?).await?;
    let report = follow(&client, &url).await?;
    let ink = Ink::of_stdout();
    say(&text(&report, ink));
    let only_compared = options.dry_run || options.since.is_some() || options.until.is_some();
    let differing = tables(&report).map(|(_, table)| count(table, "differing")).sum::<u64>();
    let left = only_compared && differing > count(&report, "mended");
    Ok(if report["phase"] == "done" && !left {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What it answers, or its own words for why it does not.
async fn answer(response: Response) -> Result<Value> {
    let (status, body) = (response.status(), response.json::<Value>().await?);
    if !status.is_success() {
        bail!("{status}: {}", body["detail"].as_str().unwrap_or("no reason was given"));
    }
    Ok(body)
}

async fn follow(client: &Client, url: &str) -> Result<Value> {
    let terminal = std::io::stdout().is_terminal();
    let mut shown = String::new();
    loop {
        let report = answer(client.get(url).send().await?).await?;
        let phase = report["phase"].as_str().unwrap_or_default().to_owned();
        if terminal {
            print!("\r\x1b[2K{}", line(&report));
            std::io::stdout().flush()?;
        } else if shown != phase {
            say(&line(&report));
        }
        if ["done", "failed", "idle"].contains(&phase.as_str()) {
            if terminal {
                print!("\r\x1b[2K");
            }
            return Ok(report);
        }
        shown = phase;
        tokio::time::sleep(LOOK).await;
    }
}

fn line(report: &Value) -> String {
    let streams = report["streams"].as_object().into_iter().flatten();
    let streams = streams.map(|(name, stream)| format!("{name} {} of {}", count(stream, "read"), count(stream, "of")));
    let phase = report["phase"].as_str().unwrap_or_default();
    format!("{phase}: {}", streams.collect::<Vec<_>>().join(", "))
}

fn text(report: &Value, ink: Ink) -> String {
    let mut lines = Vec::new();
    for (name, table) in tables(report) {
        let differing = count(table, "differing");
        let found = match differing {
            0 => ink.good("equal"),
            1 => ink.bad("one row differs"),
            _ => ink.bad(&format!("{differing} rows differ")),
        };
        lines.push(format!("{name:<12}{found}"));
        for difference in table["differences"].as_array().into_iter().flatten() {
            let key = difference["key"].as_str().unwrap_or_default();
            lines.push(format!(
                "  {key}\n    live    {}\n    events  {}",
                difference["live"], difference["rebuilt"]
            ));
        }
        let rows = table["rows"].as_array().into_iter().flatten();
        lines.extend(rows.map(|row| format!("  {row}")));
    }
    lines.push(outcome(report, ink));
    lines.join("\n")
}

fn outcome(report: &Value, ink: Ink) -> String {
    if let Some(error) = report["error"].as_str() {
        return ink.bad(&format!("Given up: {error}. The live tables are as they were."));
    }
    let took = seconds(report).unwrap_or_default();
    let events = count(report, "replayed");
    let mut parts = vec![format!(
        "{events} events in {took:.1} s ({:.0} a second)",
        events as f64 / took.max(0.001)
    )];
    if report["exchanged"] == true {
        parts.push(format!(
            "the replayed tables are the live ones now; the consumer waited {} ms",
            count(report, "consumer_waited_ms")
        ));
    }
    for (name, words) in [
        ("mended", "orders corrected"),
        ("lost", "events heard that the streams no longer hold"),
        ("ahead", "events that the live service has not heard yet"),
    ] {
        let number = count(report, name);
        if number > 0 {
            parts.push(format!("{number} {words}"));
        }
    }
    format!("{}.", parts.join("; "))
}

fn seconds(report: &Value) -> Option<f64> {
    let time = |name: &str| report[name].as_str()?.parse::<DateTime<Utc>>().ok();
    let took = time("ended_at")? - time("started_at")?;
    Some(took.num_milliseconds() as f64 / 1000.0)
}

fn tables(report: &Value) -> impl Iterator<Item = (&String, &Value)> {
    report["tables"].as_object().into_iter().flatten()
}

fn count(value: &Value, name: &str) -> u64 {
    value[name].as_u64().unwrap_or(0)
}
