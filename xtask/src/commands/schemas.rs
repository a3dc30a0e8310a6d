//! `cargo shop schemas`: the schemas of events in the repository, and the contracts in use at a broker.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};
use async_nats::jetstream;
use clap::{Args, Subcommand};
use events::contract::{self, Change};
use messaging::registry;
use serde_json::Value;

use super::running::Running;
use crate::workspace::root;

/// Where the schemas are committed.
const FOLDER: &str = "shared/events/schemas";

#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Renews the committed schemas from the types; refuses a change that would break somebody.
    Write,
    /// Shows what changed since a commit, a branch or a tag, and exits with 1 if it must not.
    Diff {
        /// `main`, `v1.2.0`, a commit.
        since: String,
    },
    /// Shows which services use which event at the broker of the shop that runs.
    List(Broker),
    /// Forgets a service that no longer exists, so that nobody is compared with it any more.
    Retire {
        /// Its name.
        service: String,
        #[command(flatten)]
        broker: Broker,
    },
}

#[derive(Debug, Args)]
struct Broker {
    /// The broker, if it is not that of the shop that runs here.
    #[arg(long, env = "NATS_URL", hide_env_values = true)]
    nats_url: Option<String>,
}

/// Schemas by label.
type Schemas = BTreeMap<String, Value>;

pub(super) async fn run(options: Options) -> Result<ExitCode> {
    match options.action {
        Action::Write => write(&root()?.join(FOLDER)),
        Action::Diff { since } => diff(&since),
        Action::List(broker) => list(&broker.connect().await?).await,
        Action::Retire { service, broker } => retire(&broker.connect().await?, &service).await,
    }
}

/// What the types say today.
fn today() -> Schemas {
    let schema = |event: &contract::Published| (event.event_type.label(), (event.schema)());
    contract::catalogue().map(schema).collect()
}

fn write(folder: &Path) -> Result<ExitCode> {
    let mut committed = Schemas::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let label = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".json"));
        if let Some(label) = label {
            let text = fs::read_to_string(&path)?;
            let schema = serde_json::from_str(&text).with_context(|| format!("{} is no JSON", path.display()))?;
            committed.insert(label.to_owned(), schema);
        }
    }
    let today = today();
    let breaches = breaches(&committed, &today);
    if !breaches.is_empty() {
        bail!(
            "nothing was written: {}.\nMake a new version beside it (docs/contract.md)",
            breaches.join(";\n  ")
        );
    }
    let stale = today
        .iter()
        .filter(|(label, schema)| committed.get(*label) != Some(schema));
    let mut written = 0;
    for (label, schema) in stale {
        fs::write(folder.join(format!("{label}.json")), contract::written(schema))?;
        println!("wrote {FOLDER}/{label}.json");
        written += 1;
    }
    println!("{written} of {} schemas were out of date.", today.len());
    Ok(ExitCode::SUCCESS)
}

/// A sentence for each change that somebody would stumble over.
fn breaches(before: &Schemas, today: &Schemas) -> Vec<String> {
    let refused = before.iter().flat_map(|(label, old)| {
        let changes = today.get(label).map(|new| contract::changes(old, new));
        let refused = changes.into_iter().flatten().filter(|change| !change.is_allowed());
        refused.map(|change| sentence(label, &change)).collect::<Vec<_>>()
    });
    refused.chain(gone(before, today)).collect()
}

fn gone<'a>(before: &'a Schemas, today: &'a Schemas) -> impl Iterator<Item = String> + 'a {
    let gone = before.keys().filter(|label| !today.contains_key(*label));
    gone.map(|label| format!("{label} has been published, so its type has to stay: the streams still hold it"))
}

fn sentence(label: &str, change: &Change) -> String {
    change.sentence(label, &contract::consumers(label))
}

