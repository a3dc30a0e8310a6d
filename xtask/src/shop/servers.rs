//! The servers of a shop, and what must be in them before a service starts.

use anyhow::{Context, Result, bail, ensure};
use futures_util::future::try_join_all;
use messaging::provision::Settings;
use testbed::{Cluster, Place, Postgres};

use super::keys::Keys;
use super::options::{FORGER, Home, ShopOptions};
use super::{PROVISIONER, Service, Shop, migrate, provision, rights};

/// Where nats-server keeps the streams of whoever is in no account, and those of ours.
const NOBODYS: &str = "$G";
const OURS: &str = "SHOP";

/// The folders of a shop's brokers: of the one that stands alone, and of the three that do not.
pub const BROKER_FOLDERS: [&str; 4] = ["nats", "nats-1", "nats-2", "nats-3"];

/// Starts both, with users for whom the passwords are returned.
pub(super) async fn start(home: &Home, options: &ShopOptions) -> Result<(Postgres, Cluster, Keys)> {
    let almighty: &[&'static str] = if options.forger { &[FORGER] } else { &[] };
    let (keys, accounts) = match options.secured {
        true => (Keys::fresh(almighty), rights::accounts_with(almighty)),
        false => (Keys::default(), String::new()),
    };
    let variables = keys.variables();
    let database = home.place("postgres", options.postgres_port, options.durability);
    let (postgres, brokers) = tokio::try_join!(
        Postgres::start(database),
        Cluster::start(brokers(home, options)?, &accounts, &variables),
    )?;
    Ok((postgres, brokers, keys))
}

/// Where each server of the broker lives.
///
/// A kept home has one broker at a time. What the other kind has stored would be out of date when it is used again, so
/// it goes; the relays publish what the new one does not hold.
fn brokers(home: &Home, options: &ShopOptions) -> Result<Vec<Place>> {
    let (alone, clustered) = BROKER_FOLDERS.split_at(1);
    let (folders, others) = match options.brokers {
        1 => (alone, clustered),
        3 => (clustered, alone),
        other => bail!("a broker has one server or three, not {other}"),
    };
    ensure!(
        options.brokers == 1 || !options.proxied,
        "a link that can be made to fail leads to one server, and a client of three knows another way"
    );
    others.iter().try_for_each(|folder| home.forget(folder))?;
    let place = |(folder, port): (&&str, u16)| {
        move_streams(home, folder, options.secured)?;
        let port = options.nats_port.map(|first| first + port);
        Ok(home.place(folder, port, options.durability))
    };
    folders.iter().zip(0..).map(place).collect()
}

/// A shop that was kept goes on with its streams, whether it was secured before or not.
fn move_streams(home: &Home, folder: &str, secured: bool) -> Result<()> {
    let store = home.folder(folder).join("store/jetstream");
    let (from, to) = if secured { (NOBODYS, OURS) } else { (OURS, NOBODYS) };
    let (from, to) = (store.join(from), store.join(to));
    if from.exists() && !to.exists() {
        std::fs::rename(&from, &to).with_context(|| format!("cannot move {}", from.display()))?;
    }
    Ok(())
}

impl Shop {
    /// Makes databases, roles, tables, streams and durables, or brings them up to date.
    pub(super) async fn prepare(&self) -> Result<()> {
        if self.options.secured {
            self.postgres.lock_common_databases().await?;
        }
        let databases = Service::ALL.map(|service| self.prepare_database(service));
        let streams = self.nats_url(PROVISIONER);
        // Every server keeps each stream.
        let settings = Settings {
            replicas: self.options.brokers,
            ..self.options.provision
        };
        tokio::try_join!(try_join_all(databases), provision(&streams, &settings))?;
        Ok(())
    }

    async fn prepare_database(&self, service: Service) -> Result<()> {
        let name = service.database();
        self.postgres.create_database(&name).await?;
        if self.options.secured {
            let application = service.application();
            self.postgres.create_role(&application).await?;
            self.postgres.let_replicate(&name, false).await?;
            // Who followed it once keeps the right: it may have a slot to drop.
            if self.options.follows_the_log(service) {
                self.postgres.let_replicate(&application, true).await?;
            }
            migrate(service, &self.postgres.socket_url_as(&name, &name)).await?;
        }
        Ok(())
    }
}
