//! `cargo shop new-service`: a service that hears one event and counts points for it in a table of its own.
//!
//! The template is a crate like any other, [`xtask/newcomer`](../../newcomer): compiled, linted and tested with the
//! workspace, its SQL checked and described. A new service is that crate under another name, so it compiles at once
//! and offline: no query names the service, hence their descriptions are the same.

mod contract;
mod name;
mod template;
mod wiring;

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::workspace::{cargo, root};
use contract::Contract;
use name::Name;
use template::Template;
use wiring::Wiring;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Its name: lower-case words, such as `loyalty` or `gift_cards`.
    name: String,
    /// The event that it hears, any of shared/events.
    #[arg(long, default_value = "OrderCompleted")]
    hears: String,
    /// The port of its API; a thousand above it are the operator's endpoints. The next one when absent.
    #[arg(long)]
    port: Option<u16>,
}

/// Checks everything first, so that a refusal has changed nothing.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let root = root()?;
    let template = Template::read(&root)?;
    let name = Name::choose(&options.name, &root, &template)?;
    let contract = Contract::read(&root)?;
    let content = contract.sample(&options.hears)?;
    let files = template.render(&name, &options.hears, &content);
    let wiring = Wiring::of(&root, &name, &options.hears, options.port)?;

    for (path, text) in &files {
        create(&root.join(path), text)?;
    }
    wiring.write(&root)?;
    finish(&name)?;

    println!("{}", report(&name, &options.hears, &files, &wiring));
    Ok(ExitCode::SUCCESS)
}

/// What there is now, and what to do next.
fn report(name: &Name, event: &str, files: &[(String, String)], wiring: &Wiring) -> String {
    let mut lines = vec!["Created".to_owned()];
    let (queries, sources): (Vec<_>, Vec<_>) = files.iter().partition(|(path, _)| path.contains("/.sqlx/"));
    lines.extend(sources.iter().map(|(path, _)| format!("  {path}")));
    lines.push(format!(
        "  services/{name}/.sqlx, the descriptions of {} queries",
        queries.len()
    ));
    lines.push("Added".to_owned());
    for (path, line) in wiring.lines() {
        lines.push(format!("  {path:<27}{}", line.trim()));
    }
    lines.push(format!("  {:<27}its package", "Cargo.lock"));
    lines.push(format!(
        "No other file has changed: nobody who tells {event} knows of it.\n"
    ));
    let test = format!("cargo test -p {name}");
    let width = test.len();
    lines.push(format!("{test}   its rules, its table, its API"));
    let port = wiring.port();
    lines.push(format!(
        "{:width$}   starts it with the others, on {port}\n",
        "cargo shop up"
    ));
    lines.push("How to start it beside a shop that runs, and what to change first: docs/add-a-service.md".to_owned());
    lines.join("\n")
}

/// Writes a file that was not there before.
fn create(path: &Path, text: &str) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let refused = || format!("{} is not overwritten", path.display());
    let mut file = fs::File::create_new(path).with_context(refused)?;
    std::io::Write::write_all(&mut file, text.as_bytes())?;
    Ok(())
}

/// The lock file learns of the package; imports stand in the order of the new name.
fn finish(name: &Name) -> Result<()> {
    for arguments in ["update --workspace --offline --quiet", "fmt --package"] {
        let mut command = cargo()?;
        command.args(arguments.split(' '));
        if arguments.ends_with("--package") {
            command.arg(name.as_str());
        }
        let status = command.status().context("cannot run cargo")?;
        ensure!(status.success(), "the service is there, but cargo {arguments} failed");
    }
    Ok(())
}
