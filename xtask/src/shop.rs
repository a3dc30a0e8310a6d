//! A whole shop: its servers, its services and the sandbox gateway, as real processes.

mod broker;
mod faults;
mod keys;
mod launch;
mod links;
mod migrate;
mod options;
mod provision;
mod quiet;
mod replicas;
mod rights;
mod seed;
mod servers;
mod service;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use futures_util::future::{join_all, try_join_all};
use reqwest::Client;
use testbed::{Cluster, Nats, Postgres, Process};

pub use broker::jetstream;
use keys::Keys;
use launch::Launch;
use links::Links;
pub use migrate::migrate;
use options::{Addresses, Home};
pub use options::{FORGER, GATEWAY_PORT, Ports, ShopOptions};
pub use provision::{hear_again, provision};
pub use replicas::Replica;
pub use rights::{OPERATOR, PROVISIONER, accounts};
pub use seed::seed;
pub use servers::BROKER_FOLDERS;
pub use service::Service;

/// How long a program may take until it is ready.
const READY_WITHIN: Duration = Duration::from_secs(60);
const GLANCE: Duration = Duration::from_millis(20);
/// Between two looks at a shop that is still busy.
const LOOK: Duration = Duration::from_millis(50);
/// The name of the sandbox gateway's binary and log.
const GATEWAY: &str = "sandbox-gateway";

/// A running shop. Dropping it kills everything at once; [`Shop::shutdown`] ends it in good order.
#[derive(Debug)]
pub struct Shop {
    // Dropped in this order: programs, servers, folder.
    programs: BTreeMap<&'static str, Process>,
    addresses: Addresses,
    options: ShopOptions,
    client: Client,
    links: Option<Links>,
    keys: Keys,
    brokers: Cluster,
    postgres: Postgres,
    home: Home,
}

impl Shop {
    /// Starts everything, and returns once every service is ready and the shelves are full.
    pub async fn start(options: ShopOptions) -> Result<Self> {
        let progress = options.progress;
        let home = Home::open(options.home.as_deref()).await?;
        progress("Starting PostgreSQL and NATS.");
        let (postgres, brokers, keys) = Box::pin(servers::start(&home, &options)).await?;
        let links = match options.proxied {
            true => Some(Links::open(&postgres, &brokers.servers()[0]).await?),
            false => None,
        };
        progress("Preparing databases and streams, starting the services.");
        let mut shop = Self {
            programs: BTreeMap::new(),
            addresses: Addresses::of(options.ports)?,
            options: options.clone(),
            client: client()?,
            links,
            keys,
            brokers,
            postgres,
            home,
        };
        Box::pin(shop.prepare()).await?;
        shop.programs = shop.launch().await?;
        try_join_all(shop.programs.keys().map(|name| shop.ready(name))).await?;
        if options.seed {
            shop.fill_shelves().await?;
        }
        Ok(shop)
    }

