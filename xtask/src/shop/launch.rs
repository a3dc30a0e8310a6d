//! Every program of a shop with its environment, and what it printed.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};
use testbed::Process;

use super::options::{Addresses, Home};
use super::{GATEWAY, Service, Shop, ShopOptions};

/// What all launches of one shop share.
pub(super) struct Launch<'a> {
    pub(super) binaries: PathBuf,
    pub(super) options: &'a ShopOptions,
    pub(super) addresses: &'a Addresses,
    pub(super) home: &'a Home,
}

impl Launch<'_> {
    pub(super) async fn service(&self, shop: &Shop, service: Service) -> Result<(&'static str, Process)> {
        let command = self.service_command(shop, service)?;
        self.start(service.name(), &command).await
    }

    /// A service's program with everything that it is told.
    pub(super) fn service_command(&self, shop: &Shop, service: Service) -> Result<Command> {
        let mut command = self.command(service.name())?;
        command
            .env("DATABASE_URL", shop.own_database_url(service))
            .env("NATS_URL", shop.own_nats_url(service))
            .env("HTTP_ADDR", self.addresses.http(service))
            .env("ADMIN_ADDR", self.addresses.admin(service));
        if self.options.secured {
            command.env("MIGRATE", "false");
        }
        match service {
            Service::Order => command.env("INVENTORY_URL", shop.url(Service::Inventory)),
            Service::Payment => command.env("GATEWAY_URL", shop.gateway_url()),
            Service::Email => command.env("MAIL_DIR", shop.mail_dir()),
            Service::Analytics => command.env("OWNER_DATABASE_URL", shop.owner_database_url(service)),
            _ => &mut command,
        };
        match &self.options.otlp {
            Some(endpoint) => command.env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint),
            None => command.env_remove("OTEL_EXPORTER_OTLP_ENDPOINT"),
        };
        // Whoever watches wants to see spans at once; production can wait.
        if env::var_os("OTEL_BSP_SCHEDULE_DELAY").is_none() {
            command.env("OTEL_BSP_SCHEDULE_DELAY", "100");
        }
        command.env("FAULT_POINTS", self.home.fault_points(service));
        let own = self.options.env.iter().filter(|(of, ..)| *of == service);
        command.envs(own.map(|(_, name, value)| (name, value)));
        Ok(command)
    }

    pub(super) async fn gateway(&self) -> Result<(&'static str, Process)> {
        let mut command = self.command(GATEWAY)?;
        command
            .env("HTTP_ADDR", self.addresses.gateway())
            .env("GATEWAY_DATA", self.home.folder("gateway"));
        self.start(GATEWAY, &command).await
    }

    fn command(&self, name: &str) -> Result<Command> {
        let program = self.binaries.join(name);
        ensure!(
            program.exists(),
            "{} is missing: cargo build --workspace --bins makes it",
            program.display()
        );
        let mut command = Command::new(program);
        // Logs are files first; whoever shows them colours them. Calls between services never leave the machine.
        command.env("NO_COLOR", "1").env("NO_PROXY", no_proxy());
        Ok(command)
    }

    async fn start(&self, name: &'static str, command: &Command) -> Result<(&'static str, Process)> {
        let log = self.home.log(name);
        if log.exists() {
            std::fs::rename(&log, log.with_extension("log.1"))?;
        }
        let folder = self.home.folder("run").join(name);
        Ok((name, Process::start(name, command, &folder, &log).await?))
    }
}

fn no_proxy() -> String {
    let known = env::var("NO_PROXY")
        .or_else(|_| env::var("no_proxy"))
        .unwrap_or_default();
    format!("127.0.0.1,localhost,{known}")
}

/// All of a log.
pub(super) fn read(log: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(log).unwrap_or_default()).into_owned()
}

/// The last lines of a log, without the frames of a backtrace.
pub(super) fn tail(log: &Path) -> String {
    let text = read(log);
    let is_frame = |line: &&str| {
        let line = line.trim_start();
        line.starts_with("at ")
            || line
                .split_once(": ")
                .is_some_and(|(number, _)| number.parse::<u32>().is_ok())
    };
    let lines: Vec<_> = text.lines().filter(|line| !is_frame(line)).collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
