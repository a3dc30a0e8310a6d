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

    println!("Created");
    for (path, _) in &files {
        println!("  {path}");
    }
    println!("Added");
    for (path, line) in wiring.lines() {
        println!("  {path:<27}{}", line.trim());
    }
    println!("  {:<27}its package", "Cargo.lock");
    println!(
        "No other file has changed: nobody who tells {} knows of it.\n",
        options.hears
    );
    println!("cargo test -p {name}   its rules, its table, its API");
    println!(
        "cargo shop up{:1$}   starts it with the others, on {2}",
        "",
        name.as_str().len(),
        wiring.port()
    );
    println!("\nHow to start it beside a shop that runs, and what to change first: docs/add-a-service.md");
    Ok(ExitCode::SUCCESS)
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
