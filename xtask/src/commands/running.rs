//! The shop that runs, as `up` writes it down for the other commands.

use std::fs::{self, File, TryLockError};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use chrono::{DateTime, Local};
use serde::{Deserialize, Serialize};
use trace_viewer::Viewer;
use xtask::shop::{Service, Shop};

use crate::workspace::root;

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
    pub(super) nats_url: String,
    pub(super) nats_pid: Option<u32>,
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
            nats_url: shop.nats().url(),
            nats_pid: shop.nats().pid(),
            postgres_pid: shop.postgres().pid(),
        }
    }

    pub(super) fn service(&self, service: Service) -> Result<&RunningService> {
        let found = self.services.iter().find(|running| running.name == service.name());
        found.with_context(|| format!("the shop that runs has no {service}"))
    }

    /// The shop that runs.
    pub(super) async fn find() -> Result<Self> {
        let found = Self::look().await?;
        found.context("no shop runs here: cargo shop up starts one")
    }

    /// The shop that runs, if one does; one that is only just starting is none yet.
    pub(super) async fn look() -> Result<Option<Self>> {
        if !Claim::is_held()? {
            return Ok(None);
        }
        let Ok(text) = fs::read_to_string(file()?) else {
            return Ok(None);
        };
        serde_json::from_str(&text)
            .context(".shop/run.json cannot be read")
            .map(Some)
    }

    /// Writes itself down for other processes, whole or not at all.
    pub(super) fn write(&self) -> Result<()> {
        let draft = file()?.with_extension("json.new");
        fs::write(&draft, serde_json::to_vec_pretty(self)?)?;
        Ok(fs::rename(draft, file()?)?)
    }
}

/// The right to run a shop here; it goes with its owner, however that ends.
#[derive(Debug)]
pub(super) struct Claim {
    _lock: File,
}

impl Claim {
    /// Takes it, or tells who has it.
    pub(super) async fn take() -> Result<Self> {
        fs::create_dir_all(data()?)?;
        let lock = File::create(data()?.join("up.lock"))?;
        for _ in 0..ATTEMPTS {
            match lock.try_lock() {
                Ok(()) => {
                    let _ = fs::remove_file(file()?);
                    return Ok(Self { _lock: lock });
                }
                // Somebody may only be looking.
                Err(TryLockError::WouldBlock) => tokio::time::sleep(PAUSE).await,
                Err(TryLockError::Error(error)) => return Err(error.into()),
            }
        }
        match Running::look().await? {
            Some(Running { pid, started_at, .. }) => {
                let since = started_at.format("%H:%M:%S");
                bail!("a shop runs here since {since} (process {pid}): cargo shop down stops it")
            }
            None => bail!("a shop is starting or stopping here"),
        }
    }

    /// Whether somebody has it.
    pub(super) fn is_held() -> Result<bool> {
        let Ok(lock) = File::open(data()?.join("up.lock")) else {
            return Ok(false);
        };
        match lock.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
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
