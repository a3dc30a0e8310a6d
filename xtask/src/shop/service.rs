//! The six services, as outsiders know them.

use std::fmt;
use std::str::FromStr;

use messaging::provision::Hears;

/// One of the six services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Service {
    /// Takes orders and owns their state.
    Order,
    /// Charges and refunds.
    Payment,
    /// Products, prices, stock.
    Inventory,
    /// Shipments and returns.
    Warehouse,
    /// Notifications.
    Email,
    /// Projections.
    Analytics,
}

impl Service {
    /// All of them, in the order of their ports.
    pub const ALL: [Self; 6] = [
        Self::Order,
        Self::Payment,
        Self::Inventory,
        Self::Warehouse,
        Self::Email,
        Self::Analytics,
    ];

    /// Its name, and that of its binary.
    pub fn name(self) -> &'static str {
        match self {
            Self::Order => "order",
            Self::Payment => "payment",
            Self::Inventory => "inventory",
            Self::Warehouse => "warehouse",
            Self::Email => "email",
            Self::Analytics => "analytics",
        }
    }

    /// Where its API is when ports are fixed.
    pub fn port(self) -> u16 {
        8001 + self as u16
    }

    /// Where its operator's endpoints are when ports are fixed.
    pub fn admin_port(self) -> u16 {
        9001 + self as u16
    }

    /// The name of its database.
    pub fn database(self) -> String {
        format!("shop_{self}")
    }

    /// What it hears, read off its wiring table.
    pub fn hears(self) -> Hears {
        match self {
            Self::Order => Hears::of(&order::reactions::reactions()),
            Self::Payment => Hears::of(&payment::reactions::reactions()),
            Self::Inventory => Hears::of(&inventory::reactions::reactions()),
            Self::Warehouse => Hears::of(&warehouse::reactions::reactions()),
            Self::Email => Hears::of(&email::reactions::reactions()),
            Self::Analytics => Hears::of(&analytics::reactions::reactions()),
        }
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
