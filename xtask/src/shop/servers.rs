//! The servers of a shop, and what must be in them before a service starts.

use anyhow::{Context, Result};
use futures_util::future::try_join_all;
use testbed::{Nats, Postgres};

use super::keys::Keys;
use super::options::{FORGER, Home, ShopOptions};
use super::{PROVISIONER, Service, Shop, migrate, provision, rights};

/// Where nats-server keeps the streams of whoever is in no account, and those of ours.
const NOBODYS: &str = "$G";
const OURS: &str = "SHOP";

/// Starts both, with users for whom the passwords are returned.
pub(super) async fn start(home: &Home, options: &ShopOptions) -> Result<(Postgres, Nats, Keys)> {
    let place = |server, port| home.place(server, port, options.durability);
    let almighty: &[&'static str] = if options.forger { &[FORGER] } else { &[] };
    let (keys, accounts) = match options.secured {
        true => (Keys::fresh(almighty), rights::accounts_with(almighty)),
        false => (Keys::default(), String::new()),
    };
    move_streams(home, options.secured)?;
    let (postgres, nats) = tokio::try_join!(
        Postgres::start(place("postgres", options.postgres_port)),
        Nats::start_told(place("nats", options.nats_port), &accounts, keys.variables()),
    )?;
    Ok((postgres, nats, keys))
}

/// A shop that was kept goes on with its streams, whether it was secured before or not.
fn move_streams(home: &Home, secured: bool) -> Result<()> {
    let store = home.folder("nats").join("store/jetstream");
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
        tokio::try_join!(try_join_all(databases), provision(&streams, &self.options.provision))?;
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
