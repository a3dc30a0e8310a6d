//! `cargo shop up`.

use std::env;
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, Local};
use clap::Args;
use testbed::{Durability, Tools};
use tokio::signal::unix::{SignalKind, signal};
use trace_viewer::Viewer;
use xtask::shop::{BROKER_FOLDERS, GATEWAY_PORT, Ports, Service, Shop, ShopOptions};

use super::ink::{Ink, say};
use super::log::Logs;
use super::ports;
use super::running::{Claim, Running, data};
use super::welcome;
use crate::workspace::cargo;

const OTLP: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
/// How often programs that have ended by themselves are started again.
const REVIVE: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Begins with empty databases instead of those of the last time.
    #[arg(long)]
    fresh: bool,
    /// Builds and runs with optimisations, as in production.
    #[arg(long)]
    release: bool,
    /// Lets everybody into the broker, and services own their databases: to start another service beside them by hand.
    #[arg(long)]
    open: bool,
    /// Runs a broker of three servers instead of one; what the other kind held is published again.
    #[arg(long)]
    cluster: bool,
    /// Leaves an empty catalogue empty.
    #[arg(long)]
    no_seed: bool,
    /// The port of the private PostgreSQL; a free one when absent.
    #[arg(long, env = "SHOP_POSTGRES_PORT")]
    postgres_port: Option<u16>,
    /// The port of the private broker, or that of the first of three; free ones when absent.
    #[arg(long, env = "SHOP_NATS_PORT")]
    nats_port: Option<u16>,
}

/// Starts everything, shows the logs, and returns once everything has ended.
pub(super) async fn run(options: Options) -> Result<ExitCode> {
    let claim = Claim::take(&data()?).await?;
    Running::forget()?;
    let mut stop = Stop::listen()?;
    let started = tokio::select! {
        started = start(&options) => Some(started?),
        () = stop.asked() => None,
    };
    if let Some((shop, viewer)) = started {
        attend(&shop, viewer.as_ref(), &mut stop).await?;
        say("\nStopping; once more stops at once.");
        tokio::select! {
            ended = end(shop, viewer) => ended?,
            // What was started does not outlive this process.
            () = stop.asked() => std::process::exit(130),
        }
    }
    Running::forget()?;
    drop(claim);
    say("Stopped. The data is kept in .shop; cargo shop up goes on with it.");
    Ok(ExitCode::SUCCESS)
}

async fn start(options: &Options) -> Result<(Shop, Option<Viewer>)> {
    let exporting = env::var(OTLP).ok().filter(|endpoint| !endpoint.is_empty());
    ports::check(&wanted(options, exporting.is_none())).await?;
    let tools = tokio::task::spawn_blocking(|| Tools::find_or_install(|step| println!("{step}"))).await??;
    println!("PostgreSQL  {}", tools.postgres_bin.display());
    println!("NATS        {}", tools.nats_server.display());
    let binaries = build(options.release).await?;
    if options.fresh {
        forget_everything()?;
    }
    let viewer = match exporting {
        Some(_) => None,
        None => Some(viewer().await?),
    };
    let shop = Shop::start(ShopOptions {
        home: Some(data()?),
        ports: Ports::Fixed,
        postgres_port: options.postgres_port,
        nats_port: options.nats_port,
        brokers: brokers(options.cluster),
        env: Vec::new(),
        otlp: exporting.or_else(|| viewer.as_ref().map(|viewer| format!("http://{}", viewer.otlp_addr()))),
        binaries: Some(binaries),
        durability: Durability::Real,
        secured: !options.open,
        seed: !options.no_seed,
        progress: |step| println!("{step}"),
        ..ShopOptions::default()
    });
    let shop = shop.await.map_err(|error| match error.to_string() {
        // A migration that was applied has been edited since.
        text if text.contains("previously applied") => {
            error.context("cargo shop up --fresh begins with empty databases")
        }
        _ => error,
    })?;
    Ok((shop, viewer))
}

/// Every port that must be free, and for what.
fn wanted(options: &Options, with_viewer: bool) -> Vec<(u16, String)> {
    let mut wanted = Vec::new();
    for service in Service::ALL {
        wanted.push((service.port(), service.to_string()));
        wanted.push((service.admin_port(), format!("admin of {service}")));
    }
    wanted.push((GATEWAY_PORT, "sandbox gateway".to_owned()));
    if with_viewer {
        let viewer = trace_viewer::Options::default();
        wanted.push((viewer.http.port(), "trace viewer".to_owned()));
        wanted.push((viewer.otlp.port(), format!("spans; set {OTLP} to send them elsewhere")));
    }
    wanted.extend(options.postgres_port.map(|port| (port, "PostgreSQL".to_owned())));
    for server in 0..brokers(options.cluster) as u16 {
        wanted.extend(options.nats_port.map(|port| (port + server, "NATS".to_owned())));
    }
    wanted
}

