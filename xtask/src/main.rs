//! `cargo shop`: one word for everything one does with this shop on one machine.

mod ci;
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
    /// Runs everything that CI runs, and stops at the first failure.
    Test,
    /// Renews the committed description of every SQL query; `cargo prepare` works while services do not compile.
    Prepare(prepare::Options),
}

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        #[cfg(feature = "shop")]
        Command::Shop(command) => command.run().await,
        Command::Test => ci::run(),
        Command::Prepare(options) => prepare::run(options).await,
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
