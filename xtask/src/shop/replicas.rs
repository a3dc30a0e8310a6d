//! Second processes of a service, as behind a load balancer.

use std::time::Instant;

use anyhow::{Result, bail};
use reqwest::Client;
use testbed::{Process, free_port};

use super::{GLANCE, READY_WITHIN, Service, Shop, client, launch};

/// One more process of a service, on ports of its own; it is killed when this is dropped.
#[derive(Debug)]
pub struct Replica {
    process: Process,
    http: u16,
    admin: u16,
    log: std::path::PathBuf,
    client: Client,
}

impl Shop {
    /// Starts one more process of a service, told the same as the first, and waits until it is ready.
    pub async fn start_replica(&self, service: Service) -> Result<Replica> {
        let (http, admin) = (free_port()?, free_port()?);
        let name = format!("{service}-{http}");
        let mut command = self.launching()?.service_command(self, service)?;
        command
            .env("HTTP_ADDR", format!("127.0.0.1:{http}"))
            .env("ADMIN_ADDR", format!("127.0.0.1:{admin}"));
        let (folder, log) = (self.home.folder("run").join(&name), self.home.log(&name));
        let replica = Replica {
            process: Process::start(&name, &command, &folder, &log).await?,
            http,
            admin,
            log,
            client: client()?,
        };
        replica.ready().await?;
        Ok(replica)
    }
}

impl Replica {
    /// The address of its API.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.http)
    }

    /// The address of its operator endpoints.
    pub fn admin_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.admin)
    }

    /// What it has printed.
    pub fn log(&self) -> String {
        launch::read(&self.log)
    }

    /// Ends it with SIGTERM, starts it again, and waits until it is ready.
    pub async fn restart(&self) -> Result<()> {
        self.process.restart().await?;
        self.ready().await
    }

    /// Ends it with SIGTERM, and waits until it has drained.
    pub async fn stop(&self) -> Result<()> {
        self.process.stop().await
    }

    /// Freezes it with SIGSTOP.
    pub async fn pause(&self) -> Result<()> {
        self.process.pause().await
    }

    /// Lets it go on.
    pub async fn resume(&self) -> Result<()> {
        self.process.resume().await
    }

    async fn ready(&self) -> Result<()> {
        let (probe, deadline) = (format!("{}/readyz", self.admin_url()), Instant::now() + READY_WITHIN);
        loop {
            let answer = self.client.get(&probe).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            if self.process.pid().is_none() || Instant::now() > deadline {
                bail!("a replica is not ready:\n{}", launch::tail(&self.log));
            }
            tokio::time::sleep(GLANCE).await;
        }
    }
}