fn diff(since: &str) -> Result<ExitCode> {
    let (before, today) = (at(since)?, today());
    let mut differences = 0;
    for (label, schema) in &today {
        match before.get(label) {
            None => {
                println!("allowed  {label} is new");
                differences += 1;
            }
            Some(old) => {
                for change in contract::changes(old, schema) {
                    let verdict = if change.is_allowed() { "allowed" } else { "REFUSED" };
                    println!("{verdict}  {}", sentence(label, &change));
                    differences += 1;
                }
            }
        }
    }
    for sentence in gone(&before, &today) {
        println!("REFUSED  {sentence}");
        differences += 1;
    }
    if differences == 0 {
        println!("The contract is the same as at {since}.");
    }
    let allowed = breaches(&before, &today).is_empty();
    Ok(if allowed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The schemas as they were committed then.
fn at(commit: &str) -> Result<Schemas> {
    let listed = git(&["ls-tree", "--name-only", commit, &format!("{FOLDER}/")])?;
    let mut schemas = Schemas::new();
    for path in listed.lines() {
        let name = path.rsplit('/').next().unwrap_or(path);
        if let Some(label) = name.strip_suffix(".json") {
            let text = git(&["show", &format!("{commit}:{path}")])?;
            schemas.insert(label.to_owned(), serde_json::from_str(&text)?);
        }
    }
    Ok(schemas)
}

fn git(arguments: &[&str]) -> Result<String> {
    let output = Command::new("git").args(arguments).current_dir(root()?).output();
    let output = output.context("cannot run git")?;
    let trouble = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "git {}: {}",
        arguments.join(" "),
        trouble.trim()
    );
    Ok(String::from_utf8(output.stdout)?)
}

impl Broker {
    async fn connect(self) -> Result<jetstream::Context> {
        let url = match self.nats_url {
            Some(url) => url,
            None => Running::find()?.nats_url,
        };
        let (options, servers) = messaging::broker::options(&url)?;
        let client = options.connect(servers).await;
        Ok(jetstream::new(
            client.with_context(|| format!("no broker answers at {url}"))?,
        ))
    }
}

async fn list(jetstream: &jetstream::Context) -> Result<ExitCode> {
    let in_use = registry::in_use(jetstream).await?;
    let mut events: BTreeMap<&str, (Vec<&str>, Vec<&str>)> = BTreeMap::new();
    for (service, contract) in &in_use {
        for label in contract.emits.keys() {
            events.entry(label).or_default().0.push(service);
        }
        for label in contract.accepts.keys() {
            events.entry(label).or_default().1.push(service);
        }
    }
    println!("{:<32} {:<12} heard by", "event", "told by");
    for (label, (tellers, listeners)) in events {
        println!("{label:<32} {:<12} {}", tellers.join(", "), listeners.join(", "));
    }
    println!("\n{} services are registered.", in_use.len());
    Ok(ExitCode::SUCCESS)
}

async fn retire(jetstream: &jetstream::Context, service: &str) -> Result<ExitCode> {
    let known = registry::retire(jetstream, service).await?;
    ensure!(
        known,
        "{service} is not in the registry: cargo shop schemas list shows who is"
    );
    println!("{service} is forgotten.");
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use testbed::Scratch;

    use super::*;

    /// The schemas of today in a folder, but one field of one event as it was once.
    async fn with_former(field: &str, former: Value) -> (Scratch, std::path::PathBuf) {
        let scratch = Scratch::new("schemas").await.unwrap();
        for (label, mut schema) in today() {
            if label == "OrderPlaced.v1" {
                schema["properties"][field] = former.clone();
            }
            fs::write(scratch.path().join(format!("{label}.json")), contract::written(&schema)).unwrap();
        }
        let path = scratch.path().join("OrderPlaced.v1.json");
        (scratch, path)
    }

    #[tokio::test]
    async fn a_breaking_change_is_refused_and_nothing_is_written() {
        let gone = serde_json::json!({ "type": "string" });
        let (folder, path) = with_former("phone", gone).await;
        let before = fs::read(&path).unwrap();
        let refusal = write(folder.path()).unwrap_err().to_string();
        let sentence = "removing `phone` from OrderPlaced.v1 breaks inventory, email, analytics";
        assert!(refusal.contains(sentence), "{refusal}");
        assert_eq!(fs::read(&path).unwrap(), before);
    }

    #[tokio::test]
    async fn a_change_that_breaks_nobody_is_written() {
        let same = today()["OrderPlaced.v1"]["properties"]["total"].clone();
        let mut reworded = same.clone();
        reworded["description"] = "The sum.".into();
        let (folder, path) = with_former("total", reworded).await;
        write(folder.path()).unwrap();
        let written: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(written["properties"]["total"], same);
    }

    #[test]
    fn a_published_version_has_to_stay() {
        let mut before = today();
        before.insert("OrderPlaced.v0".into(), Value::Bool(true));
        let sentences = breaches(&before, &today());
        assert!(
            sentences[0].starts_with("OrderPlaced.v0 has been published"),
            "{sentences:?}"
        );
    }
}
