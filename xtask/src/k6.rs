//! k6, and the load tests in `load-tests/` that it runs: as a program of this machine, or in its container.

use std::fs;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use testbed::Scratch;
use tokio::process::Command;

use crate::audit::ClientLog;

/// What is run where the program cannot be had.
const IMAGE: &str = "grafana/k6:1.1.0";
/// By what the scripts are told; a container knows no other variables of ours.
const SETTINGS: [&str; 18] = [
    "BUYERS",
    "DECLINED",
    "DURATION",
    "END_P95_MS",
    "FACTOR",
    "FOLLOW",
    "LATENCY",
    "MOST_DRIFT",
    "PATIENCE",
    "PIECES",
    "POST_P95_MS",
    "POST_P99_MS",
    "RATE",
    "REPEAT",
    "SPIKE",
    "UNDELIVERABLE",
    "USUAL",
    "VUS",
];

/// k6, wherever it is.
#[derive(Debug, Clone)]
pub enum K6 {
    /// A program.
    Program(PathBuf),
    /// A container of its image, which uses this machine's network.
    Container,
}

/// What is run, and against what.
#[derive(Debug)]
pub struct Run<'a> {
    /// One of `load-tests/`.
    pub script: &'a Path,
    /// The order service.
    pub order_url: &'a str,
    /// The inventory service.
    pub inventory_url: &'a str,
    /// Settings of the script, beside those of the environment.
    pub settings: &'a [(&'a str, &'a str)],
}

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// Whether it ran to its end with every threshold kept.
    pub passed: bool,
    /// What its customers have sent and seen; none from a container, which keeps its log to itself.
    pub customers: Option<ClientLog>,
}

impl K6 {
    /// The program if there is one or one can be installed, or else the container; each step is told before it is taken.
    pub async fn find_or_install(progress: fn(&str)) -> Result<Self> {
        match tokio::task::spawn_blocking(move || testbed::k6(progress)).await? {
            Ok(program) => Ok(Self::Program(program)),
            Err(error) if has_docker().await => {
                progress(&format!("Using the container {IMAGE}: {error:#}"));
                Ok(Self::Container)
            }
            Err(error) => Err(error),
        }
    }

    /// Runs a script to its end; what it prints is shown.
    pub async fn run(&self, run: &Run<'_>) -> Result<Outcome> {
        let script = run.script.canonicalize();
        let script = script.with_context(|| run.script.display().to_string())?;
        let scratch = Scratch::new("k6").await?;
        let log = scratch.path().join("console.log");
        let mut command = match self {
            Self::Program(program) => native(program, &log),
            Self::Container => container(&script, run)?,
        };
        command.envs(run.settings.iter().copied());
        command.env("BASE_URL", run.order_url);
        command.env("INVENTORY_URL", run.inventory_url);
        match self {
            Self::Program(_) => command.arg(&script),
            Self::Container => command.arg(Path::new("/load-tests").join(script.file_name().unwrap_or_default())),
        };
        let status = command.status().await.context("cannot run k6")?;
        let customers = match self {
            Self::Program(_) => Some(customers(&fs::read_to_string(&log).unwrap_or_default())),
            Self::Container => None,
        };
        Ok(Outcome {
            passed: status.success(),
            customers,
        })
    }
}

fn native(program: &Path, log: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(["run", "--no-usage-report", "--log-format=raw", "--console-output"]);
    command.arg(log).env("TELL_ORDERS", "1");
    if !std::io::stdout().is_terminal() {
        command.args(["--quiet", "--no-color"]);
    }
    command
}

/// The folder of the script is what the container sees of this machine's disk.
fn container(script: &Path, run: &Run<'_>) -> Result<Command> {
    let folder = script.parent().context("the script is in no folder")?;
    let mut command = Command::new("docker");
    command.args(["run", "--rm", "--network=host", "--volume"]);
    command.arg(format!("{}:/load-tests:ro", folder.display()));
    let own = run.settings.iter().map(|(name, _)| *name);
    for name in own.chain(SETTINGS).chain(["BASE_URL", "INVENTORY_URL"]) {
        command.args(["--env", name]);
    }
    command.args([IMAGE, "run", "--no-usage-report", "--quiet"]);
    Ok(command)
}

async fn has_docker() -> bool {
    let asked = Command::new("docker").args(["info", "--format", "{{.ID}}"]).output();
    asked.await.is_ok_and(|answer| answer.status.success())
}

/// Reads what the scripts tell of each order; whatever else is in the log is shown.
fn customers(log: &str) -> ClientLog {
    let mut customers = ClientLog::default();
    for line in log.lines() {
        match line.split_once(' ') {
            Some(("attempted", key)) => {
                customers.attempted.insert(key.to_owned());
            }
            Some(("accepted", id)) => customers.accepted.extend(id.parse::<uuid::Uuid>()),
            _ => eprintln!("{line}"),
        }
    }
    customers
}

/// The script of this name in the folder `load-tests` of a workspace, or the one at this path.
pub fn script(workspace: &Path, name: &str) -> Result<PathBuf> {
    let folder = workspace.join("load-tests");
    let known = folder.join(name).with_extension("js");
    if known.is_file() {
        return Ok(known);
    }
    if Path::new(name).is_file() {
        return Ok(name.into());
    }
    bail!("there is no {name} in {}", folder.display())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;

    use super::*;

    fn workspace() -> &'static Path {
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
    }

    /// The names that the scripts ask for, whatever function they ask.
    fn asked_for() -> BTreeSet<String> {
        let scripts = fs::read_dir(workspace().join("load-tests")).unwrap();
        let texts = scripts.map(|script| fs::read_to_string(script.unwrap().path()).unwrap());
        let text = texts.collect::<Vec<_>>().join("\n");
        let asked = ["number(\"", "setting(\""]
            .into_iter()
            .flat_map(|call| text.split(call).skip(1));
        asked.map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
    }

    #[test]
    fn a_container_is_told_every_setting_that_a_script_asks_for() {
        let mut asked = asked_for();
        for ours in ["BASE_URL", "INVENTORY_URL", "TELL_ORDERS"] {
            assert!(asked.remove(ours), "nobody asks for {ours}");
        }
        assert_eq!(asked, SETTINGS.map(str::to_owned).into());
    }

    #[test]
    fn what_the_scripts_tell_is_what_the_audit_compares_with() {
        let id = "0198a8a0-0000-7000-8000-000000000001";
        let read = customers(&format!("attempted a-1\nattempted a-2\naccepted {id}\nsomething else"));
        assert_eq!(read.attempted, ["a-1", "a-2"].map(str::to_owned).into());
        assert_eq!(read.accepted, [id.parse().unwrap()].into());
    }

    #[test]
    fn a_script_is_found_by_its_name_with_and_without_its_ending() {
        let found = script(workspace(), "place_order").unwrap();
        assert_eq!(script(workspace(), "place_order.js").unwrap(), found);
        assert!(
            script(workspace(), "no_such_test")
                .unwrap_err()
                .to_string()
                .contains("no_such_test")
        );
    }
}
