//! The links of a shop whose services reach their servers through proxies.

use anyhow::{Context, Result};
use futures_util::future::try_join_all;
use testbed::{Nats, Postgres, Proxy};

use super::{Service, Shop};

/// One link a service to its database, and one to the broker.
#[derive(Debug)]
pub(super) struct Links {
    databases: Vec<Proxy>,
    brokers: Vec<Proxy>,
}

impl Links {
    pub(super) async fn open(postgres: &Postgres, nats: &Nats) -> Result<Self> {
        let to = |port: u16| try_join_all(Service::ALL.map(|_| Proxy::start(format!("127.0.0.1:{port}"))));
        Ok(Self {
            databases: to(postgres.port()).await?,
            brokers: to(nats.port()).await?,
        })
    }
}

impl Shop {
    /// What a service has instead of a direct way to its database; only a proxied shop has it.
    pub fn database_link(&self, service: Service) -> Result<&Proxy> {
        Ok(&self.links()?.databases[service as usize])
    }

    /// What a service has instead of a direct way to the broker; only a proxied shop has it.
    pub fn broker_link(&self, service: Service) -> Result<&Proxy> {
        Ok(&self.links()?.brokers[service as usize])
    }

    fn links(&self) -> Result<&Links> {
        self.links.as_ref().context("this shop was started without proxies")
    }

    /// The address under which the service itself knows its database, as the role that owns it and nothing else.
    pub fn own_database_url(&self, service: Service) -> String {
        let name = service.database();
        match self.database_link(service) {
            Ok(link) => format!("postgres://{name}@{}/{name}", link.address()),
            Err(_) => self.postgres().socket_url_as(&name, &name),
        }
    }

    /// The address under which the service itself knows the broker.
    pub(super) fn own_nats_url(&self, service: Service) -> String {
        match self.broker_link(service) {
            Ok(link) => format!("nats://{}", link.address()),
            Err(_) => self.nats_url(),
        }
    }
}