    async fn launch(&self) -> Result<BTreeMap<&'static str, Process>> {
        let launch = self.launching()?;
        let services = Service::ALL.iter().map(|service| launch.service(self, *service));
        let (gateway, services) = tokio::try_join!(launch.gateway(), try_join_all(services))?;
        Ok(services.into_iter().chain([gateway]).collect())
    }

    fn launching(&self) -> Result<Launch<'_>> {
        let binaries = match &self.options.binaries {
            Some(folder) => folder.clone(),
            None => options::binaries()?,
        };
        Ok(Launch {
            binaries,
            options: &self.options,
            addresses: &self.addresses,
            home: &self.home,
        })
    }

    /// The address of a service's API.
    pub fn url(&self, service: Service) -> String {
        format!("http://{}", self.addresses.http(service))
    }

    /// The address of a service's operator endpoints.
    pub fn admin_url(&self, service: Service) -> String {
        format!("http://{}", self.addresses.admin(service))
    }

    /// The address of the sandbox gateway.
    pub fn gateway_url(&self) -> String {
        format!("http://{}", self.addresses.gateway())
    }

    /// The address of a service's database, for whoever may look at everything.
    pub fn database_url(&self, service: Service) -> String {
        self.postgres.socket_url(&service.database())
    }

    /// The database server: to kill, to stop, to restart.
    pub fn postgres(&self) -> &Postgres {
        &self.postgres
    }

    /// The broker, or the first server of its cluster: to kill, to stop, to restart.
    pub fn nats(&self) -> &Nats {
        &self.brokers.servers()[0]
    }

    /// All servers of the broker.
    pub fn brokers(&self) -> &Cluster {
        &self.brokers
    }

    /// Where messages to customers are put, one `.eml` file each.
    pub fn mail_dir(&self) -> PathBuf {
        self.home.folder("mail")
    }

    /// What a service has printed since the shop was started.
    pub fn log(&self, service: Service) -> String {
        launch::read(&self.home.log(service.name()))
    }

    /// The process of a service while it runs.
    pub fn pid(&self, service: Service) -> Option<u32> {
        self.programs.get(service.name()).and_then(Process::pid)
    }

    /// The process of the sandbox gateway while it runs.
    pub fn gateway_pid(&self) -> Option<u32> {
        self.programs.get(GATEWAY).and_then(Process::pid)
    }

    /// Kills a service with -9.
    pub async fn kill(&self, service: Service) -> Result<()> {
        self.program(service.name())?.kill().await
    }

    /// Ends a service with SIGTERM, and waits until it has drained.
    pub async fn stop_service(&self, service: Service) -> Result<()> {
        self.program(service.name())?.stop().await
    }

    /// Starts a service that was killed or stopped, and waits until it is ready.
    pub async fn start_service(&self, service: Service) -> Result<()> {
        self.start_program(service.name()).await
    }

    /// Ends a service with SIGTERM, starts it again, and waits until it is ready.
    pub async fn restart(&self, service: Service) -> Result<()> {
        self.stop_service(service).await?;
        self.start_service(service).await
    }

    /// Freezes a service with SIGSTOP.
    pub async fn pause(&self, service: Service) -> Result<()> {
        self.program(service.name())?.pause().await
    }

    /// Lets a paused service go on.
    pub async fn resume(&self, service: Service) -> Result<()> {
        self.program(service.name())?.resume().await
    }

    /// Kills the sandbox gateway with -9.
    pub async fn kill_gateway(&self) -> Result<()> {
        self.program(GATEWAY)?.kill().await
    }

    /// Starts the sandbox gateway again; it has kept its book.
    pub async fn start_gateway(&self) -> Result<()> {
        self.start_program(GATEWAY).await
    }

    /// Starts again what has ended by itself, and names it; does not wait until services are ready.
    pub async fn revive(&self) -> Result<Vec<&'static str>> {
        let mut revived = Vec::new();
        if self.postgres.pid().is_none() {
            self.postgres.restart().await?;
            revived.push("PostgreSQL");
        }
        for server in self.brokers.servers() {
            if server.pid().is_none() {
                server.restart().await?;
                revived.push("nats-server");
            }
        }
        for (name, program) in &self.programs {
            if program.pid().is_none() {
                program.restart().await?;
                revived.push(*name);
            }
        }
        Ok(revived)
    }

    /// Ends everything in good order: services drain, then the gateway, the broker and the databases stop.
    pub async fn shutdown(self) -> Result<()> {
        let services = Service::ALL.iter().map(|service| self.stop_service(*service));
        let stopped: Result<Vec<()>> = join_all(services).await.into_iter().collect();
        self.program(GATEWAY)?.stop().await?;
        try_join_all(self.brokers.servers().iter().map(Nats::stop)).await?;
        self.postgres.stop().await?;
        stopped.map(|_| ())
    }

    fn program(&self, name: &str) -> Result<&Process> {
        self.programs
            .get(name)
            .with_context(|| format!("{name} was never started"))
    }

    async fn start_program(&self, name: &str) -> Result<()> {
        let program = self.program(name)?;
        if program.pid().is_none() {
            program.restart().await?;
        }
        self.ready(name).await
    }

    /// Waits until a program answers that it is ready; the error shows the end of its log.
    async fn ready(&self, name: &str) -> Result<()> {
        let probe = match name.parse::<Service>() {
            Ok(service) => format!("{}/readyz", self.admin_url(service)),
            Err(_) => format!("{}/livez", self.gateway_url()),
        };
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            let not_ready = match self.client.get(&probe).send().await {
                Ok(answer) if answer.status().is_success() => return Ok(()),
                Ok(answer) => anyhow!("it answers {}: {}", answer.status(), answer.text().await?),
                Err(error) => error.into(),
            };
            let tail = || launch::tail(&self.home.log(name));
            if self.program(name)?.pid().is_none() {
                bail!("{name} ended at once:\n{}", tail());
            }
            if Instant::now() > deadline {
                bail!("{name} is not ready in {READY_WITHIN:?}: {not_ready:#}\n{}", tail());
            }
            tokio::time::sleep(GLANCE).await;
        }
    }
}

impl Drop for Shop {
    /// A failing test shows what the services said last.
    fn drop(&mut self) {
        if std::thread::panicking() {
            for name in self.programs.keys() {
                eprintln!("--- {name}\n{}", launch::tail(&self.home.log(name)));
            }
        }
    }
}

/// Straight to 127.0.0.1, whatever proxy the machine has.
fn client() -> Result<Client> {
    Ok(Client::builder().no_proxy().timeout(Duration::from_secs(5)).build()?)
}
