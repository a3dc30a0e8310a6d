//! The catalogue of events, read off shared/events, and what one of them may contain.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// The sources of the contracts.
pub(super) struct Contract(String);

impl Contract {
    pub(super) fn read(root: &Path) -> Result<Self> {
        let mut files = Vec::new();
        for file in fs::read_dir(root.join("shared/events/src"))? {
            let path = file?.path();
            if path.extension().is_some_and(|ending| ending == "rs") {
                files.push(fs::read_to_string(path)?);
            }
        }
        Ok(Self(files.join("\n")))
    }

    /// Name of every event, and the field that says what it is about.
    fn events(&self) -> Vec<(&str, &str)> {
        let declared = self.0.lines().filter_map(|line| line.strip_prefix("event!("));
        let mut events: Vec<_> = declared
            .filter_map(|line| {
                let mut parts = line.split([',', ')']).map(str::trim);
                Some((parts.next()?, parts.nth(2)?))
            })
            .collect();
        events.sort_unstable();
        events
    }

    /// The fields of an event about `subject`, as lines of a JSON object.
    pub(super) fn sample(&self, event: &str) -> Result<String> {
        let events = self.events();
        let Some((_, subject)) = events.iter().find(|(name, _)| *name == event) else {
            let names: Vec<_> = events.iter().map(|(name, _)| *name).collect();
            bail!("nobody tells {event:?}; there are {}", names.join(", "));
        };
        let mut fields = Vec::new();
        for (field, of) in self.fields(event)? {
            let value = match field == *subject {
                true => "subject".to_owned(),
                false => self.value(of)?,
            };
            fields.push(format!("        \"{field}\": {value}"));
        }
        Ok(fields.join(",\n"))
    }

    /// Something that a field of this type may hold.
    fn value(&self, of: &str) -> Result<String> {
        let value = match of {
            "Uuid" => "\"01940000-0000-7000-8000-000000000001\"",
            "DateTime<Utc>" => "\"2026-01-05T12:00:00Z\"",
            "Currency" => "\"EUR\"",
            "String" => "\"words\"",
            "bool" => "true",
            "i16" | "i32" | "i64" | "u16" | "u32" | "u64" => "1",
            _ if of.starts_with("Option<") => "null",
            _ if of.starts_with("Vec<") => "[]",
            _ => return self.own(of),
        };
        Ok(value.to_owned())
    }

    /// The same for a type that is declared here.
    fn own(&self, of: &str) -> Result<String> {
        if let Some(meant) = self.after(&format!("pub type {of} = ")) {
            return self.value(meant.split(';').next().unwrap_or_default());
        }
        if let Some(inside) = self.after(&format!("pub struct {of}(")) {
            return self.value(inside.split(')').next().unwrap_or_default().trim_start_matches("pub "));
        }
        if let Some(variants) = self.after(&format!("pub enum {of} {{")) {
            let mut words = variants
                .lines()
                .map(str::trim)
                .filter(|line| !line.is_empty() && !line.starts_with(['/', '#']));
            let first = words.next().unwrap_or_default().trim_end_matches(',');
            return Ok(format!("\"{}\"", screaming(first)));
        }
        let mut fields = Vec::new();
        for (field, of) in self.fields(of)? {
            fields.push(format!("\"{field}\": {}", self.value(of)?));
        }
        Ok(format!("{{{}}}", fields.join(", ")))
    }

    /// Name and type of the fields of a struct.
    fn fields(&self, of: &str) -> Result<Vec<(&str, &str)>> {
        let body = self.after(&format!("pub struct {of} {{"));
        let body = body.with_context(|| format!("shared/events declares no {of}"))?;
        let lines = body.lines().take_while(|line| *line != "}");
        let fields = lines.filter_map(|line| line.trim().strip_prefix("pub ")?.trim_end_matches(',').split_once(": "));
        Ok(fields.collect())
    }

    fn after(&self, beginning: &str) -> Option<&str> {
        self.0.split_once(beginning).map(|(_, after)| after)
    }
}

/// As enums of the contracts are written: `OUT_OF_STOCK`.
fn screaming(variant: &str) -> String {
    let mut word = String::new();
    for (at, c) in variant.chars().enumerate() {
        if c.is_uppercase() && at > 0 {
            word.push('_');
        }
        word.extend(c.to_uppercase());
    }
    word
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::workspace::root;

    #[test]
    fn an_event_that_nobody_tells_is_refused_with_those_that_somebody_does() {
        let contract = Contract::read(&root().unwrap()).unwrap();
        let refused = contract.sample("OrderComplete").unwrap_err().to_string();
        assert!(
            refused.starts_with("nobody tells \"OrderComplete\"; there are "),
            "{refused}"
        );
        assert!(
            refused.contains("OrderCompleted, ") && refused.contains("StockLevelChanged"),
            "{refused}"
        );
    }

    #[cfg(feature = "shop")]
    #[test]
    fn the_sample_of_an_event_is_one() {
        fn is<E: events::Event>(contract: &Contract, subject: &str) {
            let name = E::TYPE.name;
            let content = contract
                .sample(name)
                .unwrap()
                .replace("subject", &format!("{subject:?}"));
            let event: E =
                serde_json::from_str(&format!("{{{content}}}")).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(event.subject().to_string(), subject);
        }
        let contract = Contract::read(&root().unwrap()).unwrap();
        let order = "01940000-0000-7000-8000-00000000000a";
        is::<events::OrderPlaced>(&contract, order);
        is::<events::OrderCancelled>(&contract, order);
        is::<events::OrderCompleted>(&contract, order);
        is::<events::InventoryReserved>(&contract, order);
        is::<events::InventoryReleased>(&contract, order);
        is::<events::StockLevelChanged>(&contract, "TEA");
        is::<events::PaymentRefunded>(&contract, order);
        is::<events::ShipmentFailed>(&contract, order);
        is::<events::ReturnReceived>(&contract, order);
        is::<events::NotificationSent>(&contract, order);
    }

    #[cfg(feature = "shop")]
    #[test]
    fn every_event_has_a_sample() {
        let contract = Contract::read(&root().unwrap()).unwrap();
        let events = contract.events();
        assert!(events.len() > 25, "{events:?}");
        for (event, subject) in events {
            assert!(["order_id", "sku"].contains(&subject), "{event} is about {subject:?}");
            let content = contract.sample(event).unwrap().replace("subject", "\"x\"");
            let parsed: Result<serde_json::Value, _> = serde_json::from_str(&format!("{{{content}}}"));
            assert!(parsed.is_ok(), "{event}: {content}");
        }
    }
}
