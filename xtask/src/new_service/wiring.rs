//! The lines by which this workspace knows a service: three, in two files.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::name::Name;

const TABLE: &str = "xtask/src/shop/service.rs";
const MANIFEST: &str = "xtask/Cargo.toml";
/// Of the sandbox gateway, and of what traces are sent to and seen on.
const OTHERS: [u16; 4] = [8010, 4317, 4318, 16_686];

/// Two files as they will be.
#[derive(Debug)]
pub(super) struct Wiring {
    table: String,
    manifest: String,
    lines: Vec<(&'static str, String)>,
    port: u16,
}

impl Wiring {
    /// Decides on a port and on the lines; changes nothing yet.
    pub(super) fn of(root: &Path, name: &Name, event: &str, wanted: Option<u16>) -> Result<Self> {
        let table = fs::read_to_string(root.join(TABLE))?;
        let port = port(&ports(&table), wanted)?;
        let entry = format!("    {} = {name} on {port},", name.camel());
        let (before, after) = table
            .split_once("\nservices! {\n")
            .and_then(|(_, block)| block.split_once("\n}\n"))
            .map(|(block, after)| (table.len() - after.len() - 3, block))
            .map(|(at, _)| table.split_at(at))
            .with_context(|| format!("{TABLE} has no table of services"))?;
        let doc = format!("    /// Points for every {event}.");

        let manifest = fs::read_to_string(root.join(MANIFEST))?;
        let feature = format!("    \"dep:{name}\",");
        let dependency = format!("{name} = {{ path = \"../services/{name}\", optional = true }}");
        let of_feature = |line: &str| line.starts_with("    \"dep:");
        let of_dependency = |line: &str| line.ends_with("optional = true }");
        let with_feature = insert(&manifest, &feature, of_feature);
        Ok(Self {
            table: format!("{before}\n{doc}\n{entry}{after}"),
            manifest: insert(&with_feature, &dependency, of_dependency),
            lines: vec![
                (TABLE, doc),
                (TABLE, entry),
                (MANIFEST, feature),
                (MANIFEST, dependency),
            ],
            port,
        })
    }

    pub(super) fn write(&self, root: &Path) -> Result<()> {
        fs::write(root.join(TABLE), &self.table)?;
        fs::write(root.join(MANIFEST), &self.manifest)?;
        Ok(())
    }

    /// What is added, and to which file.
    pub(super) fn lines(&self) -> &[(&'static str, String)] {
        &self.lines
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }
}

/// The ports of the table.
fn ports(table: &str) -> Vec<u16> {
    let entries = table
        .lines()
        .filter_map(|line| line.strip_suffix(',')?.rsplit_once(" on "));
    entries.filter_map(|(_, port)| port.parse().ok()).collect()
}

/// The wanted port if nothing else has it, or else the next one.
fn port(taken: &[u16], wanted: Option<u16>) -> Result<u16> {
    let admin = |port: &u16| port + 1_000;
    let all: Vec<u16> = taken
        .iter()
        .copied()
        .chain(taken.iter().map(admin))
        .chain(OTHERS)
        .collect();
    let is_free = |port: &u16| !all.contains(port) && !all.contains(&admin(port));
    let Some(wanted) = wanted else {
        let last = taken.iter().max().copied().unwrap_or(8_000);
        return (last + 1..).take(1_000).find(is_free).context("no port is left");
    };
    ensure!(
        (1_024..=64_535).contains(&wanted),
        "port {wanted} is not between 1024 and 64535; a thousand above it are the operator's endpoints"
    );
    ensure!(
        is_free(&wanted),
        "port {wanted} or {} belongs to somebody else here",
        wanted + 1_000
    );
    Ok(wanted)
}

/// Puts a line in its alphabetical place among those of its kind.
fn insert(text: &str, new: &str, is_one: impl Fn(&str) -> bool) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    let later = lines.iter().position(|line| is_one(line) && *line > new);
    let after_the_last = || {
        lines
            .iter()
            .rposition(|line| is_one(line))
            .map_or(lines.len(), |last| last + 1)
    };
    let at = later.unwrap_or_else(after_the_last);
    lines.insert(at, new);
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::template::Template;
    use super::*;
    use crate::workspace::root;

    #[test]
    fn the_table_and_the_manifest_gain_lines_and_lose_none() {
        let root = root().unwrap();
        let name = Name::choose("gift-cards", &root, &Template::read(&root).unwrap()).unwrap();
        let wiring = Wiring::of(&root, &name, "OrderPlaced", Some(8_123)).unwrap();
        for (path, after) in [(TABLE, &wiring.table), (MANIFEST, &wiring.manifest)] {
            let added: Vec<&str> = wiring
                .lines
                .iter()
                .filter(|(of, _)| *of == path)
                .map(|(_, line)| line.as_str())
                .collect();
            let kept: Vec<&str> = after.lines().filter(|line| !added.contains(line)).collect();
            let before = fs::read_to_string(root.join(path)).unwrap();
            assert_eq!(kept, before.lines().collect::<Vec<_>>());
            assert_eq!(after.lines().count(), before.lines().count() + 2);
        }
        let entry = "\n    /// Points for every OrderPlaced.\n    GiftCards = gift_cards on 8123,\n}\n";
        assert!(wiring.table.contains(entry), "{}", wiring.table);
        let sorted = "    \"dep:futures-util\",\n    \"dep:gift_cards\",\n    \"dep:inventory\",\n";
        assert!(wiring.manifest.contains(sorted), "{}", wiring.manifest);
    }

    #[test]
    fn a_port_is_the_next_one_that_is_free() {
        assert_eq!(port(&[8_001, 8_006], None).unwrap(), 8_007);
        assert_eq!(port(&[8_009], None).unwrap(), 8_011, "8010 is the gateway's");
        assert_eq!(port(&[8_001], Some(8_100)).unwrap(), 8_100);
        for taken in [8_001, 9_001, 7_001, 8_010, 16_686] {
            let refused = port(&[8_001], Some(taken)).unwrap_err().to_string();
            assert!(refused.contains("belongs to somebody else"), "{refused}");
        }
        for outside in [80, 65_000] {
            let refused = port(&[], Some(outside)).unwrap_err().to_string();
            assert!(refused.contains("is not between"), "{refused}");
        }
    }
}
