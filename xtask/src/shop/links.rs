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

    /// The address under which the service itself knows its database, as a role that has nothing else.
    pub fn own_database_url(&self, service: Service) -> String {
        match self.options.secured {
            true => self.database_url_as(service, &service.application()),
            false => self.owner_database_url(service),
        }
    }

    /// The same as the role that owns the database.
    pub fn owner_database_url(&self, service: Service) -> String {
        self.database_url_as(service, &service.database())
    }

    fn database_url_as(&self, service: Service, role: &str) -> String {
        let name = service.database();
        match self.database_link(service) {
            Ok(link) => format!("postgres://{role}@{}/{name}", link.address()),
            Err(_) => self.postgres().socket_url_as(role, &name),
        }
    }

    /// The address under which the service itself knows the broker, as the user of its name.
    pub fn own_nats_url(&self, service: Service) -> String {
        let address = match self.broker_link(service) {
            Ok(link) => link.address().to_string(),
            Err(_) => self.broker_addresses(),
        };
        self.keys.url(&address, service.name())
    }

    /// The address of the broker for somebody: [`PROVISIONER`](super::PROVISIONER), [`OPERATOR`](super::OPERATOR), a service.
    pub fn nats_url(&self, user: &str) -> String {
        self.keys.url(&self.broker_addresses(), user)
    }

    fn broker_addresses(&self) -> String {
        let servers = self.brokers().servers().iter();
        let addresses: Vec<String> = servers.map(|server| format!("127.0.0.1:{}", server.port())).collect();
        addresses.join(",")
    }
}