/// How many servers the broker has.
pub(super) fn brokers(cluster: bool) -> usize {
    if cluster { 3 } else { 1 }
}

/// Builds what is run; with this package, so that nothing is compiled twice with other features.
pub(super) async fn build(release: bool) -> Result<PathBuf> {
    let mut command = tokio::process::Command::from(cargo()?);
    command
        .args(["build", "--bins", "--package", "xtask"])
        .kill_on_drop(true)
        .stdin(Stdio::null());
    for service in Service::ALL {
        command.args(["--package", service.name()]);
    }
    let profile = if release { "release" } else { "debug" };
    if release {
        command.arg("--release");
    }
    let built = command.status().await.context("cannot run cargo")?;
    ensure!(built.success(), "the services do not compile");
    let own = env::current_exe()?;
    let target = own
        .ancestors()
        .nth(2)
        .context("this executable is in no target folder")?;
    Ok(target.join(profile))
}

/// Removes what the last shop has left, but not the tools.
fn forget_everything() -> Result<()> {
    let servers = ["postgres"].into_iter().chain(BROKER_FOLDERS);
    for name in servers.chain(["gateway", "mail", "logs", "run"]) {
        let folder = data()?.join(name);
        if folder.is_symlink() {
            // PostgreSQL's folder may be a link to where its user may go.
            let _ = std::fs::remove_dir_all(folder.canonicalize()?);
            std::fs::remove_file(&folder)?;
        } else if folder.exists() {
            std::fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
        }
    }
    println!("Removed the data of the last shop.");
    Ok(())
}

/// The trace viewer on its usual ports; without Jaeger's pages where they cannot be had.
async fn viewer() -> Result<Viewer> {
    let pages = data()?.join("tools/jaeger-ui");
    if !pages.exists() {
        println!("Fetching the pages of the trace viewer.");
    }
    let ui = match trace_viewer::ui::fetch(&pages).await {
        Ok(()) => Some(pages),
        Err(error) => {
            println!("The trace viewer does with a plain page: {error:#}");
            None
        }
    };
    Viewer::start(trace_viewer::Options {
        ui,
        ..trace_viewer::Options::default()
    })
    .await
}

/// Shows the logs and starts again what has died, until somebody asks for the end.
async fn attend(shop: &Shop, viewer: Option<&Viewer>, stop: &mut Stop) -> Result<()> {
    let (ink, started_at) = (Ink::of_stdout(), Local::now());
    Running::of(shop, viewer, started_at).write()?;
    say(&welcome::text(shop, viewer, ink));
    let mut logs = Logs::of_services()?;
    tokio::select! {
        () = stop.asked() => Ok(()),
        () = logs.follow(ink) => Ok(()),
        failed = revive(shop, viewer, started_at, ink) => failed,
    }
}

/// As a container would: what has died is started again, a moment later.
async fn revive(shop: &Shop, viewer: Option<&Viewer>, started_at: DateTime<Local>, ink: Ink) -> Result<()> {
    let mut known = Running::of(shop, viewer, started_at);
    loop {
        tokio::time::sleep(REVIVE).await;
        for name in shop.revive().await? {
            say(&ink.bad(&format!("{name} has ended; it is started again")));
        }
        let now = Running::of(shop, viewer, started_at);
        if now != known {
            now.write()?;
            known = now;
        }
    }
}

/// Services first, then the viewer, so that it sees their last spans.
async fn end(shop: Shop, viewer: Option<Viewer>) -> Result<()> {
    shop.shutdown().await?;
    if let Some(viewer) = viewer {
        viewer.shutdown().await;
    }
    Ok(())
}

/// Ctrl-C, SIGTERM, and a terminal that was closed.
struct Stop(Vec<tokio::signal::unix::Signal>);

impl Stop {
    fn listen() -> Result<Self> {
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        Ok(Self(kinds.into_iter().map(signal).collect::<Result<_, _>>()?))
    }

    async fn asked(&mut self) {
        let signals = self.0.iter_mut().map(|signal| Box::pin(signal.recv()));
        futures_util::future::select_all(signals).await;
    }
}
