//! What the warehouse asks of others: the carrier.

use events::Address;
use uuid::Uuid;

use crate::domain::Handover;

/// The sandbox carrier: in this process, and for the same parcel always the same answer.
///
/// Parcels to the country `XX`, which no country is, cannot be delivered; all others are taken.
#[derive(Debug, Clone, Copy, Default)]
pub struct Carrier;

impl Carrier {
    /// What it is called in events and answers.
    pub const NAME: &'static str = "sandbox-parcel";

    /// Hands a parcel over; the shipment id is the idempotency key, so asking again hands over nothing more.
    ///
    /// An error leaves it open whether the carrier has the parcel: ask again. A parcel that was handed
    /// over but called off meanwhile is not put out for collection.
    #[tracing::instrument(name = "call", skip_all, fields(
        otel.name = "hand over", otel.kind = "client", server.address = Self::NAME, %shipment_id,
    ))]
    pub async fn hand_over(&self, shipment_id: Uuid, ship_to: &Address) -> anyhow::Result<Handover> {
        if ship_to.country == "XX" {
            return Ok(Handover::Refused {
                code: "undeliverable_address".into(),
            });
        }
        // The tail of a derived id is a hash of the order: no two parcels share it.
        let (_, tail) = shipment_id.as_u64_pair();
        Ok(Handover::Accepted {
            tracking: format!("SP{tail:016X}"),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn address(country: &str) -> Address {
        Address {
            name: "A. Buyer".into(),
            street: "1 High Street".into(),
            city: "Town".into(),
            postal_code: "12345".into(),
            country: country.into(),
        }
    }

    #[tokio::test]
    async fn the_same_parcel_gets_the_same_number_and_another_one_another() {
        let (parcel, other) = (Uuid::now_v7(), Uuid::now_v7());
        let first = Carrier.hand_over(parcel, &address("DE")).await.unwrap();
        assert_eq!(Carrier.hand_over(parcel, &address("DE")).await.unwrap(), first);
        assert_ne!(Carrier.hand_over(other, &address("DE")).await.unwrap(), first);
    }

    #[tokio::test]
    async fn a_parcel_to_nowhere_is_refused() {
        let code = "undeliverable_address".into();
        let refused = Carrier.hand_over(Uuid::now_v7(), &address("XX")).await.unwrap();
        assert_eq!(refused, Handover::Refused { code });
    }
}
