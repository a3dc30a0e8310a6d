//! What makes a struct an event: its owner, its name, its version, and what it is about.

use std::fmt;

use serde::{Serialize, de::DeserializeOwned};
use uuid::Uuid;

/// A fact in the past tense that its owner tells the others.
pub trait Event: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// Owner, name and version: everything but the content.
    const TYPE: EventType;

    /// What the fact is about; facts about one subject are published in the order they happened.
    fn subject(&self) -> Subject;

    /// The articles that a reaction to this event may change, for those that lock stock.
    fn skus(&self) -> Vec<&str> {
        Vec::new()
    }

    /// How the content of earlier versions becomes this one, so that who reacts to it hears those as well.
    fn upcasters() -> Vec<Upcaster<Self>>
    where
        Self: Sized,
    {
        Vec::new()
    }
}

/// Decodes one version of an event as the one that a reaction is written for.
#[derive(Debug, Clone, Copy)]
pub struct Upcaster<E> {
    /// The version that it decodes.
    pub from: EventType,
    /// Decodes and lifts.
    pub decode: fn(&[u8]) -> serde_json::Result<E>,
}

impl<E: Event> Upcaster<E> {
    /// Lifts an earlier version by its conversion.
    pub fn from<Old: Event + Into<E>>() -> Self {
        Self {
            from: Old::TYPE,
            decode: |content| serde_json::from_slice::<Old>(content).map(Into::into),
        }
    }

    /// Takes the version as it is.
    pub fn none() -> Self {
        Self {
            from: E::TYPE,
            decode: |content| serde_json::from_slice(content),
        }
    }
}

/// The service that alone may emit an event; it has one stream of the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    /// Orders and their sagas.
    Order,
    /// Products, stock and reservations.
    Inventory,
    /// Payments and refunds.
    Payment,
    /// Shipments and returns.
    Warehouse,
    /// Notifications.
    Email,
}

impl Owner {
    /// Every owner, hence every stream.
    pub const ALL: [Self; 5] = [
        Self::Order,
        Self::Inventory,
        Self::Payment,
        Self::Warehouse,
        Self::Email,
    ];

    /// The service's name, as in subjects and `ce-source`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Order => "order",
            Self::Inventory => "inventory",
            Self::Payment => "payment",
            Self::Warehouse => "warehouse",
            Self::Email => "email",
        }
    }

    /// The JetStream stream that holds this owner's events.
    pub const fn stream(self) -> &'static str {
        match self {
            Self::Order => "ORDER",
            Self::Inventory => "INVENTORY",
            Self::Payment => "PAYMENT",
            Self::Warehouse => "WAREHOUSE",
            Self::Email => "EMAIL",
        }
    }
}

/// Which event it is, apart from its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventType {
    /// Who emits it.
    pub owner: Owner,
    /// Its name in the past tense, `OrderPlaced`.
    pub name: &'static str,
    /// The version of its content, from 1.
    pub version: u16,
}

impl EventType {
    /// The NATS subject, `shop.order.OrderPlaced`; the same for every version.
    pub fn subject(&self) -> String {
        format!("shop.{}.{}", self.owner.name(), self.name)
    }

    /// Name and version, `OrderPlaced.v1`: what its schema is called.
    pub fn label(&self) -> String {
        format!("{}.v{}", self.name, self.version)
    }

    /// Whether both name the same event, and this one in a lower version.
    pub fn is_earlier_version_of(&self, other: Self) -> bool {
        (self.owner, self.name) == (other.owner, other.name) && self.version < other.version
    }

    /// Its `ce-dataschema`, `/shop/schemas/OrderPlaced.v1.json`.
    pub fn schema_id(&self) -> String {
        format!("/shop/schemas/{}.json", self.label())
    }
}

/// The `ce-type`, `shop.order.OrderPlaced.v1`.
impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shop.{}.{}.v{}", self.owner.name(), self.name, self.version)
    }
}

/// What a fact is about: the `ce-subject`, and the unit within which order is kept.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// An order, and with it its payment, its reservation and its shipment.
    Order(Uuid),
    /// An article of the catalogue, by its sku.
    Product(String),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Order(id) => id.fmt(f),
            Self::Product(sku) => sku.fmt(f),
        }
    }
}

/// Declares which event a struct is: `event!(OrderPlaced, Order, v1, order_id)`.
macro_rules! event {
    ($name:ident, $owner:ident, v $version:literal, order_id $(, skus of $lines:ident)?) => {
        event!(@ $name, $owner, $version, |event: &$name| $crate::Subject::Order(event.order_id) $(, $lines)?);
    };
    ($name:ident, $owner:ident, v $version:literal, sku) => {
        event!(@ $name, $owner, $version, |event: &$name| $crate::Subject::Product(event.sku.clone()));
    };
    (@ $name:ident, $owner:ident, $version:literal, $subject:expr $(, $lines:ident)?) => {
        impl $crate::Event for $name {
            const TYPE: $crate::EventType = $crate::EventType {
                owner: $crate::Owner::$owner,
                name: stringify!($name),
                version: $version,
            };
            fn subject(&self) -> $crate::Subject {
                ($subject)(self)
            }
            $(fn skus(&self) -> Vec<&str> {
                self.$lines.iter().map(|line| line.sku.as_str()).collect()
            })?
        }
    };
}
pub(crate) use event;
