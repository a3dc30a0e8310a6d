//! The services, as outsiders know them.

use std::fmt;
use std::str::FromStr;

use messaging::provision::Hears;
use sqlx::migrate::Migrator;

/// Everything that this workspace knows of a service, a line each.
macro_rules! services {
    ($(#[doc = $doc:literal] $service:ident = $name:ident on $port:literal,)*) => {
        /// One of the services.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Service {
            $(#[doc = $doc] $service,)*
        }

        impl Service {
            /// All of them, in the order of this table.
            pub const ALL: [Self; [$($port),*].len()] = [$(Self::$service),*];

            /// Its name, and that of its binary.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$service => stringify!($name),)*
                }
            }

            /// Where its API is when ports are fixed.
            pub fn port(self) -> u16 {
                match self {
                    $(Self::$service => $port,)*
                }
            }

            /// The tables that it knows.
            pub(super) fn migrations(self) -> &'static Migrator {
                match self {
                    $(Self::$service => &$name::MIGRATIONS,)*
                }
            }

            /// What it hears, read off its wiring table.
            pub fn hears(self) -> Hears {
                match self {
                    $(Self::$service => Hears::of(&$name::reactions::reactions()),)*
                }
            }
        }
    };
}

// Whoever comes later may hear those who came before. `cargo shop new-service` adds a line.
services! {
    /// Takes orders and owns their state.
    Order = order on 8001,
    /// Charges and refunds.
    Payment = payment on 8002,
    /// Products, prices, stock.
    Inventory = inventory on 8003,
    /// Shipments and returns.
    Warehouse = warehouse on 8004,
    /// Notifications.
    Email = email on 8005,
    /// Projections.
    Analytics = analytics on 8006,
}

impl Service {
    /// Where its operator's endpoints are when ports are fixed.
    pub fn admin_port(self) -> u16 {
        self.port() + 1_000
    }

    /// The name of its database, and of the role that owns it.
    pub fn database(self) -> String {
        format!("shop_{self}")
    }

    /// The role that it is in its database where that belongs to another one.
    pub fn application(self) -> String {
        format!("{}_app", self.database())
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Service {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> anyhow::Result<Self> {
        let found = Self::ALL.into_iter().find(|service| service.name() == name);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            anyhow::anyhow!("there is no service {name:?}; there are {names}")
        })
    }
}
