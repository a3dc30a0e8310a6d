//! `cargo shop audit`.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;
use xtask::audit::{Addresses, Audit, Kind, Line, Report, Scope, Verdict};
use xtask::shop::{GATEWAY_PORT, Service};

use super::ink::{Ink, say};
use super::running::Running;

/// Wide enough for the longest name of an invariant.
const NAME: usize = 44;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Checks only what holds at every moment, and waits for nothing.
    #[arg(long)]
    always: bool,
    /// How many seconds the shop may take to come to rest before it is audited all the same.
    #[arg(long, default_value_t = 60, value_name = "SECONDS", conflicts_with = "always")]
    wait: u64,
    /// Shows breaches of this invariant, but takes no offence; may be given more than once.
    #[arg(long, value_name = "INVARIANT")]
    allow: Vec<String>,
    /// The databases of a shop that does not run here; {service} stands for the name of a service,
    /// as in postgres://postgres@127.0.0.1:5432/shop_{service}
    #[arg(long, env = "AUDIT_DATABASE_URL_TEMPLATE", hide_env_values = true)]
    database_url_template: Option<String>,
    /// The broker of that shop.
    #[arg(long, env = "NATS_URL", hide_env_values = true)]
    nats_url: Option<String>,
    /// The sandbox gateway of that shop.
    #[arg(long, env = "GATEWAY_URL")]
    gateway_url: Option<String>,
}

/// Audits a shop, and fails when an invariant does not hold.
pub(super) async fn run(options: Options) -> Result<ExitCode> {
    let names: Vec<&str> = xtask::audit::invariants().map(|invariant| invariant.name).collect();
    if let Some(unknown) = options.allow.iter().find(|name| !names.contains(&name.as_str())) {
        bail!("there is no invariant {unknown:?}; there are {}", names.join(", "));
    }
    let audit = Audit::of(options.addresses()?).allowing(options.allow.clone());
    let scope = if options.always {
        Scope::Always
    } else {
        Scope::Everything
    };
    check(&audit, scope, Duration::from_secs(options.wait)).await
}

/// Waits for rest, unless only that is checked which holds at every moment, and shows what the audit finds.
pub(super) async fn check(audit: &Audit, scope: Scope, wait: Duration) -> Result<ExitCode> {
    let ink = Ink::of_stdout();
    if scope == Scope::Everything && !wait.is_zero() {
        rest(audit, wait, ink).await;
    }
    let started = Instant::now();
    let report = audit.run(scope).await?;
    say(&text(&report, started.elapsed(), ink));
    Ok(if report.is_sound() && report.count(Verdict::Unread) == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

impl Options {
    /// Of the shop that runs here, unless another one's databases were said.
    fn addresses(&self) -> Result<Addresses> {
        let Some(template) = &self.database_url_template else {
            return Running::find()?.addresses();
        };
        let database = |service: Service| (service, template.replace("{service}", service.name()));
        let or = |said: &Option<String>, usual: String| said.clone().unwrap_or(usual);
        Ok(Addresses {
            databases: Service::ALL.map(database).into(),
            nats_url: or(&self.nats_url, "nats://127.0.0.1:4222".to_owned()),
            gateway_url: or(&self.gateway_url, format!("http://127.0.0.1:{GATEWAY_PORT}")),
        })
    }
}

/// Waits until nothing is on its way; what does not come to rest will be among the breaches.
async fn rest(audit: &Audit, within: Duration, ink: Ink) {
    let terminal = std::io::stdout().is_terminal();
    let drained = audit.drain(within, |waiting| {
        if terminal {
            print!("\r\x1b[2K{}", ink.dim(&format!("waiting: {waiting}")));
            let _ = std::io::stdout().flush();
        }
    });
    let drained = drained.await;
    if terminal {
        print!("\r\x1b[2K");
    }
    if let Err(error) = drained {
        say(&ink.warning(&format!("{error:#}; it is audited all the same")));
    }
}

fn text(report: &Report, took: Duration, ink: Ink) -> String {
    let mut lines: Vec<String> = report.lines.iter().map(|line| line_text(line, ink)).collect();
    let broken = report.count(Verdict::Broken) + report.count(Verdict::Unread);
    let outcome = match broken {
        0 => ink.good(&format!("All {} invariants hold.", report.lines.len())),
        1 => ink.bad("One invariant does not hold."),
        _ => ink.bad(&format!("{broken} of {} invariants do not hold.", report.lines.len())),
    };
    lines.push(format!(
        "\n{outcome} {}; read in {:.1} s.",
        report.figures,
        took.as_secs_f64()
    ));
    lines.join("\n")
}

fn line_text(line: &Line, ink: Ink) -> String {
    let Line { invariant, .. } = line;
    let word = format!("{:<8}", line.verdict.as_str());
    let word = match line.verdict {
        Verdict::Kept => ink.good(&word),
        Verdict::Allowed => ink.warning(&word),
        Verdict::Broken | Verdict::Unread => ink.bad(&word),
    };
    let rest = if invariant.kind == Kind::AtRest {
        " (at rest)"
    } else {
        ""
    };
    let promise = ink.dim(&format!("{}{rest}", invariant.promise));
    let mut text = format!("{word}{:<NAME$}{:>8}  {promise}", invariant.name, line.looked_at);
    for breach in line.shown() {
        text += &format!("\n          {breach}");
    }
    text
}
