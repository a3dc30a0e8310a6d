//! `cargo shop`: one word for everything one does with this shop on one machine.

mod ci;
mod new_service;
mod prepare;
mod workspace;

#[cfg(feature = "shop")]
mod commands;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The whole shop on one machine, and the chores of this repository.
#[derive(Debug, Parser)]
#[command(name = "cargo shop", bin_name = "cargo shop")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[cfg(feature = "shop")]
    #[command(flatten)]
    Shop(commands::Command),
    /// Adds a service that hears an event: a crate, its table, and the three lines by which the others start it.
    NewService(new_service::Options),
    /// Runs everything that CI runs, and stops at the first failure.
    Test,
    /// Renews the committed description of every SQL query; `cargo prepare` works while services do not compile.
    Prepare(prepare::Options),
    /// Writes docs/failures.md from the list of failures and the tests that prove them.
    Failures {
        /// Changes nothing, and fails if the page is out of date or a row is neither proven nor excused.
        #[arg(long)]
        check: bool,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        #[cfg(feature = "shop")]
        Command::Shop(command) => command.run().await,
        Command::NewService(options) => new_service::run(&options),
        Command::Test => ci::run(),
        Command::Prepare(options) => prepare::run(options).await,
        Command::Failures { check } => failures(check),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn failures(only_check: bool) -> anyhow::Result<ExitCode> {
    let complete = xtask::failures::run(&workspace::root()?, only_check)?;
    Ok(if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
