//! Ids that follow from other ids, so that deciding twice names the same thing twice.

use uuid::{Builder, Uuid};

/// The id of the one `kind` of thing that belongs to `parent`: its payment, its shipment.
///
/// A UUIDv7 that keeps the parent's timestamp; its random bits are a hash (SHA-1, as in UUIDv5)
/// of parent and kind. A reaction that runs again, on another replica or after a crash, arrives
/// at the same id, so whatever is keyed by it (a charge at the gateway, say) happens once.
pub fn derive_id(parent: Uuid, kind: &str) -> Uuid {
    let hash = Uuid::new_v5(&parent, kind.as_bytes()).into_bytes();
    let mut random = [0; 10];
    random.copy_from_slice(&hash[..10]);
    let [a, b, c, d, e, f, ..] = parent.into_bytes();
    let millis = u64::from_be_bytes([0, 0, a, b, c, d, e, f]);
    Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
}

/// The id of a fact that is told once more in this later version: its id as a UUIDv8, its last bytes marked by the
/// version. It says by itself that the fact is told in an older version as well.
pub fn twin_id(fact: Uuid, version: u16) -> Uuid {
    with(fact, 8, version)
}

/// Whether an event of this id is told in an older version as well.
pub fn is_twin(event_id: Uuid) -> bool {
    event_id.get_version_num() == 8
}

/// What all versions of one fact have in common: the id of the oldest one that was told.
pub fn fact_id(event_id: Uuid, version: u16) -> Uuid {
    if is_twin(event_id) {
        with(event_id, 7, version)
    } else {
        event_id
    }
}

/// The mark is its own reverse.
fn with(id: Uuid, uuid_version: u8, mark: u16) -> Uuid {
    let mut bytes = id.into_bytes();
    bytes[6] = bytes[6] & 0x0f | uuid_version << 4;
    let [high, low] = mark.to_be_bytes();
    bytes[14] ^= high;
    bytes[15] ^= low;
    Uuid::from_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_parent_and_kind_give_the_same_id() {
        let order = Uuid::now_v7();
        assert_eq!(derive_id(order, "payment"), derive_id(order, "payment"));
        assert_ne!(derive_id(order, "payment"), derive_id(order, "shipment"));
        assert_ne!(derive_id(order, "payment"), derive_id(Uuid::now_v7(), "payment"));
    }

    #[test]
    fn a_derived_id_is_a_version_7_id_of_its_parents_time() {
        let order = Uuid::now_v7();
        let derived = derive_id(order, "payment");
        assert_eq!(derived.get_version_num(), 7);
        assert_eq!(derived.as_bytes()[..6], order.as_bytes()[..6]);
    }

    #[test]
    fn every_version_of_a_fact_leads_back_to_it() {
        let fact = Uuid::now_v7();
        let (second, third) = (twin_id(fact, 2), twin_id(fact, 3));
        assert_eq!([fact_id(fact, 1), fact_id(second, 2), fact_id(third, 3)], [fact; 3]);
        assert!(second != fact && third != fact && second != third);
        assert_eq!([fact, second, third].map(is_twin), [false, true, true]);
        assert_eq!(second.get_variant(), uuid::Variant::RFC4122);
    }
}
