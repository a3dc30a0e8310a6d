//! What a service may be called.

use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use super::template::Template;

/// Database names end at 63 bytes, tables of ours earlier.
const LONGEST: usize = 24;

/// Words of the language, and names that its compiler gives to crates.
const OF_RUST: &str = " abstract alloc as async await become box break const continue core crate do dyn else enum extern \
    false final fn for gen if impl in let loop macro main match mod move mut override priv proc_macro pub ref return \
    self static std struct super test trait true try type typeof union unsafe unsized use virtual where while yield ";

/// Folders beside the binaries, and binaries of ours that are not named like their package.
const OF_CARGO: &str = " build deps examples hold incremental sandbox_gateway shop ";

/// A name that is free, as packages, folders, tables and durables write it: `gift_cards`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name(String);

impl Name {
    /// Takes what was typed, or says in a sentence why not.
    pub(super) fn choose(typed: &str, root: &Path, template: &Template) -> Result<Self> {
        let name = Self::parse(typed)?;
        let lock = fs::read_to_string(root.join("Cargo.lock")).context("Cargo.lock cannot be read")?;
        for folder in ["services", "migrations"] {
            let folder = format!("{folder}/{name}");
            ensure!(
                !root.join(&folder).exists(),
                "there is a {folder} already, and it stays as it is"
            );
        }
        let packages = lock.lines().filter_map(|line| line.strip_prefix("name = "));
        let taken = packages.map(|package| package.trim_matches('"').replace('-', "_"));
        if taken.into_iter().any(|package| package == name.0) {
            bail!("a package {name} is part of this workspace already, or something here depends on one");
        }
        ensure!(
            !template.uses(&name.0) && !template.uses(&name.camel()),
            "{name} means something in every service already: choose a name that says what this one is for"
        );
        Ok(name)
    }

    fn parse(typed: &str) -> Result<Self> {
        let is_word = |word: &str| {
            let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
            word.starts_with(|first: char| first.is_ascii_lowercase()) && word.bytes().all(legal)
        };
        ensure!(
            typed.split(['_', '-']).all(is_word),
            "{typed:?} cannot name a service: lower-case words of letters and digits can, joined by '_' or '-', \
             such as loyalty or gift_cards"
        );
        ensure!(typed.len() <= LONGEST, "{typed} is longer than {LONGEST} characters");
        let name = typed.replace('-', "_");
        let among = |words: &str| words.contains(&format!(" {name} "));
        ensure!(!among(OF_RUST), "{name} is a word of Rust itself");
        ensure!(
            !among(OF_CARGO),
            "{name} is the name of something beside the binaries of the services"
        );
        Ok(Self(name))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// As types write it: `GiftCards`.
    pub(super) fn camel(&self) -> String {
        let words = self.0.split('_').map(|word| {
            let (first, rest) = word.split_at(1);
            first.to_uppercase() + rest
        });
        words.collect()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::workspace::root;

    fn choose(typed: &str) -> Result<Name, String> {
        let root = root().unwrap();
        let template = Template::read(&root).unwrap();
        Name::choose(typed, &root, &template).map_err(|error| error.to_string())
    }

    #[test]
    fn words_joined_either_way_are_one_name_everywhere() {
        assert_eq!(choose("loyalty").unwrap().camel(), "Loyalty");
        let gift_cards = choose("gift-cards").unwrap();
        assert_eq!(
            (gift_cards.as_str(), gift_cards.camel()),
            ("gift_cards", "GiftCards".into())
        );
        assert_eq!(choose("gift_cards").unwrap(), gift_cards);
    }

    #[test]
    fn a_name_that_cannot_be_is_refused_in_a_sentence() {
        let malformed = [
            "",
            "Loyalty",
            "2fast",
            "gift--cards",
            "-x",
            "x_",
            "gift cards",
            "../x",
            "café",
            "a.b",
        ];
        for typed in malformed {
            let refused = choose(typed).unwrap_err();
            assert!(refused.contains("cannot name a service"), "{typed:?}: {refused}");
        }
        for (typed, reason) in [
            ("match", "a word of Rust"),
            ("test", "a word of Rust"),
            ("shop", "beside the binaries"),
            ("sandbox-gateway", "beside the binaries"),
            ("order", "a services/order already"),
            ("messaging", "a migrations/messaging already"),
            ("events", "a package events"),
            ("tokio", "a package tokio"),
            ("account", "something in every service"),
            ("a_name_that_goes_on_and_on", "longer than"),
        ] {
            let refused = choose(typed).unwrap_err();
            assert!(refused.contains(reason), "{typed}: {refused}");
        }
    }
}
