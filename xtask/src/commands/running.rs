//! The shop that runs, as `up` writes it down for the other commands.

use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use chrono::{DateTime, Local};
use serde::{Deserialize, Serialize};
use testbed::Nats;
use trace_viewer::Viewer;
use xtask::audit::Addresses;
use xtask::shop::{OPERATOR, PROVISIONER, Service, Shop};

use crate::workspace::root;

const LOCK: &str = "up.lock";
const ATTEMPTS: usize = 10;
const PAUSE: Duration = Duration::from_millis(20);

/// Where a shop can be reached, and who runs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Running {
    /// The process of `up`.
    pub(super) pid: u32,
    pub(super) started_at: DateTime<Local>,
    pub(super) services: Vec<RunningService>,
    pub(super) gateway_url: String,
    pub(super) gateway_pid: Option<u32>,
    pub(super) viewer_url: Option<String>,
    /// The broker for who looks.
    pub(super) nats_url: String,
    /// The same for who provisions.
    pub(super) provisioner_url: String,
    /// One for each server of the broker.
    pub(super) nats_pids: Vec<Option<u32>>,
    pub(super) postgres_pid: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RunningService {
    pub(super) name: String,
    pub(super) url: String,
    pub(super) admin_url: String,
    pub(super) database_url: String,
    pub(super) pid: Option<u32>,
}

impl Running {
    pub(super) fn of(shop: &Shop, viewer: Option<&Viewer>, started_at: DateTime<Local>) -> Self {
        let service = |service: Service| RunningService {
            name: service.name().to_owned(),
            url: shop.url(service),
            admin_url: shop.admin_url(service),
            database_url: shop.database_url(service),
            pid: shop.pid(service),
        };
        Self {
            pid: std::process::id(),
            started_at,
            services: Service::ALL.map(service).into(),
            gateway_url: shop.gateway_url(),
            gateway_pid: shop.gateway_pid(),
            viewer_url: viewer.map(|viewer| format!("http://{}", viewer.http_addr())),
            nats_url: shop.nats_url(OPERATOR),
            provisioner_url: shop.nats_url(PROVISIONER),
            nats_pids: shop.brokers().servers().iter().map(Nats::pid).collect(),
            postgres_pid: shop.postgres().pid(),
        }
    }

    pub(super) fn service(&self, service: Service) -> Result<&RunningService> {
        let found = self.services.iter().find(|running| running.name == service.name());
        found.with_context(|| format!("the shop that runs has no {service}"))
    }

    /// Where an audit looks.
    pub(super) fn addresses(&self) -> Result<Addresses> {
        let database = |service| Ok((service, self.service(service)?.database_url.clone()));
        Ok(Addresses {
            databases: Service::ALL.into_iter().map(database).collect::<Result<_>>()?,
            nats_url: self.nats_url.clone(),
            gateway_url: self.gateway_url.clone(),
        })
    }

    /// The shop that runs.
    pub(super) fn find() -> Result<Self> {
        match (Self::look()?, Claim::holder(&data()?)?) {
            (Some(running), _) => Ok(running),
            (None, Some(_)) => bail!("a shop is starting or stopping here: try again in a moment"),
            (None, None) => bail!("no shop runs here: cargo shop up starts one"),
        }
    }

    /// The shop that runs, if one does; one that is only just starting is none yet.
    pub(super) fn look() -> Result<Option<Self>> {
        let known = fs::read_to_string(file()?);
        match (Claim::holder(&data()?)?, known) {
            (Some(_), Ok(text)) => {
                let running: Self = serde_json::from_str(&text).context(".shop/run.json cannot be read")?;
                Ok(Some(running.with_latecomers()))
            }
            _ => Ok(None),
        }
    }

    /// A service that is younger than this shop is looked for where one starts it beside: on its usual ports, with a
    /// database among the others.
    fn with_latecomers(mut self) -> Self {
        let others = self.service(Service::Order).map(|order| order.database_url.clone());
        let others = others.unwrap_or_default();
        for service in Service::ALL {
            if self.service(service).is_err() {
                self.services.push(RunningService {
                    name: service.name().to_owned(),
                    url: format!("http://127.0.0.1:{}", service.port()),
                    admin_url: format!("http://127.0.0.1:{}", service.admin_port()),
                    database_url: others.replace(&Service::Order.database(), &service.database()),
                    pid: None,
                });
            }
        }
        self
    }

    /// What was written down is over.
    pub(super) fn forget() -> Result<()> {
        match fs::remove_file(file()?) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Writes itself down for other processes, whole or not at all.
    pub(super) fn write(&self) -> Result<()> {
        let draft = file()?.with_extension("json.new");
        // It holds passwords.
        let mut file = File::options()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o600)
            .open(&draft)?;
        file.write_all(&serde_json::to_vec_pretty(self)?)?;
        Ok(fs::rename(draft, self::file()?)?)
    }
}

/// The right to run a shop in a folder; it goes with its owner, however that ends.
#[derive(Debug)]
pub(super) struct Claim {
    _lock: File,
}

impl Claim {
    /// Takes it, or tells who has it.
    pub(super) async fn take(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let mut lock = File::options().create(true).append(true).open(folder.join(LOCK))?;
        for _ in 0..ATTEMPTS {
            match lock.try_lock() {
                Ok(()) => {
                    lock.set_len(0)?;
                    write!(lock, "{}", std::process::id())?;
                    return Ok(Self { _lock: lock });
                }
                // Somebody may only be looking.
                Err(TryLockError::WouldBlock) => tokio::time::sleep(PAUSE).await,
                Err(TryLockError::Error(error)) => return Err(error.into()),
            }
        }
        let holder = fs::read_to_string(folder.join(LOCK))?;
        bail!("a shop runs here already (process {holder}): cargo shop down stops it")
    }

    /// The process that has it.
    pub(super) fn holder(folder: &Path) -> Result<Option<u32>> {
        let Ok(lock) = File::open(folder.join(LOCK)) else {
            return Ok(None);
        };
        match lock.try_lock_shared() {
            Ok(()) => Ok(None),
            Err(TryLockError::WouldBlock) => Ok(fs::read_to_string(folder.join(LOCK))?.parse().ok()),
            Err(TryLockError::Error(error)) => Err(error.into()),
        }
    }
}

/// Where a shop that is started here keeps everything.
pub(super) fn data() -> Result<PathBuf> {
    Ok(root()?.join(".shop"))
}

fn file() -> Result<PathBuf> {
    Ok(data()?.join("run.json"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn a_folder_has_one_shop_at_a_time_and_says_whose() {
        let folder = std::env::temp_dir().join(format!("tidings-claim-{}", std::process::id()));
        assert_eq!(Claim::holder(&folder).unwrap(), None);
        let first = Claim::take(&folder).await.unwrap();
        assert_eq!(Claim::holder(&folder).unwrap(), Some(std::process::id()));
        let refused = Claim::take(&folder).await.unwrap_err().to_string();
        assert!(refused.contains(&std::process::id().to_string()), "{refused}");
        drop(first);
        assert_eq!(Claim::holder(&folder).unwrap(), None);
        Claim::take(&folder).await.unwrap();
        fs::remove_dir_all(folder).unwrap();
    }
}
