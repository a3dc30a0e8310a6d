//! Where a shop lives, and how.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use testbed::{Durability, Place, Scratch, free_port};

use super::Service;

/// How a shop is to be started; the default is what a test wants.
#[derive(Debug, Clone)]
pub struct ShopOptions {
    /// The folder that keeps the data; none: a temporary one, gone with the shop.
    pub home: Option<PathBuf>,
    /// Where it listens.
    pub ports: Ports,
    /// PostgreSQL's port; none: a free one.
    pub postgres_port: Option<u16>,
    /// The broker's port, or that of the first of its servers, which the others follow; none: free ones.
    pub nats_port: Option<u16>,
    /// How many servers the broker has: one, or three that all keep every stream.
    pub brokers: usize,
    /// More environment, per service.
    pub env: Vec<(Service, String, String)>,
    /// Where spans go; none: nowhere.
    pub otlp: Option<String>,
    /// The folder of the binaries; none: the one that this executable was built into.
    pub binaries: Option<PathBuf>,
    /// What acknowledgements survive.
    pub durability: Durability,
    /// How streams and durables are to be.
    pub provision: messaging::provision::Settings,
    /// Whether services reach their servers through proxies that can be made to fail; a broker of one server only.
    pub proxied: bool,
    /// Whether everybody has the rights that it needs and no others: users at the broker, and roles that own no tables. If
    /// not, the broker lets everybody in, and a service owns its database.
    pub secured: bool,
    /// Whether the broker knows a user [`FORGER`] who may do anything, for tests that play somebody else.
    pub forger: bool,
    /// Whether an empty catalogue is filled.
    pub seed: bool,
    /// Told each step before it is taken.
    pub progress: fn(&str),
}

impl Default for ShopOptions {
    /// Temporary, on free ports, seeded, silent; loses nothing but to a power cut.
    fn default() -> Self {
        Self {
            home: None,
            ports: Ports::Free,
            postgres_port: None,
            nats_port: None,
            brokers: 1,
            env: Vec::new(),
            otlp: None,
            binaries: None,
            durability: Durability::Test,
            provision: messaging::provision::Settings::default(),
            proxied: false,
            secured: true,
            forger: false,
            seed: true,
            progress: |_| {},
        }
    }
}

/// A user who may do anything at the broker of a shop that was asked for one.
pub const FORGER: &str = "forger";

impl ShopOptions {
    /// Whether a service is configured to read the log of its database.
    pub(super) fn follows_the_log(&self, service: Service) -> bool {
        let of_relay = |(of, name, _): &&(Service, String, String)| *of == service && name == "RELAY";
        let told = self.env.iter().rfind(of_relay).map(|(.., kind)| kind.clone());
        told.or_else(|| std::env::var("RELAY").ok())
            .is_some_and(|kind| kind == "cdc")
    }
}

/// Where a shop listens, always on 127.0.0.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ports {
    /// From 8001 and from 9001 on, and 8010 for the gateway.
    Fixed,
    /// Wherever there is room, for tests that run side by side.
    Free,
}

/// The port of the sandbox gateway when ports are fixed.
pub const GATEWAY_PORT: u16 = 8010;

/// Every port of a shop but those of the servers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Addresses {
    http: [u16; Service::ALL.len()],
    admin: [u16; Service::ALL.len()],
    gateway: u16,
}

impl Addresses {
    pub(super) fn of(ports: Ports) -> Result<Self> {
        let mut addresses = Self {
            http: Service::ALL.map(Service::port),
            admin: Service::ALL.map(Service::admin_port),
            gateway: GATEWAY_PORT,
        };
        if ports == Ports::Free {
            let all = addresses.http.iter_mut().chain(&mut addresses.admin);
            for port in all.chain([&mut addresses.gateway]) {
                *port = free_port()?;
            }
        }
        Ok(addresses)
    }

    pub(super) fn http(&self, service: Service) -> String {
        local(self.http[service as usize])
    }

    pub(super) fn admin(&self, service: Service) -> String {
        local(self.admin[service as usize])
    }

    pub(super) fn gateway(&self) -> String {
        local(self.gateway)
    }
}

fn local(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

/// The folder of a shop; it is the last that goes.
#[derive(Debug)]
pub(super) struct Home {
    path: PathBuf,
    /// Removes a temporary one.
    _scratch: Option<Scratch>,
}

impl Home {
    pub(super) async fn open(kept: Option<&Path>) -> Result<Self> {
        let (path, scratch) = match kept {
            Some(folder) => (std::path::absolute(folder)?, None),
            None => {
                let scratch = Scratch::new("shop").await?;
                (scratch.path().to_owned(), Some(scratch))
            }
        };
        for folder in ["logs", "mail", "gateway", "run"] {
            let folder = path.join(folder);
            std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        }
        Ok(Self {
            path,
            _scratch: scratch,
        })
    }

    pub(super) fn folder(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Removes a server's folder.
    pub(super) fn forget(&self, server: &str) -> Result<()> {
        let folder = self.folder(server);
        if folder.exists() {
            std::fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
        }
        Ok(())
    }

    /// Where the fault points of a service are armed.
    pub(super) fn fault_points(&self, service: Service) -> PathBuf {
        self.folder("fault-points").join(service.name())
    }

    pub(super) fn log(&self, program: &str) -> PathBuf {
        self.path.join("logs").join(format!("{program}.log"))
    }

    /// A server's place: inside a kept home, or temporary as well.
    pub(super) fn place(&self, server: &str, port: Option<u16>, durability: Durability) -> Place {
        let place = match self._scratch {
            Some(_) => Place::temporary(),
            None => Place::kept(self.folder(server)),
        };
        let place = place.with(durability);
        match port {
            Some(port) => place.on_port(port),
            None => place,
        }
    }
}

/// Where cargo put the binaries of the build that this executable belongs to.
pub(super) fn binaries() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let folder = own.parent().context("this executable is in no folder")?;
    // Tests and examples are one folder deeper.
    let above = folder
        .file_name()
        .filter(|name| *name == "deps" || *name == "examples")
        .and_then(|_| folder.parent());
    Ok(above.unwrap_or(folder).to_owned())
}
